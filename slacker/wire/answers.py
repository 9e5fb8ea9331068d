"""Replies, as they arrive: frames become outcomes again. See `slacker.wire.replies` for what they hold.

Whatever comes was verified, so it came from somebody who may run code here. It may still be of another mind: what makes
no sense is a ProtocolError, what cannot be loaded here a RemoteError in the place of the result.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import final

from ..chain import Chain
from ..errors import ProtocolError, Refused, RemoteError, SlackerError
from ..outcome import Error, Outcome, Several, Value, text_of, type_name
from . import pickling
from .replies import CONTAINERS, LENGTH, WHOLE, Kind

__all__ = ["Answers", "Arrivals", "RemoteTraceback", "only_value"]

_LAST, _VALUE = int(Kind.LAST), int(Kind.VALUE)  # for the most frequent questions: enums answer slowly
_ONLY_VALUE = _VALUE | _LAST

_REBUILD: dict[bytes, type] = {tag: kind for kind, tag in CONTAINERS.items()}


class RemoteTraceback(Exception):
    """The traceback of the far side, as text: the ``__cause__`` of the exception that came from there."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n\n{self.text}"


@final
class Answers:
    """Gathers the frames of one reply into outcomes, one per call.

    Args:
        chains: those of the calls, in the order in which they were asked.
    """

    __slots__ = ("_first", "_outcomes", "_parts", "_refused", "chains", "complete", "count")

    def __init__(self, chains: Sequence[Chain]) -> None:
        self.chains = chains
        sizes = [len(chain.items) if chain.is_batch else 1 for chain in chains]
        self.count = sum(sizes)
        self._first = [0] if len(sizes) == 1 else [*accumulate(sizes, initial=0)][:-1]
        self.complete = False
        self._outcomes: dict[int, Value | Error] = {}
        self._refused: set[int] = set()
        """Answers in the place of which their call was refused, with all that were to follow."""
        self._parts: dict[int, tuple[bytes, Value | Error]] = {}
        """Of results in chunks: the tag, and the items so far, or what kept one of them from being loaded."""

    def take(self, kind: int, answer: int, payload: bytes | memoryview) -> None:
        """Take the next frame, decoding what it holds: the part of the work that grows with the result.

        Raises:
            Refused: the request was refused as a whole.
            ProtocolError: the frame makes no sense here.
        """
        if self.complete:
            raise ProtocolError("a frame came after the last one", executed=True)
        self.complete, kind = kind >= _LAST, kind & ~_LAST
        if answer == WHOLE and kind == Kind.REFUSED:
            raise _decode_refusal(payload)
        if answer >= self.count:
            raise ProtocolError(f"answer {answer} came where {self.count} were asked for", executed=True)
        if kind == _VALUE:
            self._settle(answer, _load_result(payload))
        elif kind == Kind.CHUNK:
            self._extend(answer, bytes(payload[:1]), memoryview(payload)[1:])
        elif kind in (Kind.ERROR, Kind.REFUSED):  # which may come after some items
            self._parts.pop(answer, None)
            self._settle(answer, _decode_failure(kind, payload))
            if kind == Kind.REFUSED:
                self._refused.add(answer)
        else:
            raise ProtocolError(f"a frame of kind {kind} came, which is not known or not for here", executed=True)

    def outcomes(self) -> list[Outcome]:
        """Return what happened to each call, in the order asked. One whose result cannot be loaded here has failed.

        Raises:
            ProtocolError: the reply was cut, or left out an answer.
        """
        if not self.complete:
            raise ProtocolError("the reply was cut: its last frame is missing")
        for answer, (tag, gathered) in self._parts.items():
            self._settle(answer, _rebuild(tag, gathered))
        self._parts.clear()
        return [self._outcome(*asked) for asked in zip(self.chains, self._first, strict=True)]

    def _outcome(self, chain: Chain, first: int) -> Outcome:
        if not chain.is_batch:
            return self._answers(first, 1)[0]
        answers = self._answers(first, len(chain.items))
        if first + len(answers) - 1 in self._refused:
            return answers[-1]
        if len(answers) == len(chain.items) and chain.returns_exceptions:
            return Several(answers)
        failure = next((answer for answer in answers if isinstance(answer, Error)), None)
        return failure or Value([answer.value for answer in answers if isinstance(answer, Value)])

    def _answers(self, first: int, count: int) -> list[Value | Error]:
        """Return the answers to a call; if that failed as a whole, no more than those up to the failure."""
        answers: list[Value | Error] = []
        for number in range(first, first + count):
            if number in self._outcomes:
                answers.append(self._outcomes[number])
            elif answers and isinstance(answers[-1], Error):
                break
            else:
                raise ProtocolError(f"the reply left out answer {number}", executed=True)
        return answers

    def _extend(self, answer: int, tag: bytes, pickled: memoryview) -> None:
        known, gathered = self._parts.setdefault(answer, (tag, Value([])))
        if tag not in _REBUILD or tag != known:
            raise ProtocolError("a chunk came that does not continue what came before", executed=True)
        if isinstance(gathered, Error):
            return
        loaded = _load_items(pickled)
        if isinstance(loaded, Error):
            self._parts[answer] = (tag, loaded)
        else:
            gathered.value.extend(loaded.value)

    def _settle(self, answer: int, outcome: Value | Error) -> None:
        if answer in self._outcomes:
            raise ProtocolError(f"answer {answer} came twice", executed=True)
        self._outcomes[answer] = outcome


