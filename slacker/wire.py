"""Chains and outcomes as bytes, and the far side that turns one into the other.

    here                                             there
    chains --encode_request--> envelope ----------->  read_head: names, limits     (plain data, nothing unpickled)
                                                      Head.chains: arguments        (unpickled)
                                                      perform, for each chain
    outcomes <---Answers.take--- frames <-----------  encode_outcome

`serve` is the whole far side, the same for a web server, a local process and a cluster. An envelope is a head in
JSON, preceded by its length, and behind it all arguments in one pickle. Names are data: the far side sees which
object and which steps are meant, and can refuse them, before it unpickles anything.

This is the only module that pickles, and `_loads` the only place that unpickles. Whoever can put bytes there can run
any code: what comes over a network has been verified by `slacker.signing` before. Pickling, too, runs code of the
user's, on both sides and both ways. Whatever that raises, SystemExit for example, becomes an answer here.
"""

from __future__ import annotations

import enum
import importlib
import io
import json
import pickle
import platform
import struct
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from .chain import Attr, Call, Chain, Item, Step
from .errors import ProtocolError, Refused, RemoteError
from .outcome import Error, Outcome, Value, capture, text_of, type_name

__all__ = [
    "WHOLE",
    "Answers",
    "Frame",
    "Head",
    "Kind",
    "RemoteTraceback",
    "encode_outcome",
    "encode_request",
    "read_head",
    "refusal",
    "serve",
]

VERSION = 1
PYTHON = platform.python_version()
MAX_STEPS = 64
MAX_CHAINS = 1000
CHUNK_ITEMS = 500
CHUNK_BYTES = 1 << 20
MAX_REPLY = 0xFFFF_FFFF
"""Bytes of results in one reply, and so of a frame, whose length has four bytes."""
MAX_TEXT = 10_000
"""Characters of an exception's message or traceback that travel: enough to read, not enough to drown in."""

WHOLE = 0xFFFF_FFFF
"""The chain number of a refusal, which is about the whole request."""

_LENGTH = struct.Struct(">I")
_BY_NAME = (type, types.FunctionType, types.BuiltinFunctionType)
_CONTAINERS: dict[type, bytes] = {list: b"l", tuple: b"t", dict: b"d", set: b"s", frozenset: b"f"}
_REBUILD: dict[bytes, type] = {tag: kind for kind, tag in _CONTAINERS.items()}

Perform: TypeAlias = Callable[[Chain, Mapping[str, Any]], Outcome]


class Kind(enum.IntEnum):
    """What a frame holds. The last frame of a reply has the bit LAST besides: without it the reply was cut."""

    VALUE = 1
    CHUNK = 2
    ERROR = 3
    REFUSED = 4
    LAST = 0x80


@final
@dataclass(frozen=True, slots=True)
class Frame:
    """A piece of a reply: a whole value, some items of a long one, an error, a refusal."""

    kind: int
    chain: int
    payload: bytes


