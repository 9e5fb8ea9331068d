"""Requests as bytes: an envelope with a head in plain data, and behind it what only pickle can carry.

    length of the head (4) | head, in JSON | arguments of the first call, pickled | of the second | ...
    head: [version, Python's release, options, [call, ...]]
    call: [length of its arguments, its own options, chain, chain nested in it, ...]
    chain: [root, [number of a chain nested in it, ...], step, ...]
    root: [module, qualified name], or the number of an argument; of a batch, [how many items, whether it returns
          exceptions]: as many of the nested chains, from the first
    step: "name" for an attribute, [number] for an item, number for a call (-1: without arguments)

A call's own options are "deadline" (milliseconds since 1970), "atomic" (the alias of a database) and "stream" (items of
a chunk), where it has them. Chains are numbered in their call, and come before what is nested in them.

Names are data: the far side sees which object and which steps are meant, and can refuse them, before it unpickles
anything. Each call is pickled by itself, so that one which cannot be read leaves the others alone.
"""

from __future__ import annotations

import functools
import importlib
import json
import platform
import struct
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from ..chain import AS_USUAL, Attr, Batch, Call, Chain, Item, Options, Step
from ..errors import Refused
from ..outcome import text_of, type_name
from . import pickling

__all__ = ["MAX_STEPS", "EncodedCall", "Head", "PlainCall", "encode_call", "encode_options", "envelope", "read_head"]

VERSION = 1
PYTHON = platform.python_version()
MAX_STEPS = 64
MAX_CHAINS = 1000

_LENGTH = struct.Struct(">I")


# --- encoding ------------------------------------------------------------------------------------------------------


class EncodedCall(NamedTuple):
    """A call, ready to be sent."""

    plain: str
    pickled: bytes
    chains: int
    """How many it has, with those that are nested."""


def encode_call(chain: Chain, *, deadline: int | None = None, stream: int | None = None) -> EncodedCall:
    """Encode `chain`, now: what becomes of its arguments later does not matter any more.

    Args:
        chain: what shall be replayed, with all that is nested in it.
        deadline: milliseconds since 1970 after which it shall not begin any more.
        stream: send what it gives in chunks of so many items, as they are made.

    Raises:
        Refused: nothing was sent. With reason ``"unpicklable"``: the root or an argument, named in the message, cannot
            be pickled, or stands in ``__main__``, where the other side cannot find it. With ``"bad-request"``: it has
            more steps than may be sent, or one of a name that may not.
    """
    parts = chain.parts()
    numbers = {id(part): number for number, part in enumerate(parts)} if chain.nested else {}
    pickled: list[Any] = []
    plain = ",".join([_encode_chain(part, numbers, pickled) for part in parts])
    try:
        arguments = pickling.dumps_to_send(pickled) if pickled else b""
    except BaseException as error:
        pickling.let_interrupt_pass(error)
        raise _unpicklable(parts, error) from error
    own = _encode_own_options(deadline, chain.options.atomic, stream)
    return EncodedCall(f"[{len(arguments)},{{{own}}},{plain}]", arguments, len(parts))


def _encode_own_options(deadline: int | None, atomic: str | None, stream: int | None) -> str:
    # Written out, since an encoder costs more than the rest of a head.
    given = [] if deadline is None else [f'"deadline":{deadline}']
    if atomic is not None:
        given.append(f'"atomic":{json.dumps(atomic)}')
    if stream is not None:
        given.append(f'"stream":{stream}')
    return ",".join(given)


def _encode_chain(chain: Chain, numbers: Mapping[int, int], pickled: list[Any]) -> str:
    if len(chain.steps) > MAX_STEPS:
        raise _malformed(f"{chain.outline()} has {len(chain.steps)} steps; {MAX_STEPS} may be sent")
    if type(chain.root) is Batch:
        root = f"[{chain.root.size},{'true' if chain.root.return_exceptions else 'false'}]"
    else:
        root = _locate(chain.root) or _store(pickled, chain.root)
    plain = [root, f"[{','.join([str(numbers[id(nested)]) for nested in chain.nested])}]"]
    for step in chain.steps:
        if type(step) is Attr:
            if not _is_plain_name(step.name):
                raise _malformed(f"{chain.outline()} has a step of a name that may not be sent: {step.name!r:.100}")
            plain.append(f'"{step.name}"')
        elif type(step) is Call:
            plain.append(_store(pickled, (step.args, step.kwargs)) if step.args or step.kwargs else "-1")
        else:
            plain.append(f"[{_store(pickled, step.key)}]")
    return f"[{','.join(plain)}]"


