"""What a worker is: one coroutine that takes a chain and returns, or raises, what the chain gives.

A new worker implements `run` and nothing else. It gets plain `Chain` data, never a proxy.
"""

from __future__ import annotations

import abc
import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Self

from ..chain import Chain
from ..errors import Refused, WorkerClosed
from ..outcome import Error, Outcome, type_name

__all__ = [
    "Worker",
    "deadline_of",
    "delivered",
    "log_call",
    "logger",
    "refusal_in",
    "running_loop",
]

logger = logging.getLogger("slacker")

_running: set[asyncio.Task[Any]] = set()
"""Tasks begun by `submit`, each until it ends: the loop itself refers to its tasks only weakly."""


class Worker(abc.ABC):
    """Decides where and how a chain is replayed.

    A worker may be shared between event loops and threads. Whoever made it closes it, with `aclose` or by
    ``async with``; one that is never closed cleans up when it is collected.
    """

    _closed = False

    @abc.abstractmethod
    async def run(self, chain: Chain) -> Any:
        """Replay `chain` and return what it gives.

        Args:
            chain: a root and the steps to take from it.

        Returns:
            What the last step gives, as it is. An exception object that the work *returns* is a result.

        Raises:
            WorkerClosed: the worker was closed; nothing ran.
            RemoteError: the work raised what cannot be raised here (see `RemoteError`).
            Exception: whatever else the work raised, with a note that names the step.

        Cancelling stops waiting; whether it also stops the work is the worker's to say.
        """

    def submit(self, chain: Chain) -> asyncio.Future[Any]:
        """Start `chain` now and return a Future of the running loop for what `run` would return.

        Raises:
            RuntimeError: no event loop is running.
        """
        task = running_loop().create_task(self.run(chain))
        _running.add(task)
        task.add_done_callback(_running.discard)
        return task

    def stream(self, chain: Chain, chunk_size: int) -> AsyncGenerator[list[Any], None]:
        """Return an async generator over what `chain` gives, in lists of at most `chunk_size` items.

        Closing it ends the work. Implement it as an ``async def`` with ``yield``; workers that cannot stream leave it.

        Raises:
            TypeError: at once, if this worker cannot stream.
        """
        raise TypeError(
            f"{self!r} cannot stream {chain.outline()}; ThreadWorker, HttpWorker and Django's workers of threads and "
            "of a server can. Await the recipe, or a slice of it, instead."
        )

    async def aclose(self, timeout: float = 10.0) -> None:
        """Refuse further calls with `WorkerClosed` and release what the worker holds. May be called again.

        Args:
            timeout: seconds to wait for calls that were accepted, by workers that hold some.
        """
        self._closed = True

    def check_atomic(self, alias: str) -> None:
        """Raise ValueError unless this worker can run a chain in one transaction of that database."""
        raise ValueError(
            f"atomic={alias!r} needs a worker that replays in Django, such as DjangoThreadWorker(); {self!r} has none"
        )

    def check_open(self) -> None:
        """Raise `WorkerClosed` if the worker was closed."""
        if self._closed:
            raise WorkerClosed(f"{self!r} is closed: this call did not run. Make a new worker.")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop; without one, raise a RuntimeError that tells how to get one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "No event loop is running, so there is nowhere to bring a result to. From a script, with q the recipe, "
            "tornado.ioloop.IOLoop.current().run_sync(lambda: q), or asyncio.run(slacker.run(q))."
        ) from None


def delivered(chain: Chain, outcome: Outcome, waited: float, ran: float) -> Any:
    """Log a finished call, and return or raise what happened.

    Whoever calls this keeps `outcome` in no variable: a failure's traceback leads there, and it would hold itself.
    """
    log_call(chain, outcome, waited, ran)
    try:
        return outcome.unwrap(chain)
    finally:
        del outcome


def log_call(chain: Chain, outcome: Outcome, waited: float, ran: float) -> None:
    """Write the one DEBUG line of a finished call: outline without argument values, and seconds waited and run."""
    if not logger.isEnabledFor(logging.DEBUG):
        return
    ended = type_name(outcome.exception) if isinstance(outcome, Error) else "ok"
    logger.debug("%s: %s, waited %.6f s, ran %.6f s", chain.outline(), ended, waited, ran)


def refusal_in(outcome: Outcome) -> Refused | None:
    """Return the other side's refusal to run a call, if that is its outcome; one that the work raised is none."""
    error = outcome.exception if isinstance(outcome, Error) else None
    return error if isinstance(error, Refused) and not error.executed else None


def deadline_of(chain: Chain) -> float | None:
    """Return when, by `time.monotonic`, the time of a call that begins now is over; None if it has no limit."""
    timeout = chain.options.timeout
    return None if timeout is None else time.monotonic() + timeout
