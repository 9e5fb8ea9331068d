"""One call on its way, as worker, line and sender see it, and what a sender is to a line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, final

from ...chain import Chain
from ...outcome import Outcome
from ...wire import EncodedCall
from .endpoint import Endpoint

__all__ = ["CLOSED", "LATE", "PendingCall", "Reply", "Send", "Stopped"]

LATE, CLOSED = "late", "closed"
"""Why a call was stopped."""

Reply: TypeAlias = list[Outcome] | Callable[[], Awaitable[list[Outcome]]]
"""What happened to each call; or decodes what has arrived, which may take a while, and returns that."""

Send: TypeAlias = Callable[[Sequence["PendingCall"]], Awaitable[Reply]]
"""Sends calls in one request, and returns when the answer has arrived."""


class Stopped(Exception):
    """A call was stopped; why, and whether it had been sent, stands in its `PendingCall`."""


@final
class PendingCall:
    """One call: what is sent, when it was sent, how long it may take, and why it was stopped. All times are the loop's.

    Args:
        chain: what is called.
        encoded: the same, to be sent.
        group: where it goes, and the options of its request, encoded; calls that have both in common may share it.
            None for a stream, which is sent by itself.
        room: bytes that it may have, all in all.
        begun: when it was made.
        deadline: when it must have been answered.
    """

    __slots__ = (
        "begun",
        "cancels",
        "chain",
        "deadline",
        "encoded",
        "future",
        "group",
        "room",
        "sent",
        "stopped",
        "task",
    )

    def __init__(
        self,
        chain: Chain,
        encoded: EncodedCall,
        group: tuple[Endpoint, str] | None,
        room: int,
        begun: float,
        deadline: float,
    ) -> None:
        self.chain = chain
        self.encoded = encoded
        self.group = group
        self.room = room
        self.begun = begun
        self.deadline = deadline
        self.sent: float | None = None
        self.stopped = ""
        task = asyncio.current_task()
        assert task is not None
        self.task: asyncio.Task[Any] = task
        self.cancels = task.cancelling()
        self.future: asyncio.Future[Outcome] | None = None  # if it had to wait, for its outcome

    def stop(self, why: str) -> None:
        """Let whoever awaits it have `Stopped`."""
        if self.stopped:
            return
        self.stopped = why
        if self.future is None:
            self.task.cancel()
        elif not self.future.done():
            self.future.set_exception(Stopped())

    def done(self) -> None:
        """Let go of task and Future, which hold what came of them: a failure's traceback leads here."""
        del self.task
        self.future = None