class RemoteTraceback(Exception):
    """The traceback of the far side, as text: the ``__cause__`` of the exception that came from there."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n\n{self.text}"


# --- requests: encoding --------------------------------------------------------------------------------------------


def encode_request(chains: Sequence[Chain], options: Mapping[str, Any] | None = None) -> bytes:
    """Return the envelope of `chains`.

    Args:
        chains: what shall be replayed, each on its own.
        options: plain data for whoever performs them there. ``max_reply`` is for `serve`: most bytes of the results,
            pickled.

    Raises:
        Refused: nothing was sent. With reason ``"unpicklable"``: a root or an argument, named in the message, cannot
            be pickled, or stands in ``__main__``, where the other side cannot find it. With ``"bad-request"``: these
            are more chains or steps than may be sent.
    """
    if not 1 <= len(chains) <= MAX_CHAINS:
        raise Refused(f"{len(chains)} chains are to be sent; 1 to {MAX_CHAINS} may", reason="bad-request")
    pickled: list[Any] = []
    plain = _to_json([VERSION, PYTHON, dict(options or {}), [_plain(chain, pickled) for chain in chains]])
    try:
        arguments = _dumps_to_send(pickled) if pickled else b""
    except BaseException as error:
        _let_interrupt_pass(error)
        raise _unpicklable(chains, error) from error
    return b"".join((_LENGTH.pack(len(plain)), plain, arguments))


def _to_json(value: Any) -> bytes:
    return _encoder.encode(value).encode()


_encoder = json.JSONEncoder(separators=(",", ":"))


def _plain(chain: Chain, pickled: list[Any]) -> list[Any]:
    """Return a chain as a list: the root, then "name" for an attribute, number for a call, [number] for an item.

    Numbers are places in `pickled`; -1 is a call without arguments. A root is [module, qualified name] or a number.
    """
    if len(chain.steps) > MAX_STEPS:
        raise Refused(f"{chain.outline()} has {len(chain.steps)} steps; {MAX_STEPS} may be sent", reason="bad-request")
    plain: list[Any] = [_locate(chain.root) or _store(pickled, chain.root)]
    for step in chain.steps:
        if type(step) is Attr:
            plain.append(step.name)
        elif type(step) is Call:
            plain.append(_store(pickled, (step.args, step.kwargs)) if step.args or step.kwargs else -1)
        else:
            plain.append([_store(pickled, step.key)])
    return plain


def _store(pickled: list[Any], value: Any) -> int:
    pickled.append(value)
    return len(pickled) - 1


def _locate(root: Any) -> list[str] | None:
    """Return [module, qualified name] if walking them gives the very same object, else None."""
    kind = type(root)  # not isinstance, which asks the object for its class: Django's lazy ones answer with a query
    if issubclass(kind, types.ModuleType):
        module, name = root.__name__, ""
    elif issubclass(kind, _BY_NAME):
        module, name = root.__module__, root.__qualname__
    else:
        return None
    location = [module, name]
    if module == "__main__" or not _is_location(location):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split(".") if name else ():
        found = getattr(found, part, None)
    return location if found is root else None


def _unpicklable(chains: Sequence[Chain], error: BaseException) -> Refused:
    for chain in chains:
        for place, value in _places(chain):
            try:
                _dumps_to_send(value)
            except BaseException as cause:
                message = f"{place} of {chain.outline()} cannot be pickled, so it cannot be sent: {_tell(cause)}"
                return Refused(message, reason="unpicklable")
    return Refused(f"the arguments cannot be pickled together: {_tell(error)}", reason="unpicklable")


def _places(chain: Chain) -> Iterator[tuple[str, Any]]:
    if _locate(chain.root) is None:
        yield "the root", chain.root
    for number, step in enumerate(chain.steps, 1):
        if isinstance(step, Call):
            for position, value in enumerate(step.args, 1):
                yield f"argument {position} of step {number}, {chain.label(number)},", value
            for name, value in step.kwargs.items():
                yield f"argument {name!r} of step {number}, {chain.label(number)},", value
        elif isinstance(step, Item):
            yield f"the key of step {number}", step.key


# --- requests: decoding --------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Head:
    """What an envelope says in plain data, checked; nothing is unpickled yet."""

    python: str
    options: dict[str, Any]
    plain: list[list[Any]]
    arguments: memoryview

    def chains(self) -> list[Chain]:
        """Unpickle the arguments and return the chains.

        Raises:
            Refused: with reason ``"bad-request"``: something cannot be imported or unpickled here.
        """
        try:
            pickled = _loads(self.arguments) if self.arguments else []
            if type(pickled) is not list:
                raise TypeError("the arguments are not a list")
            return [
                Chain(_root(root, pickled), tuple([_step(step, pickled) for step in steps]))
                for root, *steps in self.plain
            ]
        except BaseException as error:
            _let_interrupt_pass(error)
            skew = "" if self.python == PYTHON else f" (Python {PYTHON}; it was made by {self.python:.20})"
            raise Refused(f"the request cannot be read here{skew}: {_tell(error)}", reason="bad-request") from error


def read_head(envelope: bytes) -> Head:
    """Read and check the plain part of an envelope.

    Raises:
        Refused: with reason ``"version"``: it is of another version; with ``"bad-request"``: a name, a number or a
            limit is not what it must be.
    """
    try:
        (length,) = _LENGTH.unpack_from(envelope)
        head = json.loads(envelope[_LENGTH.size : _LENGTH.size + length].decode())
    except (struct.error, ValueError, RecursionError) as error:
        raise _malformed(f"this is no envelope: {type_name(error)}") from None
    if not isinstance(head, list) or not head or type(head[0]) is not int:
        raise _malformed("the head does not begin with a version")
    if head[0] != VERSION:
        raise Refused(f"wire version {head[0]!r:.20} came, this side speaks {VERSION}", reason="version")
    if list(map(type, head)) != [int, str, dict, list]:
        raise _malformed("the head is not of the form version, release, options, chains")
    _, python, options, plain = head
    if "max_reply" in options and not _is_number(options["max_reply"]):
        raise _malformed("max_reply is not a number of bytes")
    if not 1 <= len(plain) <= MAX_CHAINS:
        raise _malformed(f"{len(plain)} chains came; 1 to {MAX_CHAINS} may")
    for chain in plain:
        _check_plain(chain)
    return Head(python, options, plain, memoryview(envelope)[_LENGTH.size + length :])


def _malformed(message: str) -> Refused:
    return Refused(message, reason="bad-request")


def _check_plain(plain: Any) -> None:
    if type(plain) is not list or not 1 <= len(plain) <= MAX_STEPS + 1:
        raise _malformed(f"a chain must be a root and at most {MAX_STEPS} steps")
    root, *steps = plain
    if not (_is_location(root) or _is_number(root)):
        raise _malformed("the root of a chain is neither a name nor a number")
    for step in steps:
        if not _is_step(step):
            shown = step if type(step) is str else type(step).__name__
            raise _malformed(f"a step is not one that may be sent: {shown!r:.100}")


def _is_step(step: Any) -> bool:
    if type(step) is str:
        return _is_plain_name(step)
    if type(step) is list:
        return len(step) == 1 and _is_number(step[0])
    return type(step) is int and step >= -1


def _is_number(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_location(value: Any) -> bool:
    if type(value) is not list or len(value) != 2 or not type(value[0]) is type(value[1]) is str:
        return False
    module, name = value
    return all(map(str.isidentifier, module.split("."))) and (not name or all(map(_is_plain_name, name.split("."))))


def _is_plain_name(name: str) -> bool:
    return name.isidentifier() and not (name.startswith("__") and name.endswith("__"))


def _root(plain: Any, pickled: list[Any]) -> Any:
    if type(plain) is int:
        return pickled[plain]
    module, name = plain
    found: Any = importlib.import_module(module)
    for part in name.split(".") if name else ():
        found = getattr(found, part)
    return found


def _step(plain: Any, pickled: list[Any]) -> Step:
    if type(plain) is str:
        return Attr(plain)
    if type(plain) is list:
        return Item(pickled[plain[0]])
    if plain < 0:
        return Call((), {})
    args, kwargs = pickled[plain]
    if type(args) is not tuple or type(kwargs) is not dict:
        raise TypeError("the arguments of a call are not a tuple and a dict")
    return Call(args, kwargs)


# --- the far side --------------------------------------------------------------------------------------------------


def _perform_plainly(chain: Chain, options: Mapping[str, Any]) -> Outcome:
    return capture(chain)


def serve(envelope: bytes, perform: Perform = _perform_plainly) -> Iterator[Frame]:
    """Replay what an envelope holds and yield the frames of the reply, each as soon as the one after it is known.

    Closing the iterator early leaves out the chains that were not begun.

    Args:
        envelope: as `encode_request` made it. If its options hold ``max_reply``, larger results are refused as
            ``"too-big"``.
        perform: replays one chain, given the request's options; returns what happened. An exception that it raises
            itself counts as one of the work's.
    """
    try:
        head = read_head(envelope)
        chains = head.chains()
    except Refused as refused:
        yield refusal(refused.reason, str(refused))
        return
    limit, sent = min(head.options.get("max_reply", MAX_REPLY), MAX_REPLY), 0
    kept: Frame | None = None  # the last frame is marked, so each waits for the next
    for number, chain in enumerate(chains):
        for frame in encode_outcome(_perform(perform, chain, head.options), number):
            sent += len(frame.payload)
            if sent > limit:
                yield refusal("too-big", f"the result is larger than the {limit} bytes allowed", executed=True)
                return
            if kept is not None:
                yield kept
            kept = frame
    assert kept is not None  # there is a chain, and each gives a frame
    yield Frame(kept.kind | Kind.LAST, kept.chain, kept.payload)


def _perform(perform: Perform, chain: Chain, options: Mapping[str, Any]) -> Outcome:
    try:
        return perform(chain, options)
    except Exception as error:  # options that make no sense to it
        return Error(error, 0)


def refusal(reason: str, message: str, *, executed: bool = False, details: Mapping[str, Any] | None = None) -> Frame:
    """Return the frame, the last one, that refuses a request; `reason` is for programs, `message` for people."""
    payload = _to_json([reason, message[:MAX_TEXT], executed, dict(details or {})])
    return Frame(Kind.REFUSED | Kind.LAST, WHOLE, payload)


def encode_outcome(outcome: Outcome, number: int) -> Iterator[Frame]:
    """Yield the frames of what happened to chain `number`.

    A long list, tuple, dict, set or frozenset, of just that class, is cut into frames of at most 500 items or 1 MiB,
    so that neither side has to hold it twice or decode it at once. Objects that items of two frames share become
    two. A larger item, and items that share what is large, are one frame whatever their size.
    """
    if isinstance(outcome, Value):
        encoded = _encode_value(outcome.value)
        while True:
            try:
                piece = next(encoded, None)
            except BaseException as error:
                _let_interrupt_pass(error)
                outcome = Error(_unsendable(outcome.value, error), 0)
                break
            if piece is None:
                return
            yield Frame(piece[0], number, piece[1])
    yield Frame(Kind.ERROR, number, _encode_error(outcome))


def _unsendable(value: Any, error: BaseException) -> RemoteError:
    message = f"the result, a {type(value).__qualname__}, cannot be pickled: {text_of(error)}"
    unsendable = RemoteError(type_name(error), message)
    unsendable.__cause__ = error
    return unsendable


def _encode_value(value: Any) -> Iterator[tuple[Kind, bytes]]:
    tag = _CONTAINERS.get(type(value))
    if tag is None or len(value) <= CHUNK_ITEMS:
        payload = _dumps(value)
        if tag is None or len(payload) <= CHUNK_BYTES or len(value) < 2:
            yield Kind.VALUE, payload
            return
        del payload
    items = value if type(value) is list else list(value.items() if type(value) is dict else value)
    for payload in _encode_items(items):
        yield Kind.CHUNK, tag + payload


def _encode_items(items: list[Any]) -> Iterator[bytes]:
    begin, count = 0, CHUNK_ITEMS
    while begin < len(items):
        part = items[begin : begin + count]
        payload = _dumps(part)
        fitting = len(part) * CHUNK_BYTES * 4 // (5 * len(payload))  # so many of that size, with some room
        count = max(1, min(CHUNK_ITEMS, fitting))
        if len(payload) >= CHUNK_BYTES and len(part) > 1:
            if not _share(part, len(payload)):
                continue
            count = CHUNK_ITEMS
        yield payload
        begin += len(part)


def _share(part: list[Any], size: int) -> bool:
    """Tell whether `part`, of `size` bytes, has something large in many places, which each frame would repeat."""
    middle = len(part) // 2
    return 2 * (len(_dumps(part[:middle])) + len(_dumps(part[middle:]))) > 3 * size


def _encode_error(outcome: Error) -> bytes:
    error = outcome.exception
    plain = _to_json([type_name(error), text_of(error)[:MAX_TEXT], outcome.step, _traceback(error)[-MAX_TEXT:]])
    pickled = _dumps_if_it_survives(error) if isinstance(error, Exception) else b""
    return b"".join((_LENGTH.pack(len(plain)), plain, pickled))


def _dumps_if_it_survives(error: Exception) -> bytes:
    """Return `error` and its args, pickled, or nothing if it would not come back as what it is, or is too large.

    The args go along because pickle gives them to the class, which may make something else of them: one that is
    called with a name and makes a message of it gets the message for a name. None for classes that see to it.
    """
    try:
        args = error.args if type(error).__reduce__ is BaseException.__reduce__ else None
        pickled = _dumps((error, args))
        loaded, _ = _loads(pickled) if len(pickled) <= CHUNK_BYTES else (None, None)
    except BaseException:  # of a constructor of theirs, for example
        return b""
    return pickled if type(loaded) is type(error) else b""


def _tell(error: BaseException) -> str:
    return f"{type_name(error)}: {text_of(error)}"


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException as failure:  # of groups too deep, of a SyntaxError that is none
        return f"<showing the traceback raised {type_name(failure)}>"


# --- replies: decoding ---------------------------------------------------------------------------------------------


@final
@dataclass(slots=True)
class Answers:
    """Gathers the frames of one reply into outcomes, one per chain.

    Args:
        count: how many chains were asked.
    """

    count: int
    complete: bool = False
    _outcomes: dict[int, Outcome] = field(default_factory=dict)
    _parts: dict[int, tuple[bytes, Outcome]] = field(default_factory=dict)
    """Of chunked results: the tag, and the items so far, or what kept one of them from being loaded."""

    def take(self, kind: int, chain: int, payload: bytes) -> None:
        """Take the next frame, decoding what it holds: the part of the work that grows with the result.

        Raises:
            Refused: the request was refused as a whole.
            ProtocolError: the frame makes no sense here.
        """
        if self.complete:
            raise ProtocolError("a frame came after the last one", executed=True)
        self.complete = bool(kind & Kind.LAST)
        kind &= ~Kind.LAST
        if kind == Kind.REFUSED:
            raise _decode_refusal(payload)
        if chain >= self.count:
            raise ProtocolError(f"an answer came for chain {chain} of {self.count}", executed=True)
        if kind == Kind.VALUE:
            self._settle(chain, _load_result(payload))
        elif kind == Kind.CHUNK:
            self._extend(chain, bytes(payload[:1]), memoryview(payload)[1:])
        elif kind == Kind.ERROR:
            self._parts.pop(chain, None)
            self._settle(chain, _decode_error(payload))
        else:
            raise ProtocolError(f"a frame of unknown kind {kind} came", executed=True)

    def outcomes(self) -> list[Outcome]:
        """Return what happened to each chain, in the order asked. One whose result cannot be loaded here has failed.

        Raises:
            ProtocolError: the reply was cut, or left out a chain.
        """
        if not self.complete:
            raise ProtocolError("the reply was cut: its last frame is missing")
        for chain, (tag, gathered) in self._parts.items():
            self._settle(chain, _rebuild(tag, gathered))
        self._parts.clear()
        missing = [chain for chain in range(self.count) if chain not in self._outcomes]
        if missing:
            raise ProtocolError(f"the reply left out chains {missing[:10]}", executed=True)
        return [self._outcomes[chain] for chain in range(self.count)]

    def _extend(self, chain: int, tag: bytes, pickled: memoryview) -> None:
        known, gathered = self._parts.setdefault(chain, (tag, Value([])))
        if tag not in _REBUILD or tag != known:
            raise ProtocolError("a chunk came that does not continue what came before", executed=True)
        if isinstance(gathered, Error):
            return
        loaded = _load_result(pickled)
        if isinstance(loaded, Error):
            self._parts[chain] = (tag, loaded)
        elif type(loaded.value) is list:
            gathered.value.extend(loaded.value)
        else:
            raise ProtocolError("a chunk came that holds no items", executed=True)

    def _settle(self, chain: int, outcome: Outcome) -> None:
        if chain in self._outcomes:
            raise ProtocolError(f"chain {chain} was answered twice", executed=True)
        self._outcomes[chain] = outcome


def _load_result(pickled: bytes | memoryview) -> Outcome:
    try:
        return Value(_loads(pickled))
    except BaseException as error:
        _let_interrupt_pass(error)
        return _unloadable(error)


def _rebuild(tag: bytes, gathered: Outcome) -> Outcome:
    if tag == b"l" or isinstance(gathered, Error):
        return gathered
    try:
        return Value(_REBUILD[tag](gathered.value))
    except BaseException as error:  # of an item's __hash__ or __eq__
        _let_interrupt_pass(error)
        return _unloadable(error)


def _unloadable(error: BaseException) -> Error:
    unloadable = RemoteError(type_name(error), f"the result cannot be loaded here: {text_of(error)}")
    unloadable.__cause__ = error
    return Error(unloadable, 0)


def _decode_error(payload: bytes) -> Error:
    try:
        (length,) = _LENGTH.unpack_from(payload)
        end = _LENGTH.size + length
        plain = json.loads(payload[_LENGTH.size : end])
    except (struct.error, ValueError, RecursionError) as cause:
        raise ProtocolError("an error came that cannot be read", executed=True) from cause
    if not isinstance(plain, list) or list(map(type, plain)) != [str, str, int, str] or not 0 <= plain[2] <= MAX_STEPS:
        raise ProtocolError("an error came that is not of the form name, message, step, traceback", executed=True)
    name, message, step, shown = plain
    error = _load_exception(name, payload[end:])
    if error is None:
        error = RemoteError(name, message)
    _set_cause(error, RemoteTraceback(shown))
    return Error(error, step)


def _load_exception(name: str, pickled: bytes) -> Exception | None:
    """Return the exception, or None if it does not travel, or its class is missing here or differs."""
    if not pickled:
        return None
    try:
        loaded, args = _loads(pickled)
        if not issubclass(type(loaded), Exception) or type_name(loaded) != name:
            return None
        if args is not None:
            _set_args(loaded, args)
        error: Exception = loaded
        return error
    except BaseException as cause:
        _let_interrupt_pass(cause)
        return None


# By the descriptors: frozen dataclasses, for example, refuse assignment.
_set_args = BaseException.__dict__["args"].__set__
_set_cause = BaseException.__dict__["__cause__"].__set__


def _decode_refusal(payload: bytes) -> Refused:
    try:
        plain = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a refusal came that cannot be read") from error
    if not isinstance(plain, list) or list(map(type, plain)) != [str, str, bool, dict]:
        raise ProtocolError("a refusal came that is not of the form reason, message, executed, details")
    reason, message, executed, details = plain
    return Refused(message, reason=reason, executed=executed, details=details)


# --- pickle --------------------------------------------------------------------------------------------------------


def _dumps(value: Any) -> bytes:
    return pickle.dumps(value, 5)


def _dumps_to_send(value: Any) -> bytes:
    """Pickle `value` for another process, which does not have what stands in this one's ``__main__``."""
    pickled = _dumps(value)
    if b"__main__" in pickled:
        _NotOfMain(io.BytesIO(), 5).dump(value)
    return pickled


class _NotOfMain(pickle.Pickler):
    """Refuses classes and functions of ``__main__``. As it looks at every object, it is only used on suspicion."""

    def reducer_override(self, value: Any) -> Any:
        if issubclass(type(value), _BY_NAME) and value.__module__ == "__main__":
            raise pickle.PicklingError(f"{value.__qualname__} stands in __main__: move it into a module of its own")
        return NotImplemented


def _loads(pickled: bytes | memoryview) -> Any:
    return pickle.loads(pickled)


def _let_interrupt_pass(error: BaseException) -> None:
    # As `capture` does: in the main thread it is the user's, anywhere else the work's.
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error
