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
anything. Each call is pickled by itself, so that one which cannot be read leaves the others alone. Here they are
encoded; `slacker.wire.heads` is the far side.
"""

from __future__ import annotations

import functools
import json
import platform
import struct
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..chain import Attr, Batch, Call, Chain, Item
from ..errors import Refused
from ..outcome import text_of, type_name
from . import pickling

__all__ = [
    "LENGTH",
    "MAX_CHAINS",
    "MAX_STEPS",
    "PYTHON",
    "VERSION",
    "EncodedCall",
    "encode_call",
    "encode_options",
    "envelope",
    "explanations",
    "is_location",
    "is_plain_name",
    "malformed",
]

VERSION = 1
PYTHON = platform.python_version()
MAX_STEPS = 64
MAX_CHAINS = 1000

LENGTH = struct.Struct(">I")


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
    parts = chain.parts() if chain.nested else (chain,)
    numbers = {id(part): number for number, part in enumerate(parts)} if chain.nested else {}
    pickled: list[Any] = []
    plain = ""
    for part in parts:
        plain += f",{_encode_chain(part, numbers, pickled)}"
    try:
        arguments = pickling.dumps_to_send(pickled) if pickled else b""
    except BaseException as error:
        pickling.let_interrupt_pass(error)
        raise _unpicklable(parts, error) from error
    own = _encode_own_options(deadline, chain.options.atomic, stream)
    return EncodedCall(f"[{len(arguments)},{{{own}}}{plain}]", arguments, len(parts))


def _encode_own_options(deadline: int | None, atomic: str | None, stream: int | None) -> str:
    # Written out, since an encoder costs more than the rest of a head.
    given = "" if deadline is None else f',"deadline":{deadline}'
    if atomic is not None:
        given += f',"atomic":{json.dumps(atomic)}'
    if stream is not None:
        given += f',"stream":{stream}'
    return given[1:]


def _encode_chain(chain: Chain, numbers: Mapping[int, int], pickled: list[Any]) -> str:
    if len(chain.steps) > MAX_STEPS:
        raise malformed(f"{chain.outline()} has {len(chain.steps)} steps; {MAX_STEPS} may be sent")
    root: str | int
    if type(chain.root) is Batch:
        root = f"[{chain.root.size},{'true' if chain.root.return_exceptions else 'false'}]"
    else:
        root = _locate(chain.root) or _store(pickled, chain.root)
    nested = ",".join([str(numbers[id(nested)]) for nested in chain.nested]) if chain.nested else ""
    plain = f"[{root},[{nested}]"
    for step in chain.steps:
        if type(step) is Attr:
            if not is_plain_name(step.name):
                raise malformed(f"{chain.outline()} has a step of a name that may not be sent: {step.name!r:.100}")
            plain += f',"{step.name}"'
        elif type(step) is Item:
            plain += f",[{_store(pickled, step.key)}]"
        elif step.args or step.kwargs:
            plain += f",{_store(pickled, (step.args, step.kwargs))}"
        else:
            plain += ",-1"
    return plain + "]"


def encode_options(options: Mapping[str, Any]) -> str:
    """Encode plain data for whoever performs the calls."""
    return json.dumps(options, separators=(",", ":"))


def envelope(calls: Sequence[EncodedCall], options: str = "{}") -> bytes:
    """Return the envelope of calls that go together.

    Raises:
        Refused: with reason ``"bad-request"``: these are more chains than may be sent.
    """
    plain, pickled, chains = zip(*calls, strict=True) if calls else ((), (), ())
    count = sum(chains)
    if not 1 <= count <= MAX_CHAINS:
        raise malformed(f"{count} chains are to be sent; 1 to {MAX_CHAINS} may")
    head = f'[{VERSION},"{PYTHON}",{options},[{",".join(plain)}]]'.encode()
    return b"".join((LENGTH.pack(len(head)), head, *pickled))


def _store(pickled: list[Any], value: Any) -> int:
    pickled.append(value)
    return len(pickled) - 1


def _locate(root: Any) -> str | None:
    """Return module and qualified name, encoded, if walking them gives the very same object, else None."""
    kind = type(root)  # not isinstance, which asks the object for its class: Django's lazy ones answer with a query
    if issubclass(kind, pickling.BY_NAME):
        module, name = root.__module__, root.__qualname__
    elif issubclass(kind, types.ModuleType):
        module, name = root.__name__, ""
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
    if module == "__main__" or not is_location([module, name]):
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
    return explanations.get(type(error)) or f"{type_name(error)}: {text_of(error)}"


explanations: dict[type[BaseException], str] = {}
"""What to say in place of an exception because of which something cannot be sent, where there is better advice."""


# --- what either side holds to ----------------------------------------------------------------------------------------


def malformed(message: str) -> Refused:
    return Refused(message, reason="bad-request")


def is_location(value: Any) -> bool:
    if type(value) is not list or len(value) != 2 or not type(value[0]) is type(value[1]) is str:
        return False
    module, name = value
    return all(map(str.isidentifier, module.split("."))) and (not name or all(map(is_plain_name, name.split("."))))


@functools.lru_cache(maxsize=1024)  # by names of attributes, which are few; those of hostile requests go again
def is_plain_name(name: str) -> bool:
    return name.isidentifier() and not (name.startswith("__") and name.endswith("__"))
