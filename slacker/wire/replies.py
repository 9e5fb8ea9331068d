"""Replies as bytes: what happened to each call of a request, in frames of bounded size.

    VALUE    a whole result
    CHUNK    some items of a long one, or of a stream: a letter for the container, then a list of the items
    ERROR    an exception: name, message, where it happened and traceback in plain data, and itself pickled, if it
             survives that
    REFUSED  reason, message, whether it may have run, and details, of one answer or of the whole request
    END      of a stream

A call has one answer, a batch one for each item; answers are numbered through a request. A call that fails as a whole
says so in its first answer and leaves out the others. The last frame of a reply has the bit LAST besides: without it
the reply was cut.
"""

from __future__ import annotations

import enum
import json
import struct
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from ..errors import RemoteError
from ..outcome import Error, Outcome, Several, Value, text_of, type_name
from . import pickling

__all__ = [
    "CONTAINERS",
    "LENGTH",
    "MAX_REPLY",
    "WHOLE",
    "Frame",
    "Kind",
    "Pack",
    "as_it_is",
    "encode_items",
    "encode_outcome",
    "refusal",
]

CHUNK_ITEMS = 500
CHUNK_BYTES = 1 << 20
MAX_REPLY = 0xFFFF_FFFF
"""Bytes of one result, and so of a frame, whose length has four bytes."""
MAX_TEXT = 10_000
"""Characters of an exception's message or traceback that travel: enough to read, not enough to drown in."""

WHOLE = 0xFFFF_FFFF
"""The number in a refusal that is about the whole request."""

LENGTH = struct.Struct(">I")
CONTAINERS: dict[type, bytes] = {list: b"l", tuple: b"t", dict: b"d", set: b"s", frozenset: b"f"}
"""The letters by which chunks tell what they are of."""

Pack: TypeAlias = Callable[[Any], Any]
"""Returns an object that pickles smaller or faster than the one it is given, and unpickles as an equal of that; or
just that. It is given whole results, and lists of some items of a long one."""


class Kind(enum.IntEnum):
    """What a frame holds; see the head of this module."""

    VALUE = 1
    CHUNK = 2
    ERROR = 3
    REFUSED = 4
    END = 5
    LAST = 0x80


class Frame(NamedTuple):
    """A piece of a reply: a whole value, some items of a long one, an error, a refusal."""

    kind: int
    answer: int
    payload: bytes


class AwaitedFrame(Frame):
    """One to be sent before the next is made: a chunk of a stream, or the last of what one call gave."""

    __slots__ = ()


def refusal(
    reason: str,
    message: str,
    *,
    answer: int = WHOLE,
    executed: bool = False,
    details: Mapping[str, Any] | None = None,
) -> Frame:
    """Return the frame that refuses one answer, or the whole request, and then is the last one.

    `reason` is for programs, `message` for people.
    """
    payload = _json([reason, message[:MAX_TEXT], executed, dict(details or {})])
    return Frame(Kind.REFUSED | Kind.LAST if answer == WHOLE else Kind.REFUSED, answer, payload)


def as_it_is(value: Any) -> Any:
    """Pack nothing."""
    return value


def encode_outcome(outcome: Outcome, number: int, pack: Pack = as_it_is, *, is_batch: bool = False) -> Iterator[Frame]:
    """Yield the frames of what happened to a call whose first answer has that number.

    A long list, tuple, dict, set or frozenset, of just that class, is cut into frames of at most 500 items or 1 MiB,
    so that neither side has to hold it twice or decode it at once. Objects that items of two frames share become
    two. A larger item is one frame whatever its size, and so are items that share most of what they hold, such as the
    nodes of one graph: each frame would repeat it.

    Args:
        outcome: what happened.
        number: of its first answer.
        pack: see `Pack`.
        is_batch: whether it is a batch, each item of which is an answer.
    """
    outcomes: Iterable[Value | Error]
    if isinstance(outcome, Several):
        outcomes = outcome.outcomes
    elif is_batch and isinstance(outcome, Value):
        outcomes = map(Value, outcome.value)
    else:
        outcomes = [outcome]
    for answer, one in enumerate(outcomes, number):
        yield from _encode_one(one, answer, pack)


def encode_items(items: list[Any], number: int, pack: Pack = as_it_is) -> Iterator[Frame]:
    """Yield the frames of some items of a stream; of one that cannot be pickled, an ERROR after those before it."""
    yield from _frames(((Kind.CHUNK, b"l" + payload) for payload in _encode_items(items, pack)), items, number)


