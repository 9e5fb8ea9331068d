"""Workers in this process: `DummyWorker` right here, `ThreadWorker` in a pool of threads."""

from __future__ import annotations

import asyncio
import contextvars
import os
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .. import wire
from ..chain import Chain
from ..errors import Refused
from ..outcome import Error, Outcome, capture
from .base import Worker, log_call
from .pool import Pool

__all__ = ["DummyWorker", "ThreadWorker", "check_count", "hidden_loop"]


class DummyWorker(Worker):
    """Replays chains right here, blocking the loop: for tests, for debugging, and for comparison.

    The running loop is hidden from the work meanwhile, so that what refuses to run inside one, Django's ORM for
    example, runs. As on other workers, the work sees a copy of the caller's context variables.

    Args:
        pickled: let chain and result pass through the wire format, as on workers that leave the process, which shows
            what cannot be sent to them.
    """

    def __init__(self, *, pickled: bool = False) -> None:
        self._pickled = pickled

    async def run(self, chain: Chain) -> Any:
        self.check_open()
        begun = time.perf_counter()
        context = contextvars.copy_context()
        with hidden_loop():
            outcome = context.run(_capture_pickled if self._pickled else capture, chain)
        log_call(chain, outcome, 0.0, time.perf_counter() - begun)
        try:
            return outcome.unwrap(chain)
        finally:
            del outcome  # a failure's traceback leads to this frame: it would hold itself

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'pickled=True' if self._pickled else ''})"


def _capture_pickled(chain: Chain) -> Outcome:
    try:
        envelope = wire.encode_request([chain])
    except Refused as refused:
        return Error(refused, 0)
    answers = wire.Answers(1)
    for frame in wire.serve(envelope):
        answers.take(frame.kind, frame.chain, frame.payload)
    return answers.outcomes()[0]


class ThreadWorker(Worker):
    """Replays chains in a pool of threads: for blocking I/O.

    Unlike `asyncio.to_thread` it wakes the loop once for many results, bounds what waits, and survives whatever the
    work raises. Threads are started when there is work for them and end after a minute without any.

    May be shared between loops and threads; begins afresh after a fork. Cancelling a call that waits means it never
    runs. Cancelling one that runs frees the caller at once; the thread goes on to the end, the result is dropped,
    an exception logged. An interpreter that exits waits for nothing and warns of what it dropped.

    Args:
        max_workers: most threads at once. By default cores + 4, at most 32, as in `concurrent.futures`: blocking
            calls mostly wait, so a few more than cores; beyond 32 they mostly wait for one another.
        thread_name_prefix: of the threads' names.
        max_queue: most calls that may wait while all threads are busy; one more raises `QueueFull`. None, the
            default, sets no bound: whoever makes the calls bounds them, as a server does by its connections.

    Raises:
        TypeError, ValueError: an argument is no whole number, or too small.
    """

    def __init__(
        self, max_workers: int | None = None, *, thread_name_prefix: str = "slacker", max_queue: int | None = None
    ) -> None:
        if max_workers is None:
            max_workers = min(32, (os.cpu_count() or 1) + 4)
        check_count("max_workers", max_workers, least=1)
        if max_queue is not None:
            check_count("max_queue", max_queue, least=0)
        self._pool = Pool(max_workers, max_queue, thread_name_prefix, self.on_thread_exit)
        weakref.finalize(self, self._pool.close).atexit = False  # at exit the pool looks after itself

    def submit(self, chain: Chain) -> asyncio.Future[Any]:
        return self._pool.submit(chain, self.replayer())

    async def run(self, chain: Chain) -> Any:
        return await self.submit(chain)

    async def aclose(self, timeout: float = 10.0) -> None:
        """Take no more calls, and wait for those that were accepted.

        Args:
            timeout: seconds to wait. After that calls still waiting fail with `WorkerClosed`, and a warning on the
                logger ``slacker`` names those still running; their threads are abandoned.
        """
        self._closed = True
        self._pool.close()
        await self._pool.join(timeout)

    def replayer(self) -> Callable[[Chain], Outcome]:
        """For subclasses: return what a thread shall do with a chain. Called on the caller's side, for each call."""
        return capture

    @staticmethod
    def on_thread_exit() -> None:
        """For subclasses: called in each thread as its last act."""

    def __repr__(self) -> str:
        pool = self._pool
        bound = "" if pool.max_queue is None else f", max_queue={pool.max_queue}"
        return f"{type(self).__name__}(max_workers={pool.max_workers}{bound})"


@contextmanager
def hidden_loop() -> Iterator[None]:
    """Let code inside believe that no event loop is running in this thread."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)


def check_count(name: str, value: object, least: int) -> None:
    """Raise TypeError or ValueError unless `value`, the argument `name`, is a whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