def only_value(chains: Sequence[Chain], kind: int, answer: int, payload: bytes | memoryview) -> Outcome | None:
    """Return the outcome if this frame is the whole reply, and a plain result, as most are; else None.

    It says what `Answers` would, at less cost.
    """
    if kind == _ONLY_VALUE and answer == 0 and len(chains) == 1 and not chains[0].is_batch:
        return _load_result(payload)
    return None


@final
class Arrivals:
    """Decodes the frames of a stream, one by one."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        self.complete = False

    def take(self, kind: int, answer: int, payload: bytes | memoryview) -> Value | Error | None:
        """Return the items of the next frame as a list, the error that ends the stream, or None at its end.

        Raises:
            Refused: the request was refused as a whole.
            ProtocolError: the frame makes no sense here.
        """
        if self.complete:
            raise ProtocolError("a frame came after the last one", executed=True)
        self.complete, kind = kind >= _LAST, kind & ~_LAST
        if answer == WHOLE and kind == Kind.REFUSED:
            raise _decode_refusal(payload)
        if kind == Kind.CHUNK and answer == 0 and payload[:1] == b"l":
            return _load_items(memoryview(payload)[1:])
        if kind in (Kind.ERROR, Kind.REFUSED) and self.complete:
            return _decode_failure(kind, payload)
        if kind == Kind.END and self.complete:
            return None
        raise ProtocolError(f"a frame of kind {kind} came, which does not continue a stream", executed=True)


def _load_items(pickled: memoryview) -> Value | Error:
    loaded = _load_result(pickled)
    if isinstance(loaded, Value) and type(loaded.value) is not list:
        raise ProtocolError("a chunk came that holds no items", executed=True)
    return loaded


def _decode_failure(kind: int, payload: bytes | memoryview) -> Error:
    return _decode_error(payload) if kind == Kind.ERROR else Error(_decode_refusal(payload), 0)


def _load_result(pickled: bytes | memoryview) -> Value | Error:
    try:
        return Value(pickling.loads(pickled))
    except BaseException as error:
        pickling.let_interrupt_pass(error)
        return _unloadable(error)


def _rebuild(tag: bytes, gathered: Value | Error) -> Value | Error:
    if tag == b"l" or isinstance(gathered, Error):
        return gathered
    try:
        return Value(_REBUILD[tag](gathered.value))
    except BaseException as error:  # of an item's __hash__ or __eq__
        pickling.let_interrupt_pass(error)
        return _unloadable(error)


def _unloadable(error: BaseException) -> Error:
    unloadable = RemoteError(type_name(error), f"the result cannot be loaded here: {text_of(error)}")
    unloadable.__cause__ = error
    return Error(unloadable, 0)


def _decode_error(payload: bytes | memoryview) -> Error:
    try:
        (length,) = LENGTH.unpack_from(payload)
        end = LENGTH.size + length
        plain = json.loads(bytes(payload[LENGTH.size : end]))
    except (struct.error, ValueError, RecursionError) as cause:
        raise ProtocolError("an error came that cannot be read", executed=True) from cause
    if not isinstance(plain, list) or list(map(type, plain)) != [str, str, int, int, str] or min(plain[2:4]) < 0:
        raise ProtocolError(
            "an error came that is not of the form name, message, step, place, traceback", executed=True
        )
    name, message, step, place, shown = plain
    error = _load_exception(name, payload[end:])
    if error is None:
        error = RemoteError(name, message)
    elif step > 0 and isinstance(error, SlackerError):  # of a worker that the work used: for this call, the work ran
        error.executed = True
    _set_cause(error, RemoteTraceback(shown))
    return Error(error, step, place)


def _load_exception(name: str, pickled: bytes | memoryview) -> Exception | None:
    """Return the exception, or None if it does not travel, or its class is missing here or differs."""
    if not pickled:
        return None
    try:
        loaded, args = pickling.loads(pickled)
        if not issubclass(type(loaded), Exception) or type_name(loaded) != name:
            return None
        if args is not None:
            _set_args(loaded, args)
        error: Exception = loaded
        return error
    except BaseException as cause:
        pickling.let_interrupt_pass(cause)
        return None


# By the descriptors: frozen dataclasses, for example, refuse assignment.
_set_args = BaseException.__dict__["args"].__set__
_set_cause = BaseException.__dict__["__cause__"].__set__


def _decode_refusal(payload: bytes | memoryview) -> Refused:
    try:
        plain = json.loads(bytes(payload))
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a refusal came that cannot be read") from error
    if not isinstance(plain, list) or list(map(type, plain)) != [str, str, bool, dict]:
        raise ProtocolError("a refusal came that is not of the form reason, message, executed, details")
    reason, message, executed, details = plain
    return Refused(message, reason=reason, executed=executed, details=details)