def _encode_one(outcome: Value | Error, number: int, pack: Pack) -> Iterator[Frame]:
    if isinstance(outcome, Value):
        yield from _frames(_encode_value(outcome.value, pack), outcome.value, number)
    else:
        yield Frame(Kind.ERROR, number, _encode_error(outcome))


def _frames(encoded: Iterator[tuple[Kind, bytes]], value: Any, number: int) -> Iterator[Frame]:
    """Yield a frame for each piece of `value`; where one cannot be pickled, an ERROR in the place of the rest."""
    while True:
        try:
            piece = next(encoded, None)
        except BaseException as error:
            pickling.let_interrupt_pass(error)
            yield Frame(Kind.ERROR, number, _encode_error(Error(_unsendable(value, error), 0)))
            return
        if piece is None:
            return
        yield Frame(piece[0], number, piece[1])


def _unsendable(value: Any, error: BaseException) -> RemoteError:
    message = f"the result, a {type(value).__qualname__}, cannot be pickled: {text_of(error)}"
    unsendable = RemoteError(type_name(error), message)
    unsendable.__cause__ = error
    return unsendable


def _encode_value(value: Any, pack: Pack) -> Iterator[tuple[Kind, bytes]]:
    tag = CONTAINERS.get(type(value))
    if tag is None or len(value) <= CHUNK_ITEMS:
        payload = pickling.dumps(pack(value))
        if tag is None or len(payload) <= CHUNK_BYTES or len(value) < 2:
            yield Kind.VALUE, payload
            return
        del payload
    items = value if type(value) is list else list(value.items() if type(value) is dict else value)
    for payload in _encode_items(items, pack):
        yield Kind.CHUNK, tag + payload


def _encode_items(items: list[Any], pack: Pack) -> Iterator[bytes]:
    begin, count = 0, CHUNK_ITEMS
    while begin < len(items):
        part = items[begin : begin + count]
        payload = pickling.dumps(pack(part))
        is_first = begin == 0 and len(part) == CHUNK_ITEMS < len(items)
        if is_first and len(payload) * len(items) > CHUNK_BYTES * CHUNK_ITEMS and _share(part, len(payload), pack):
            yield pickling.dumps(pack(items))
            return
        fitting = len(part) * CHUNK_BYTES * 4 // (5 * len(payload))  # so many of that size, with some room
        count = max(1, min(CHUNK_ITEMS, fitting))
        if len(payload) >= CHUNK_BYTES and len(part) > 1:
            if not _share(part, len(payload), pack):
                continue
            count = CHUNK_ITEMS
        yield payload
        begin += len(part)


def _share(part: list[Any], size: int, pack: Pack) -> bool:
    """Tell whether `part`, of `size` bytes, has something large in many places, which each frame would repeat."""
    middle = len(part) // 2
    halves = [pickling.dumps(pack(half)) for half in (part[:middle], part[middle:])]
    return 2 * sum(map(len, halves)) > 3 * size


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encode_error(outcome: Error) -> bytes:
    error = outcome.exception
    plain = _json(
        [type_name(error), text_of(error)[:MAX_TEXT], outcome.step, outcome.place, _traceback(error)[-MAX_TEXT:]]
    )
    pickled = _dumps_if_it_survives(error) if isinstance(error, Exception) else b""
    return b"".join((LENGTH.pack(len(plain)), plain, pickled))


def _dumps_if_it_survives(error: Exception) -> bytes:
    """Return `error` and its args, pickled, or nothing if it would not come back as what it is, or is too large.

    The args go along because pickle gives them to the class, which may make something else of them: one that is
    called with a name and makes a message of it gets the message for a name. None for classes that see to it.
    """
    try:
        if type(error).__reduce__ is BaseException.__reduce__:
            pickled = pickling.dumps((_Itself(error), error.args))
        else:
            pickled = pickling.dumps((error, None))
        loaded, _ = pickling.loads(pickled) if len(pickled) <= CHUNK_BYTES else (None, None)
    except BaseException:  # of a constructor of theirs, for example
        return b""
    return pickled if type(loaded) is type(error) else b""


class _Itself:
    """Pickles as an exception does by itself, whatever `copyreg` says of its class.

    tblib, which Dask installs, has all exceptions that it knows made without their constructors.
    """

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __reduce__(self) -> Any:
        return self._error.__reduce__()


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as failure:  # of groups too deep, of a SyntaxError that is none
        return f"<showing the traceback raised {type_name(failure)}>"
