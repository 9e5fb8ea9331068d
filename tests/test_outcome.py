"""Outcomes: whatever the work does comes back as data, and is raised again only on the caller's side."""

from __future__ import annotations

import asyncio
import builtins
import gc
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from slacker.chain import Attr, Call, Chain, Item, Replay, capture
from slacker.errors import RemoteError, SlackerError
from slacker.outcome import Error, Outcome, Value, type_name


class Abort(BaseException):
    """Somebody's own, no Exception."""


class Leave(SlackerError, SystemExit):
    """An Exception, and yet one that would end the process."""


class Refusal(Exception):
    """An ordinary exception that can be referred to weakly."""


@dataclass(frozen=True)
class FrozenRefusal(Exception):
    """An exception that takes no note."""

    code: int


class Unreadable(BaseException):
    def __str__(self) -> str:
        raise ValueError("no text")


WITHOUT_MODULE = type("Nowhere", (BaseException,), {"__module__": None})

NOT_FOR_A_LOOP = [
    BaseException("text"),
    BaseExceptionGroup("text", [Abort()]),
    GeneratorExit("text"),
    KeyboardInterrupt("text"),
    SystemExit("text"),
    StopIteration("text"),
    StopAsyncIteration("text"),
    asyncio.CancelledError("text"),
    Abort("text"),
    Leave("text"),
]
"""One of each class that means something to a loop or a thread, and so is not raised there."""

ORDINARY = [
    Exception("text"),
    ValueError("text"),
    KeyError("key"),
    OSError(2, "text"),
    TimeoutError("text"),
    ExceptionGroup("text", [ValueError()]),
    SlackerError("text"),
    Refusal("text"),
    FrozenRefusal(1),
]

every_not_for_a_loop = pytest.mark.parametrize("error", NOT_FOR_A_LOOP, ids=type_name)
every_ordinary = pytest.mark.parametrize("error", ORDINARY, ids=type_name)


def raising(error: BaseException) -> Chain:
    def work() -> None:
        raise error

    return Chain(work, (Call((), {}),))


def captured(chain: Chain) -> Outcome:
    """Return the outcome of `chain` in another thread, as in a pool."""
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(capture(chain)))
    thread.start()
    thread.join()
    return outcomes[0]


def arrived(error: BaseException) -> Exception:
    chain = raising(error)
    outcome = captured(chain)
    assert isinstance(outcome, Error)
    return outcome.arrive(chain)


# --- capturing -------------------------------------------------------------------------------------------------------


def test_value() -> None:
    """Work that returns gives a Value of what it returns."""
    assert capture(Chain(len, (Call(("abc",), {}),))) == Value(3)


@pytest.mark.parametrize("result", [ValueError("a result"), SystemExit(), RemoteError()], ids=type_name)
def test_returned_exception_is_a_value(result: BaseException) -> None:
    """An exception object that the work returns is a result."""
    chain = Chain([result], (Item(0),))
    assert capture(chain).unwrap(chain) is result


@pytest.mark.parametrize("error", [*NOT_FOR_A_LOOP, *ORDINARY], ids=type_name)
def test_error(error: BaseException) -> None:
    """Whatever the work raises in a thread, that thread goes on, with the exception as data."""
    outcome = captured(raising(error))
    assert outcome == Error(error, 1)


def test_all_of_python_is_here() -> None:
    """These tests know every exception of Python's that is no Exception."""
    special = {
        kind
        for kind in vars(builtins).values()
        if isinstance(kind, type) and issubclass(kind, BaseException) and not issubclass(kind, Exception)
    }
    assert special <= {type(error) for error in NOT_FOR_A_LOOP}


@pytest.mark.parametrize(
    ("steps", "step"),
    [((Attr("upper"), Attr("lost")), 2), ((Attr("upper"), Call((), {}), Item(9), Item(0)), 3), ((Call((), {}),), 1)],
)
def test_error_knows_its_step(steps: tuple[Any, ...], step: int) -> None:
    """An Error tells which step failed."""
    outcome = capture(Chain("text", steps))
    assert isinstance(outcome, Error)
    assert outcome.step == step


def test_within() -> None:
    """What surrounds the work decides what the result is."""
    assert capture(Chain("text", (Attr("upper"), Call((), {}))), lambda replay: [replay.run()]) == Value(["TEXT"])


def test_failure_before_the_work() -> None:
    """What fails around the work, before its first step, is step 0."""

    def fail(replay: Replay) -> None:
        raise Refusal

    outcome = capture(Chain("text", (Attr("upper"),)), fail)
    assert isinstance(outcome, Error)
    assert outcome.step == 0


def test_keyboard_interrupt_in_the_main_thread() -> None:
    """In the main thread a KeyboardInterrupt is the user's and not the work's: it passes."""
    with pytest.raises(KeyboardInterrupt):
        capture(raising(KeyboardInterrupt()))


# --- arriving --------------------------------------------------------------------------------------------------------


@every_ordinary
def test_exceptions_arrive_as_themselves(error: Exception) -> None:
    """An Exception arrives as the object that the work raised."""
    assert arrived(error) is error


