"""What can go wrong besides the work itself: one base class, children by cause.

An exception raised by the work comes back as itself. What stands here is raised by slacker: nothing ran
(`WorkerClosed`, `QueueFull`), nobody knows (`TransportError`), or the answer could not be brought back as it was
(`RemoteError`). This module imports nothing of slacker; everything else may import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import EllipsisType
from typing import Any

__all__ = [
    "DeadlineExceeded",
    "ProtocolError",
    "QueueFull",
    "Refused",
    "RemoteError",
    "SlackerError",
    "SlackerException",
    "TransportError",
    "WorkerClosed",
]


class SlackerError(Exception):
    """Base of everything that slacker raises on its own account.

    Args:
        message: for people.
        executed: see below; left out, it is what the class says.

    Attributes:
        executed: True when the work ran, False when it certainly did not (so it may be sent again), None when that is
            not known.
    """

    executed: bool | None = None

    def __init__(self, message: str = "", *, executed: bool | EllipsisType | None = ...) -> None:
        super().__init__(message)
        if executed is not ...:
            self.executed = executed


class WorkerClosed(SlackerError):
    """The worker was closed before the call could start; it never ran."""

    executed = False


class QueueFull(SlackerError):
    """As many calls as the worker was told to hold (`max_queue`) are waiting already; this one never ran."""

    executed = False


class DeadlineExceeded(SlackerError, TimeoutError):
    """The call's own time limit passed. (A TimeoutError that the work raised is never turned into this.)"""


class TransportError(SlackerError):
    """The other side could not be reached, it died, or what answered was not slacker.

    Attributes:
        status: the HTTP status of the answer, None when there was none.
    """

    def __init__(
        self, message: str = "", *, status: int | None = None, executed: bool | EllipsisType | None = ...
    ) -> None:
        super().__init__(message, executed=executed)
        self.status = status


class ProtocolError(SlackerError):
    """The other side answered with bytes that the wire format does not allow."""


class Refused(SlackerError):
    """The other side understood the call and declined to run it.

    Attributes:
        reason: a short fixed word for programs, such as ``"duplicate"``; the message is for people.
        details: facts that go with the reason, such as the other side's time with ``"clock-skew"``.
    """

    executed = False

    def __init__(
        self,
        message: str = "",
        *,
        reason: str = "",
        executed: bool | EllipsisType | None = ...,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, executed=executed)
        self.reason = reason
        self.details = dict(details or {})


class RemoteError(SlackerError):
    """The work raised something that cannot be raised here as it is.

    Two kinds arrive so: exceptions that do not survive the way back, and those that mean something to whoever runs the
    loop (StopIteration, SystemExit, CancelledError and the like). In the same process the original is the
    ``__cause__``.

    Attributes:
        type_name: qualified name of the original class, such as ``"SystemExit"`` or ``"shop.errors.OutOfStock"``.
        message: the original's ``str()``.
    """

    executed = True

    def __init__(self, type_name: str = "", message: str = "", *, executed: bool | EllipsisType | None = ...) -> None:
        super().__init__(executed=executed)
        self.args = (type_name, message)
        self.type_name = type_name
        self.message = message

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.message else self.type_name


SlackerException = SlackerError
"""The base class under its 2011 name."""
