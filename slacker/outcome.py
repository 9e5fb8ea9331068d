"""What happened to a chain, as data: it crosses threads and processes in place of a raised exception.

Raising across a border loses things. A StopIteration raised in an executor's thread never completes the await
(CPython 3.11 and 3.12), a SystemExit ends the thread. So work is run by `slacker.chain.capture`, which returns, and
only `unwrap` or `arrive`, on the caller's side, make an exception of it again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, final

from .errors import RemoteError

__all__ = ["Error", "Outcome", "Several", "Value", "text_of", "type_name"]

_NOTE = "slacker: at step "

_NOT_FOR_A_LOOP = (StopIteration, StopAsyncIteration, GeneratorExit, KeyboardInterrupt, SystemExit)


class _Chain(Protocol):
    """What this module asks of `slacker.chain.Chain`, which imports it."""

    @property
    def steps(self) -> Sequence[object]: ...

    def parts(self) -> Sequence[_Chain]: ...

    def outline(self) -> str: ...

    def label(self, number: int) -> str: ...

    def progress(self, part: Any) -> str: ...


@final
@dataclass(frozen=True, slots=True, init=False)
class Value:
    """The work returned `value`, which may well be an exception object."""

    value: Any

    def __init__(self, value: Any) -> None:
        _set_value(self, value)  # in half the time of the constructor that the dataclass would have

    def unwrap(self, chain: _Chain) -> Any:
        return self.value


_set_value = Value.__dict__["value"].__set__


@final
@dataclass(frozen=True, slots=True)
class Error:
    """The work raised `exception` while taking step `step` (0: before the first) of a chain: the `place`-th of
    ``chain.parts()``, 0 for the one that was run.
    """

    exception: BaseException
    step: int
    place: int = 0

    def unwrap(self, chain: _Chain) -> Any:
        """Raise what `arrive` returns."""
        error = self.arrive(chain)
        try:
            raise error
        finally:
            del error, self  # the traceback holds this frame, which must not hold the exception in turn

    def arrive(self, chain: _Chain) -> Exception:
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
        note = self._note(chain)
        if note is not None:
            _note_once(error, note)
        return error

    def _note(self, chain: _Chain) -> str | None:
        parts = chain.parts()
        if self.place >= len(parts):  # a far side may say anything
            return None
        part = parts[self.place]
        if not 0 < self.step <= len(part.steps):
            return None
        within = f", in {chain.outline()}{chain.progress(part)}" if self.place else ""
        return f"{_NOTE}{self.step}, {part.label(self.step)}, of {part.outline()}{within}"


@final
@dataclass(frozen=True, slots=True)
class Several:
    """What happened to each item of a batch that returns exceptions."""

    outcomes: list[Value | Error]

    def unwrap(self, chain: _Chain) -> list[Any]:
        """Return the values, with the exceptions as they arrive among them."""
        return [one.value if isinstance(one, Value) else one.arrive(chain) for one in self.outcomes]


Outcome: TypeAlias = Value | Error | Several


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
    # Classes that refuse new attributes, frozen dataclasses among them, go without; whatever theirs raise must not end
    # the loop.
    with contextlib.suppress(BaseException):
        if not any(known.startswith(_NOTE) for known in getattr(error, "__notes__", ())):
            error.add_note(note)
