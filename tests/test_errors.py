"""The errors that slacker raises on its own account: the tree, what they carry, and that nothing of it gets lost."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from slacker import errors
from slacker.errors import (
    DeadlineExceeded,
    ProtocolError,
    QueueFull,
    Refused,
    RemoteError,
    SlackerError,
    SlackerException,
    TransportError,
    WorkerClosed,
)

EXECUTED = {
    SlackerError: None,
    WorkerClosed: False,
    QueueFull: False,
    DeadlineExceeded: None,
    TransportError: None,
    ProtocolError: None,
    Refused: False,
    RemoteError: True,
}
"""Every class, and whether the work ran if nobody says otherwise."""

EXAMPLES = [
    SlackerError("text"),
    WorkerClosed("text"),
    QueueFull("text"),
    DeadlineExceeded("text"),
    TransportError("text", status=502),
    ProtocolError("text"),
    Refused("text", reason="duplicate"),
    RemoteError("shop.OutOfStock", "text"),
]

every_class = pytest.mark.parametrize("kind", EXECUTED, ids=lambda kind: kind.__name__)
every_example = pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)


def carried(error: SlackerError) -> tuple[Any, ...]:
    return type(error), error.args, str(error), error.executed, vars(error)


def test_every_class_is_here() -> None:
    """These tests know every class that the module exports."""
    assert {getattr(errors, name) for name in errors.__all__} == set(EXECUTED)


def test_name_of_2011() -> None:
    """`SlackerException` is `SlackerError` itself, so `except` clauses of 2011 catch all."""
    assert SlackerException is SlackerError


@every_class
def test_one_base(kind: type[SlackerError]) -> None:
    """Every class is a SlackerError."""
    assert issubclass(kind, SlackerError)


def test_deadline_is_a_timeout() -> None:
    """`except TimeoutError` catches DeadlineExceeded."""
    assert issubclass(DeadlineExceeded, TimeoutError)


@every_class
def test_executed_by_default(kind: type[SlackerError]) -> None:
    """Unless told, an error says of the work what its class implies."""
    assert kind().executed is EXECUTED[kind]


@every_class
@pytest.mark.parametrize("executed", [True, False, None])
def test_executed_as_told(kind: type[SlackerError], executed: bool | None) -> None:
    """Whoever raises an error may know better than its class; None, not known, is also knowledge."""
    assert kind(executed=executed).executed is executed


def test_no_status_by_default() -> None:
    """A TransportError without an answer has no status."""
    assert TransportError("refused").status is None


def test_status() -> None:
    """A TransportError carries the HTTP status of the answer."""
    assert TransportError("bad gateway", status=502).status == 502


def test_reason() -> None:
    """A Refused carries the word for programs beside the text for people."""
    error = Refused("seen before", reason="duplicate")
    assert (error.reason, str(error)) == ("duplicate", "seen before")


def test_remote_error_names_the_original() -> None:
    """A RemoteError carries the original's class name and text."""
    error = RemoteError("shop.OutOfStock", "none left")
    assert (error.type_name, error.message) == ("shop.OutOfStock", "none left")


@pytest.mark.parametrize(("message", "text"), [("none left", "OutOfStock: none left"), ("", "OutOfStock")])
def test_remote_error_reads_like_a_traceback(message: str, text: str) -> None:
    """A RemoteError reads like the last line of the original's traceback."""
    assert str(RemoteError("OutOfStock", message)) == text


@every_example
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_survives_pickling(error: SlackerError, protocol: int) -> None:
    """What an error carries crosses a process border unharmed."""
    assert carried(pickle.loads(pickle.dumps(error, protocol))) == carried(error)


@every_class
@pytest.mark.parametrize("executed", [True, False, None])
def test_executed_survives_pickling(kind: type[SlackerError], executed: bool | None) -> None:
    """Whether the work ran crosses a process border, whatever the class implies."""
    assert pickle.loads(pickle.dumps(kind(executed=executed))).executed is executed
