"""For the tests of projects that use slacker: see "Testing your code" in the README.

Django's TestCase hides its rows from other threads, so work must come to the test: `InlineWorker` makes it. A
TransactionTestCase shows them, so work may stay in the threads of `DjangoThreadWorker`. Close that in ``tearDown``,
``asyncio.run(DjangoThreadWorker().aclose())``: PostgreSQL drops no test database that a thread is connected to.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from asgiref.sync import AsyncToSync, sync_to_async

from ..chain import Chain
from ..outcome import Outcome
from ..workers.base import Worker, log_call
from ..workers.local import hidden_loop
from .scope import Caller, perform, require_setup

__all__ = ["InlineWorker"]


class InlineWorker(Worker):
    """Replays chains on the test's own thread and database connection, so that a TestCase's transaction holds them.

    Inside Django's ``async def`` tests the loop runs in another thread than the test case; work goes to the test's
    thread as `sync_to_async` would take it. Elsewhere, in a Tornado test case for example, it runs in place, with the
    running loop hidden.

    Put the whole suite on it with ``SLACKER_WORKER = "slacker.django_backend.testing.InlineWorker"`` in the settings.
    """

    async def run(self, chain: Chain) -> Any:
        self.check_open()
        require_setup()
        begun = time.perf_counter()
        work = partial(_run_in_copied_context, partial(perform, chain, Caller.current(), own_thread=False))
        if asyncio.get_running_loop() in AsyncToSync.loop_thread_executors:  # in a thread that async_to_sync began
            outcome = await sync_to_async(work, thread_sensitive=True)()
        else:
            with hidden_loop():
                outcome = work()
        log_call(chain, outcome, 0.0, time.perf_counter() - begun)
        return outcome.unwrap(chain)

    def __repr__(self) -> str:
        return "InlineWorker()"


def _run_in_copied_context(work: Callable[[], Outcome]) -> Outcome:
    # Copied where the work runs: sync_to_async would bring back whatever the work sets, a language for example.
    return contextvars.copy_context().run(work)
