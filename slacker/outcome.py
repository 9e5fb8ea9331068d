"""What happened to a chain, as data: it crosses threads and processes in place of a raised exception.

Raising across a border loses things. A StopIteration raised in an executor's thread never completes the await
(CPython 3.11 and 3.12), a SystemExit ends the thread. So work is run by `capture`, which returns, and only `unwrap`
or `arrive`, on the caller's side, make an exception of it again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from .chain import Chain, Replay
from .errors import RemoteError

__all__ = ["Error", "Outcome", "Value", "capture", "text_of", "type_name"]

_NOTE = "slacker: at step "

_NOT_FOR_A_LOOP = (StopIteration, StopAsyncIteration, GeneratorExit, KeyboardInterrupt, SystemExit)

_RUNS_IN_TRACEBACK = 8
"""How many runs one traceback may show: more than work that runs work that runs work will ever need."""


@final
@dataclass(frozen=True, slots=True, init=False)
class Value:
    """The work returned `value`, which may well be an exception object."""

    value: Any

    def __init__(self, value: Any) -> None:
        _set_value(self, value)  # in half the time of the constructor that the dataclass would have

    def unwrap(self, chain: Chain) -> Any:
        return self.value


_set_value = Value.__dict__["value"].__set__


@final
@dataclass(frozen=True, slots=True)
class Error:
    """The work raised `exception` while taking step `step` (0: before the first)."""

    exception: BaseException
    step: int

    def unwrap(self, chain: Chain) -> Any:
        """Raise what `arrive` returns."""
        error = self.arrive(chain)
        try:
            raise error
        finally:
            del error, self  # the traceback holds this frame, which must not hold the exception in turn

    def arrive(self, chain: Chain) -> Exception:
        """Return the exception as the caller gets it: fit to be raised on a loop, with a note that names the step.

        Only an Exception passes as itself. StopIteration, StopAsyncIteration and whatever is no Exception
        (SystemExit, CancelledError, ...) mean something to the loop or the thread that sees them, so they arrive as
        RemoteError.
        """
        error = self.exception
        if not isinstance(error, Exception) or isinstance(error, _NOT_FOR_A_LOOP):
            wrapper = RemoteError(type_name(error), text_of(error))
            wrapper.__cause__ = error
            error = wrapper
        if 0 < self.step <= len(chain.steps):  # a far side may say anything
            _note_once(error, f"{_NOTE}{self.step}, {chain.label(self.step)}, of {chain.outline()}")
        return error


Outcome: TypeAlias = Value | Error


def capture(chain: Chain, within: Callable[[Replay], Any] | None = None) -> Outcome:
    """Replay `chain` and return what happened; raise nothing.

    Args:
        chain: what to replay.
        within: runs the replay it is given and returns the result; the place for whatever must surround the work. Left
            out, the chain is replayed and nothing else done.

    Raises:
        KeyboardInterrupt: in the main thread only, where it is the user's and not the work's.
    """
    replay = None if within is None else Replay(chain)
    step = 0
    try:
        if within is not None and replay is not None:
            return Value(within(replay))
        # `Replay.run` written out: for a small call the object and its method cost half as much again.
        target = chain.root
        for operation in chain.steps:
            step += 1
            target = operation.apply(target)
        return Value(target)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        _shorten_traceback(error)
        return Error(error, step if replay is None else replay.step)


def type_name(error: BaseException) -> str:
    """Return the qualified name of the exception's class, without ``builtins``."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ in ("builtins", None) else f"{kind.__module__}.{kind.__qualname__}"


def text_of(error: BaseException) -> str:
    """Return ``str(error)``, or what that raised."""
    try:
        return str(error)
    except BaseException as failure:  # of whoever wrote its __str__; a SystemExit must not end the loop's thread
        return f"<str() of it raised {type_name(failure)}>"


def _note_once(error: Exception, note: str) -> None:
    # One object may be raised again and again, a module's constant for example: it keeps its first note.
    # Classes that refuse new attributes, frozen dataclasses among them, go without.
    with contextlib.suppress(Exception):
        if not any(known.startswith(_NOTE) for known in getattr(error, "__notes__", ())):
            error.add_note(note)


def _shorten_traceback(error: BaseException) -> None:
    # Each raise of one object adds to the traceback of the last: a module's constant would collect the frames of all
    # its runs, with all that their variables hold. Runs inside one another are there rightly, but are few.
    entry, runs = error.__traceback__, 0
    while entry is not None:
        runs += entry.tb_frame.f_code is capture.__code__
        if runs == _RUNS_IN_TRACEBACK:
            entry.tb_next = None
        entry = entry.tb_next
