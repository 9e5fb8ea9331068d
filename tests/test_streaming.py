"""`slacker.streaming`: the work of a stream, without a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from slacker import Slacker, chain_of
from slacker.chain import Replay
from slacker.outcome import Error, Value
from slacker.streaming import streamed


def numbers(until: int, *, fail: bool = False, fail_closing: bool = False) -> Iterator[int]:
    try:
        yield from range(until)
        if fail:
            raise ValueError("making one")
    finally:
        if fail_closing:
            raise OSError("closing")


def outcomes_of(recipe: Any, size: int = 2, **surround: Any) -> Any:
    return streamed(chain_of(recipe), size, **surround)


@pytest.mark.parametrize(("until", "chunks"), [(0, []), (1, [[0]]), (2, [[0, 1]]), (3, [[0, 1], [2]])])
def test_a_failure_comes_last(until: int, chunks: list[list[int]]) -> None:
    """Items that were made before making one failed come before the failure, also if they fill no chunk."""
    *values, last = outcomes_of(Slacker(numbers)(until, fail=True))

    assert values == [Value(chunk) for chunk in chunks]
    assert isinstance(last, Error)
    assert (str(last.exception), last.step) == ("making one", 1)


def test_a_failure_on_the_way_out() -> None:
    """What the surroundings make of a failure is the failure that arrives."""

    def surround(stack: ExitStack, replay: Replay) -> None:
        stack.push(tell)

    def tell(kind: object, error: object, traceback: object) -> None:
        raise OSError("leaving") from (error if isinstance(error, ValueError) else None)

    *_, last = outcomes_of(Slacker(numbers)(1, fail=True), surround=surround)

    assert isinstance(last.exception, OSError)
    assert str(last.exception.__cause__) == "making one"


def test_a_failure_at_the_end() -> None:
    """What leaving the surroundings raises, a commit for example, is a failure after all items."""

    def surround(stack: ExitStack, replay: Replay) -> None:
        stack.callback(fail)

    def fail() -> None:
        raise OSError("committing")

    values, last = outcomes_of(Slacker(numbers)(2), surround=surround)

    assert (values, str(last.exception)) == (Value([0, 1]), "committing")


def test_a_failure_after_it_was_left(caplog: pytest.LogCaptureFixture) -> None:
    """What leaving raises when nobody listens any more is logged, whichever part of it does."""

    def surround(stack: ExitStack, replay: Replay) -> None:
        stack.callback(fail)

    def fail() -> None:
        raise OSError("rolling back")

    outcomes = outcomes_of(Slacker(numbers)(9, fail_closing=True), surround=surround)
    next(outcomes)
    outcomes.close()

    assert caplog.messages == ["numbers(...): what a stream leaves at its end failed"] * 2
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["closing", "rolling back"]


def test_closing_what_did_not_begin() -> None:
    """Closing a stream that was not begun does nothing."""
    outcomes_of(Slacker(numbers)(9)).close()
