"""The calls that the threads of a pool feed from, and how messages name them."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Iterable
from typing import Any, final

from ..chain import Chain
from ..errors import DeadlineExceeded
from ..outcome import Outcome
from .inbox import Inbox

__all__ = ["Job", "outlines"]


@final
class Job:
    """One call on its way: what to run, in which context, and where the outcome is awaited."""

    __slots__ = ("began", "chain", "context", "future", "inbox", "limit", "replay", "submitted")

    def __init__(
        self,
        chain: Chain,
        replay: Callable[[Chain], Outcome],
        future: asyncio.Future[Any],
        inbox: Inbox,
        limit: float | None,
    ) -> None:
        self.chain = chain
        self.replay = replay
        self.future = future
        self.inbox = inbox
        self.limit = limit
        self.context = contextvars.copy_context()
        self.submitted = time.perf_counter()
        self.began = False

    @property
    def is_late(self) -> bool:
        return self.limit is not None and time.perf_counter() - self.submitted >= self.limit

    def too_late(self) -> DeadlineExceeded:
        """Return the error of a job whose time has passed."""
        message = f"{self.chain.outline()} was not done within {self.limit:g} s; it "
        message += "goes on where it runs" if self.began else "did not run"
        return DeadlineExceeded(message, executed=None if self.began else False)


def outlines(jobs: Iterable[Job], most: int = 10) -> str:
    """Return the outlines of `jobs`, at most `most` of them, for a message."""
    named = [job.chain.outline() for job in jobs]
    return ", ".join(named[:most]) + (f" and {len(named) - most} more" if len(named) > most else "")