@every_not_for_a_loop
def test_others_arrive_as_remote_error(error: BaseException) -> None:
    """What would stop a loop, a task or a generator arrives as RemoteError."""
    assert type(arrived(error)) is RemoteError


@every_not_for_a_loop
def test_remote_error_tells_what_it_was(error: BaseException) -> None:
    """Such a RemoteError has the original's name and text, and the original itself as its cause."""
    remote: Any = arrived(error)
    assert (remote.type_name, remote.message, remote.__cause__) == (type_name(error), str(error), error)


def test_unreadable() -> None:
    """An exception whose str() raises arrives all the same and says so."""
    remote: Any = arrived(Unreadable())
    assert remote.message == "<str() of it raised ValueError>"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ValueError(), "ValueError"),
        (asyncio.CancelledError(), "asyncio.exceptions.CancelledError"),
        (Abort(), f"{__name__}.Abort"),
        (WITHOUT_MODULE(), "Nowhere"),
    ],
    ids=["builtin", "stdlib", "own", "no module"],
)
def test_type_name(error: BaseException, name: str) -> None:
    """A class goes by its qualified name, without a module where there is none worth a word."""
    assert type_name(error) == name


def test_unwrap_raises_what_arrives() -> None:
    """To unwrap an Error raises the exception."""
    error, chain = Refusal(), raising(Refusal())
    with pytest.raises(Refusal) as caught:
        Error(error, 1).unwrap(chain)
    assert caught.value is error


# --- notes -----------------------------------------------------------------------------------------------------------


def notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


@pytest.mark.parametrize("error", [Refusal(), SystemExit()], ids=type_name)
def test_note(error: BaseException) -> None:
    """A note on the exception names the step that failed, without any value of an argument."""

    def reject(password: str) -> None:
        raise error

    chain = Chain([reject], (Item(0), Call(("hunter2",), {})))
    outcome = captured(chain)
    assert isinstance(outcome, Error)
    assert notes(outcome.arrive(chain)) == ["slacker: at step 2, (...), of list(...)[...](...)"]


def test_note_names_the_attribute_called() -> None:
    """A call that failed is named by the attribute that was called."""
    chain = Chain("text", (Attr("index"), Call(("z",), {})))
    with pytest.raises(ValueError, match="substring not found") as caught:
        capture(chain).unwrap(chain)
    assert notes(caught.value) == ["slacker: at step 2, .index, of str(...).index(...)"]


def test_no_note_before_the_work() -> None:
    """What failed before the first step has no step to name."""
    assert notes(Error(Refusal(), 0).arrive(raising(Refusal()))) == []


def test_one_note() -> None:
    """An exception that is raised again and again, or passes through several runs, keeps its first note only."""
    error = Refusal()
    assert [len(notes(arrived(error))) for _ in range(3)] == [1, 1, 1]


def test_other_notes_stay() -> None:
    """The notes that the work made stay."""
    error = Refusal()
    error.add_note("by the work")
    assert [note[:18] for note in notes(arrived(error))] == ["by the work", "slacker: at step 1"]


def test_no_note_where_it_cannot_be() -> None:
    """An exception that takes no attributes arrives without a note."""
    assert notes(arrived(FrozenRefusal(1))) == []


# --- what an exception keeps alive -----------------------------------------------------------------------------------


@contextmanager
def no_collector() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", [Refusal, Abort])
def test_exceptions_die_when_released(kind: type[BaseException]) -> None:
    """Nothing on the way makes a cycle of an exception and its traceback: it dies with its last user."""

    def work() -> None:
        raise kind

    chain = Chain(work, (Call((), {}),))
    with no_collector():
        try:
            capture(chain).unwrap(chain)
        except (Refusal, RemoteError) as error:
            alive = weakref.ref(error)
        assert alive() is None


def test_tracebacks_do_not_grow() -> None:
    """The traceback of a module's constant does not get longer with each raise, for ever."""
    chain = raising(constant := Refusal())
    lengths = []
    for _ in range(100):
        with pytest.raises(Refusal):
            capture(chain).unwrap(chain)
        lengths.append(len(traceback.extract_tb(constant.__traceback__)))
    assert lengths[99] == lengths[20]


def test_work_inside_work_keeps_its_traceback() -> None:
    """A traceback through several runs inside one another still leads to where it began."""

    def innermost() -> None:
        raise Refusal

    def around(work: Callable[[], object]) -> Callable[[], object]:
        chain = Chain(work, (Call((), {}),))
        return lambda: capture(chain).unwrap(chain)

    with pytest.raises(Refusal) as caught:
        around(around(around(innermost)))()
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "innermost"


def test_a_class_that_ends_what_adds_a_note() -> None:
    """What add_note() of an exception's class raises ends nothing: the exception arrives without a note."""

    class Odd(Exception):
        def add_note(self, note: str) -> None:
            raise SystemExit(note)

    error = Odd()
    assert Error(error, 1).arrive(Chain(len, (Attr("name"),))) is error