def encode_options(options: Mapping[str, Any]) -> str:
    """Encode plain data for whoever performs the calls."""
    return json.dumps(options, separators=(",", ":"))


def envelope(calls: Sequence[EncodedCall], options: str = "{}") -> bytes:
    """Return the envelope of calls that go together.

    Raises:
        Refused: with reason ``"bad-request"``: these are more chains than may be sent.
    """
    count = sum([call.chains for call in calls])
    if not 1 <= count <= MAX_CHAINS:
        raise _malformed(f"{count} chains are to be sent; 1 to {MAX_CHAINS} may")
    head = f'[{VERSION},"{PYTHON}",{options},[{",".join([call.plain for call in calls])}]]'.encode()
    return b"".join([_LENGTH.pack(len(head)), head, *[call.pickled for call in calls]])


def _store(pickled: list[Any], value: Any) -> str:
    pickled.append(value)
    return str(len(pickled) - 1)


def _locate(root: Any) -> str | None:
    """Return module and qualified name, encoded, if walking them gives the very same object, else None."""
    kind = type(root)  # not isinstance, which asks the object for its class: Django's lazy ones answer with a query
    if issubclass(kind, types.ModuleType):
        module, name = root.__name__, ""
    elif issubclass(kind, pickling.BY_NAME):
        module, name = root.__module__, root.__qualname__
    else:
        return None
    encoded = _encode_location(module, name) if type(module) is type(name) is str else None
    if encoded is None:
        return None
    found: Any = sys.modules.get(module)
    for part in name.split(".") if name else ():
        found = getattr(found, part, None)
    return encoded if found is root else None


@functools.lru_cache(maxsize=1024)
def _encode_location(module: str, name: str) -> str | None:
    if module == "__main__" or not _is_location([module, name]):
        return None
    return f'["{module}","{name}"]'


def _unpicklable(parts: Sequence[Chain], error: BaseException) -> Refused:
    for chain in parts:
        for place, value in _places(chain):
            try:
                pickling.dumps_to_send(value)
            except BaseException as cause:
                message = f"{place} of {chain.outline()} cannot be pickled, so it cannot be sent: {_tell(cause)}"
                return Refused(message, reason="unpicklable")
    return Refused(f"the arguments cannot be pickled together: {_tell(error)}", reason="unpicklable")


def _places(chain: Chain) -> Iterator[tuple[str, Any]]:
    if type(chain.root) is not Batch and _locate(chain.root) is None:
        yield "the root", chain.root
    for number, step in enumerate(chain.steps, 1):
        if isinstance(step, Call):
            for position, value in enumerate(step.args, 1):
                yield f"argument {position} of step {number}, {chain.label(number)},", value
            for name, value in step.kwargs.items():
                yield f"argument {name!r} of step {number}, {chain.label(number)},", value
        elif isinstance(step, Item):
            yield f"the key of step {number}", step.key


def _tell(error: BaseException) -> str:
    return f"{type_name(error)}: {text_of(error)}"


# --- decoding ------------------------------------------------------------------------------------------------------


class PlainCall(NamedTuple):
    """A call as the head has it, with its arguments, pickled."""

    options: dict[str, Any]
    chains: list[list[Any]]
    pickled: memoryview

    @property
    def answers(self) -> int:
        """How many results it gives: a batch gives one for each item, so that a long one comes in chunks."""
        root, _nested, *steps = self.chains[0]
        return root[0] if _is_batch(root) and not steps else 1


