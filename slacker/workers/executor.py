"""`ExecutorWorker`: chains through a `concurrent.futures.Executor` that there is already.

Whatever kind it is, only bytes are handed to it, and only bytes come back: those of `slacker.workers.transfer`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from functools import partial
from typing import Any, TypeAlias

from .. import wire
from ..chain import Chain
from ..errors import DeadlineExceeded, SlackerError, TransportError, WorkerClosed
from ..outcome import Error, Outcome, Value, text_of, type_name
from .base import Worker, delivered, logger
from .inbox import Inbox, inbox_of
from .transfer import Frames, decode, encode

__all__ = ["ExecutorWorker", "replay"]

Reply: TypeAlias = tuple[list[tuple[int, int, bytes]], float]
"""The frames, each as kind, answer and payload, and the seconds that making them took."""


def replay(envelope: bytes) -> Reply:
    """Replay what `envelope` holds: the function that an executor is given."""
    begun = time.perf_counter()
    frames = [(int(frame.kind), frame.answer, frame.payload) for frame in wire.serve(envelope)]
    return frames, time.perf_counter() - begun


class ExecutorWorker(Worker):
    """Replays chains in an executor, of threads, processes or anything else: for one that the program has already.

    What goes there and back is pickled, also where the executor's threads are this process's: work means the same on
    any executor, and a result is never an object that another thread goes on changing. For threads of its own take
    `ThreadWorker`, for processes `ProcessWorker`, which loses one call when a process dies: a
    `concurrent.futures.ProcessPoolExecutor` then fails all that it was given, and takes no more.

    May be shared between loops and threads. The executor decides how many calls run at once and how many may wait.
    Cancelling a call that waits means it never runs, if the executor's futures can be cancelled. Cancelling one that
    runs frees the caller; what comes of it is dropped. So it is when the call's timeout passes.

    After a fork an executor that was used before would take calls and never run them: calls raise RuntimeError instead,
    if it was this worker that used it.

    Args:
        executor: which is used, and not owned: whoever made it shuts it down.
        shutdown: shut it down in `aclose`, without waiting for what others have submitted.

    Raises:
        TypeError: `executor` is no `concurrent.futures.Executor`.
    """

    def __init__(self, executor: Executor, *, shutdown: bool = False) -> None:
        if not isinstance(executor, Executor):
            raise TypeError(f"executor must be a concurrent.futures.Executor, got {executor!r}")
        self._executor = executor
        self._shutdown = shutdown
        self._home: int | None = None  # the process in which the first call was made
        self._calls: dict[Future[Reply], Chain] = {}

    async def run(self, chain: Chain) -> Any:
        return delivered(chain, *await self._ask(chain))

    async def aclose(self, timeout: float = 10.0) -> None:
        """Take no more calls, and wait for those that were accepted.

        Args:
            timeout: seconds to wait. After that calls still waiting fail with `WorkerClosed`, and a warning on the
                logger ``slacker`` names those still running, which are left to the executor.
        """
        await super().aclose(timeout)
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while self._calls and loop.time() < end:  # noqa: ASYNC110 (calls of other threads' loops set no event)
            await asyncio.sleep(0.01)
        running = [chain.outline() for submitted, chain in list(self._calls.items()) if not submitted.cancel()]
        if running:
            logger.warning("%r: still running %g s after it was closed: %s", self, timeout, ", ".join(running))
        if self._shutdown:
            self._executor.shutdown(wait=False, cancel_futures=True)

    # --- for subclasses ---------------------------------------------------------------------------------------

    @staticmethod
    def encode(chain: Chain) -> bytes:
        """Return the bytes that are handed over."""
        return encode(chain)

    @staticmethod
    def cancelled() -> SlackerError:
        """Return what becomes of a call whose future was cancelled; by its ``executed``, whether that may have run."""
        return WorkerClosed("the executor was shut down while this call waited in it: it did not run")

    # --- one call ---------------------------------------------------------------------------------------------

    async def _ask(self, chain: Chain) -> tuple[Outcome, float, float]:
        """Return what happened, and for how many seconds the call waited and ran."""
        begun = time.perf_counter()
        try:
            self.check_open()
            envelope = self.encode(chain)
            submitted = self._submit(chain, envelope)
            frames, ran = await self._arrival(chain, submitted)
            return await decode(chain, frames), time.perf_counter() - begun - ran, ran
        except SlackerError as error:
            return Error(error, 0), time.perf_counter() - begun, 0.0

    def _submit(self, chain: Chain, envelope: bytes) -> Future[Reply]:
        if self._home not in (None, os.getpid()):
            raise RuntimeError(
                f"{self!r} was used before this process was forked, and its executor's threads and processes do not "
                "survive that. Fork first, and make or use the executor afterwards."
            )
        self._home = os.getpid()
        try:
            return self._executor.submit(replay, envelope)
        except BrokenExecutor as error:
            message = f"{self!r} is broken: {chain.outline()} did not run: {error}"
            raise TransportError(message, executed=False) from error
        except RuntimeError as error:  # after its shutdown, or the interpreter's
            raise WorkerClosed(f"{self!r} takes no more calls: {chain.outline()} did not run: {error}") from error

    async def _arrival(self, chain: Chain, submitted: Future[Reply]) -> tuple[Frames, float]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        self._calls[submitted] = chain
        # Not to methods: a worker that nobody refers to any more goes, whatever its executor still has to do.
        submitted.add_done_callback(partial(_deliver, inbox_of(loop), future, chain, self._calls, self.cancelled))
        timeout = chain.options.timeout
        timer = timeout and loop.call_later(timeout, _expire, future, chain, submitted, self.cancelled)
        try:
            frames, ran = await future
        except asyncio.CancelledError:
            submitted.cancel()
            raise
        finally:
            if timer:
                timer.cancel()
        return deque(frames), ran

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._executor).__name__})"


def _deliver(
    inbox: Inbox,
    future: asyncio.Future[Reply],
    chain: Chain,
    calls: dict[Future[Reply], Chain],
    cancelled: Callable[[], SlackerError],
    submitted: Future[Reply],
) -> None:
    """Bring what became of `submitted`, in whichever thread that is known, to the loop that awaits it."""
    calls.pop(submitted, None)
    if not (submitted.cancelled() and future.done()):  # as it is when it was cancelled from here
        inbox.deliver(future, chain, _what_happened(submitted, cancelled))


def _expire(
    future: asyncio.Future[Reply], chain: Chain, submitted: Future[Reply], cancelled: Callable[[], SlackerError]
) -> None:
    """Fail a call whose time has passed. If it waits in the executor it never runs."""
    if not future.done():
        late = DeadlineExceeded(f"{chain.outline()} was not done within {chain.options.timeout:g} s", executed=None)
        future.set_exception(late)
        if submitted.cancel():
            late.executed = cancelled().executed


def _what_happened(submitted: Future[Reply], cancelled: Callable[[], SlackerError]) -> Outcome:
    if submitted.cancelled():
        return Error(cancelled(), 0)
    error = submitted.exception()
    if error is None:
        return Value(submitted.result())
    if not isinstance(error, Exception):  # of the work: a KeyboardInterrupt in a process's main thread
        return Error(error, 0)
    what = "broke" if isinstance(error, BrokenExecutor) else "failed"
    lost = TransportError(
        f"the executor {what}; whether this call ran is not known: {type_name(error)}: {text_of(error)}"
    )
    lost.__cause__ = error
    return Error(lost, 0)
