"""What keeps a process of runslacker from outliving its command; `test_runslacker` sees it at work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from slacker.django_backend import lifeline
from tests.waiting import LIVENESS, until

from .helpers import ROOT, is_running
from .project import work


def test_it_loads_what_is_named() -> None:
    """It gives granian the object that module and name stand for; in a process without a parent it watches nothing."""
    before = threading.enumerate()
    assert lifeline.load("tests.servers.project.work:echo") is work.echo
    assert threading.enumerate() == before


PARENT = """
import multiprocessing, sys, threading
from tests.servers.test_lifeline import refuse_to_stop

multiprocessing.get_context("spawn").Process(target=refuse_to_stop, args=sys.argv[1:]).start()
threading.Event().wait()
"""


def refuse_to_stop(file: str) -> None:
    """Be such a process; write its id into `file`."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    lifeline.GRACE = 0
    lifeline.load("os:getpid")
    Path(file).write_text(str(os.getpid()))
    threading.Event().wait(2 * LIVENESS)  # and not for ever, should the test fail


def test_a_process_that_does_not_stop(tmp_path: Path) -> None:
    """When its parent was killed a process gets SIGTERM; one that is there still some time later is ended."""
    file = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(file)], cwd=ROOT)
    until(lambda: file.exists() and file.read_text())
    orphan = int(file.read_text())
    assert is_running(orphan)
    parent.kill()
    parent.wait()
    until(lambda: not is_running(orphan))
