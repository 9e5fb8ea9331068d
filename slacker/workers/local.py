"""Workers in this process: `DummyWorker` right here, `ThreadWorker` in a pool of threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from .. import wire
from ..arguments import check_count
from ..chain import Chain, capture
from ..errors import DeadlineExceeded, Refused
from ..outcome import Error, Outcome, Value
from ..streaming import streamed
from .base import Worker, delivered, running_loop
from .channel import Asker, Giver
from .inbox import inbox_of
from .pool import Pool

__all__ = ["DummyWorker", "ThreadWorker", "hidden_loop"]


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
        replay = partial(context.run, _capture_pickled if self._pickled else capture, chain)
        return delivered(chain, _with_loop_hidden(replay), 0.0, time.perf_counter() - begun)

    async def stream(self, chain: Chain, chunk_size: int) -> AsyncGenerator[list[Any], None]:
        self.check_open()
        context = contextvars.copy_context()
        outcomes = _stream_pickled(chain, chunk_size) if self._pickled else streamed(chain, chunk_size)
        try:
            while True:
                with hidden_loop():
                    outcome = context.run(next, outcomes, None)
                if outcome is None:
                    return
                yield outcome.unwrap(chain)
        finally:
            with hidden_loop():
                context.run(outcomes.close)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'pickled=True' if self._pickled else ''})"


def _capture_pickled(chain: Chain) -> Outcome:
    try:
        envelope = wire.encode_request([chain])
    except Refused as refused:
        return Error(refused, 0)
    answers = wire.Answers([chain])
    for frame in wire.serve(envelope):
        answers.take(*frame)
    return answers.outcomes()[0]


def _stream_pickled(chain: Chain, chunk_size: int) -> Generator[Value | Error, None, None]:
    try:
        envelope = wire.encode_request([chain], stream=chunk_size)
    except Refused as refused:
        yield Error(refused, 0)
    else:
        arrivals = wire.Arrivals()
        with contextlib.closing(wire.serve(envelope)) as frames:
            for frame in frames:
                outcome = arrivals.take(*frame)
                if outcome is not None:
                    yield outcome


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
        return self._pool.submit(chain, self.replayer(chain))

    async def run(self, chain: Chain) -> Any:
        return await self.submit(chain)

    async def stream(self, chain: Chain, chunk_size: int) -> AsyncGenerator[list[Any], None]:
        asker = Asker()
        giver = Giver(chain, asker.requests, inbox_of(running_loop()), chain.options.timeout)
        job = self._pool.submit(chain, _giving(giver, self.streamer(chunk_size)), limited=False)
        job.add_done_callback(_look_at)  # or it is said that nobody did, when the consumer left before
        try:
            while chunk := await _next_chunk(asker, giver, job, chain):
                yield chunk
        finally:
            asker.close()
            job.cancel()  # if it did not begin, it never will

    async def aclose(self, timeout: float = 10.0) -> None:
        """Take no more calls, and wait for those that were accepted.

        Args:
            timeout: seconds to wait. After that calls still waiting fail with `WorkerClosed`, and a warning on the
                logger ``slacker`` names those still running; their threads are abandoned.
        """
        self._closed = True
        self._pool.close()
        await self._pool.join(timeout)

    def replayer(self, chain: Chain) -> Callable[[Chain], Outcome]:
        """For subclasses: return what a thread shall do with `chain`. Called on the caller's side, for each call."""
        return capture

    def streamer(self, chunk_size: int) -> Callable[[Chain], Generator[Value | Error, None, None]]:
        """For subclasses: as `replayer`, for streams."""
        return partial(streamed, size=chunk_size)

    @staticmethod
    def on_thread_exit() -> None:
        """For subclasses: called in each thread as its last act."""

    def __repr__(self) -> str:
        pool = self._pool
        bound = "" if pool.max_queue is None else f", max_queue={pool.max_queue}"
        return f"{type(self).__name__}(max_workers={pool.max_workers}{bound})"


def _giving(
    giver: Giver, streamer: Callable[[Chain], Generator[Value | Error, None, None]]
) -> Callable[[Chain], Outcome]:
    def give_all(chain: Chain) -> Outcome:
        try:
            giver.give_all(streamer(chain))
        except TimeoutError as error:
            return Error(error, 0)
        return Value(None)

    return give_all


async def _next_chunk(asker: Asker, giver: Giver, job: asyncio.Future[Any], chain: Chain) -> list[Any]:
    """Return the next chunk, or raise why none will come: the work was refused, or is given up."""
    limit = chain.options.timeout
    chunk = asker.ask()
    try:
        await asyncio.wait([chunk, job], timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if chunk.done():
            return chunk.result()
    finally:
        chunk.cancel()  # whatever comes now comes too late, and the inbox says so of a failure
    if job.done() and not isinstance(job.exception(), TimeoutError):
        return job.result() or []
    late = "asked for the next chunk" if job.done() else "made a chunk"
    message = f"{chain.outline()}: nobody {late} for {limit:g} s; the stream is ended"
    raise DeadlineExceeded(message, executed=None if giver.began else False)


def _look_at(job: asyncio.Future[Any]) -> None:
    if not job.cancelled():
        job.exception()


@contextmanager
def hidden_loop() -> Iterator[None]:
    """Let code inside believe that no event loop is running in this thread."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)


def _with_loop_hidden(work: Callable[[], Outcome]) -> Outcome:
    with hidden_loop():
        return work()
