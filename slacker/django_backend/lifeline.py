"""A process of ``manage.py runslacker`` ends with the command that started it.

The command stops its processes when it ends. Where it is killed it cannot, and they would serve on with the port in
their hands, so that it could not be started again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from django.utils.module_loading import import_string

__all__ = ["GRACE", "load"]

GRACE = 30
"""Seconds for what has begun when the command is gone; as many as the command gives when it stops."""


def load(target: str) -> Callable[..., Any]:
    """Return the application at `target`, ``package.module:name``; from now on this process ends with its parent.

    granian calls it in each process that it starts, the first ones as well as those that replace others. Where it
    has no processes, as on a free-threaded Python, there is nothing to watch.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), name="slacker-lifeline", daemon=True).start()
    application: Callable[..., Any] = import_string(target.replace(":", "."))
    return application


def _end_with(parent: BaseProcess) -> None:
    # It waits for the end of a pipe that the system closes whatever the parent dies of, now or before this line. The
    # kernel's own PR_SET_PDEATHSIG is Linux only, and is sent when the parent's thread ends that started this process.
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # lets go of the port, and finishes what has begun
    time.sleep(GRACE)
    os._exit(1)
