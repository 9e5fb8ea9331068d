"""Requests, as they arrive: names, numbers and limits are checked before anything is unpickled. See
`slacker.wire.requests` for what they hold.
"""

from __future__ import annotations

import importlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from ..chain import AS_USUAL, Attr, Batch, Call, Chain, Item, Options, Step
from ..errors import Refused
from ..outcome import text_of, type_name
from . import pickling
from .requests import LENGTH, MAX_CHAINS, MAX_STEPS, PYTHON, VERSION, is_location, is_plain_name, malformed

__all__ = ["Head", "PlainCall", "read_head"]


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
            raise malformed(f"the request cannot be read here{skew}: {type_name(error)}: {text_of(error)}") from error


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
        (length,) = LENGTH.unpack_from(envelope)
        head = json.loads(envelope[LENGTH.size : LENGTH.size + length].decode())
    except (struct.error, ValueError, RecursionError) as error:
        raise malformed(f"this is no envelope: {type_name(error)}") from None
    if not isinstance(head, list) or not head or type(head[0]) is not int:
        raise malformed("the head does not begin with a version")
    if head[0] != VERSION:
        raise Refused(f"wire version {head[0]!r:.20} came, this side speaks {VERSION}", reason="version")
    if list(map(type, head)) != [int, str, dict, list]:
        raise malformed("the head is not of the form version, release, options, calls")
    _, python, options, calls = head
    if "max_reply" in options and not _is_number(options["max_reply"]):
        raise malformed("max_reply is not a number of bytes")
    _check_options({name: options[name] for name in _OF_A_CALL.keys() & options.keys()})
    return Head(python, options, _apart(calls, memoryview(envelope)[LENGTH.size + length :]))


def _apart(calls: list[Any], arguments: memoryview) -> list[PlainCall]:
    plain_calls, end, count = [], 0, 0
    for call in calls:
        if type(call) is not list or len(call) < 3 or not _is_number(call[0]) or type(call[1]) is not dict:
            raise malformed("a call is not of the form length, options, chain, nested chains")
        length, options, *chains = call
        count += len(chains)
        begin, end = end, end + length
        _check_options(options)
        for number, chain in enumerate(chains):
            _check_chain(chain, number, len(chains))
        plain_calls.append(PlainCall(options, chains, arguments[begin:end]))
    if end != len(arguments):
        raise malformed(f"{len(arguments)} bytes of arguments came where the head says {end}")
    if not 1 <= count <= MAX_CHAINS:
        raise malformed(f"{count} chains came; 1 to {MAX_CHAINS} may")
    return plain_calls


def _check_options(options: dict[str, Any]) -> None:
    for name, value in options.items():
        if name not in _OF_A_CALL or not _OF_A_CALL[name](value):
            raise malformed(f"there is an option that is not known, or not of its type: {name!r:.100}")


def _check_chain(plain: Any, number: int, count: int) -> None:
    if type(plain) is not list or not 2 <= len(plain) <= MAX_STEPS + 2:
        raise malformed(f"a chain must be a root, what is nested, and at most {MAX_STEPS} steps")
    root, nested, *steps = plain
    if not (is_location(root) or _is_number(root) or _is_batch(root)):
        raise malformed("the root of a chain is neither a name nor a number, nor a batch")
    if type(nested) is not list or not all(_is_number(inner) and number < inner < count for inner in nested):
        raise malformed("what is nested in a chain is no later chain of its call")
    if _is_batch(root) and not 1 <= root[0] <= len(nested):
        raise malformed("a batch is not of as many items as are nested in it")
    for step in steps:
        if not _is_step(step):
            shown = step if type(step) is str else type(step).__name__
            raise malformed(f"a step is not one that may be sent: {shown!r:.100}")


def _is_step(step: Any) -> bool:
    if type(step) is str:
        return is_plain_name(step)
    if type(step) is list:
        return len(step) == 1 and _is_number(step[0])
    return type(step) is int and step >= -1


def _is_number(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_batch(value: Any) -> bool:
    return type(value) is list and list(map(type, value)) == [int, bool]


_OF_A_CALL: dict[str, Callable[[Any], bool]] = {
    "deadline": lambda moment: _is_number(moment) and moment < 1 << 53,
    "atomic": lambda alias: type(alias) is str,
    "stream": lambda size: _is_number(size) and size > 0,
}
"""Options of a call, and what tells whether they can be."""


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