@final
@dataclass(frozen=True, slots=True)
class Head:
    """What an envelope says in plain data, checked; nothing is unpickled yet."""

    python: str
    options: dict[str, Any]
    calls: list[PlainCall]

    def chain(self, number: int) -> Chain:
        """Unpickle the arguments of a call and return its chain.

        Raises:
            Refused: with reason ``"bad-request"``: something cannot be imported or unpickled here.
        """
        call = self.calls[number]
        try:
            pickled = pickling.loads(call.pickled) if call.pickled else []
            if type(pickled) is not list:
                raise TypeError("the arguments are not a list")
            return _chain(call, pickled)
        except BaseException as error:
            pickling.let_interrupt_pass(error)
            skew = "" if self.python == PYTHON else f" (Python {PYTHON}; it was made by {self.python:.20})"
            raise _malformed(f"the request cannot be read here{skew}: {_tell(error)}") from error


def _chain(call: PlainCall, pickled: list[Any]) -> Chain:
    made: dict[int, Chain] = {}
    atomic = call.options.get("atomic")
    for number in range(len(call.chains) - 1, -1, -1):  # from the last: chains come before what is nested in them
        plain_root, plain_nested, *plain_steps = call.chains[number]
        root = _root(plain_root, pickled)
        steps = tuple([_step(step, pickled) for step in plain_steps])
        nested = tuple([made[nested] for nested in plain_nested])
        made[number] = Chain(root, steps, nested, AS_USUAL if number or atomic is None else Options(atomic=atomic))
    return made[0]


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
        raise _malformed("the head is not of the form version, release, options, calls")
    _, python, options, calls = head
    if "max_reply" in options and not _is_number(options["max_reply"]):
        raise _malformed("max_reply is not a number of bytes")
    return Head(python, options, _apart(calls, memoryview(envelope)[_LENGTH.size + length :]))


def _apart(calls: list[Any], arguments: memoryview) -> list[PlainCall]:
    plain_calls, end, count = [], 0, 0
    for call in calls:
        if type(call) is not list or len(call) < 3 or not _is_number(call[0]) or type(call[1]) is not dict:
            raise _malformed("a call is not of the form length, options, chain, nested chains")
        length, options, *chains = call
        count += len(chains)
        begin, end = end, end + length
        _check_options(options)
        for number, chain in enumerate(chains):
            _check_chain(chain, number, len(chains))
        plain_calls.append(PlainCall(options, chains, arguments[begin:end]))
    if end != len(arguments):
        raise _malformed(f"{len(arguments)} bytes of arguments came where the head says {end}")
    if not 1 <= count <= MAX_CHAINS:
        raise _malformed(f"{count} chains came; 1 to {MAX_CHAINS} may")
    return plain_calls


def _malformed(message: str) -> Refused:
    return Refused(message, reason="bad-request")


def _check_options(options: dict[str, Any]) -> None:
    checks: dict[str, Callable[[Any], bool]] = {
        "deadline": _is_number,
        "atomic": lambda alias: type(alias) is str,
        "stream": lambda size: _is_number(size) and size > 0,
    }
    for name, value in options.items():
        if name not in checks or not checks[name](value):
            raise _malformed(f"a call has an option that is not known, or not of its type: {name!r:.100}")


def _check_chain(plain: Any, number: int, count: int) -> None:
    if type(plain) is not list or not 2 <= len(plain) <= MAX_STEPS + 2:
        raise _malformed(f"a chain must be a root, what is nested, and at most {MAX_STEPS} steps")
    root, nested, *steps = plain
    if not (_is_location(root) or _is_number(root) or _is_batch(root)):
        raise _malformed("the root of a chain is neither a name nor a number, nor a batch")
    if type(nested) is not list or not all(_is_number(inner) and number < inner < count for inner in nested):
        raise _malformed("what is nested in a chain is no later chain of its call")
    if _is_batch(root) and not 1 <= root[0] <= len(nested):
        raise _malformed("a batch is not of as many items as are nested in it")
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


def _is_batch(value: Any) -> bool:
    return type(value) is list and list(map(type, value)) == [int, bool]


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
    if _is_batch(plain):
        return Batch(*plain)
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
