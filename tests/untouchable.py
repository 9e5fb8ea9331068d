"""Objects that fail the test as soon as any code of theirs runs: reading one might be a query, and on the loop."""

from __future__ import annotations

import collections
import datetime as dt
import functools
import types
from dataclasses import dataclass, field
from typing import Any

import pytest


def ran(*args: object) -> Any:
    raise AssertionError("code of the user's ran")


TOUCHED = ["__repr__", "__str__", "__format__", "__eq__", "__lt__", "__bool__", "__len__", "__iter__", "__getattr__"]
TOUCHED += ["__copy__", "__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__getitem__", "__contains__"]


def untouchable(name: str = "Untouchable", *bases: type, hashable: bool = False, **members: Any) -> type:
    """Return a class whose instances fail the test as soon as anything of theirs is run."""
    body = {**dict.fromkeys(TOUCHED, ran), "__class__": property(ran), "__getattribute__": ran, "__call__": ran}
    return type(name, bases, {**body, "__hash__": object.__hash__ if hashable else ran, **members})


Key = untouchable("Key", hashable=True)


class Zone(dt.tzinfo):
    __repr__ = utcoffset = dst = tzname = ran


@dataclass
class Box:
    """A dataclass, which is looked into, the methods of which are not to run."""

    held: Any = None
    unset: Any = field(init=False)

    __repr__ = __eq__ = __hash__ = __getattr__ = __copy__ = __getstate__ = ran  # type: ignore[assignment]


@dataclass
class PropertyBox(Box):
    """One whose field is a property by now."""


PropertyBox.unset = property(ran)  # type: ignore[assignment]


@dataclass(slots=True)
class SlottedBox:
    held: Any = None
    unset: Any = field(init=False)

    def __getattr__(self, name: str) -> Any:
        ran()


UNTOUCHABLE = {
    "object": untouchable()(),
    "object that hides its attributes": untouchable(__dict__=property(ran))(),
    "object without attributes": untouchable(__slots__=())(),
    "in a list": [untouchable()()],
    "in a dict": {1: untouchable()()},
    "as keys": {Key(): 1, Key(): 2},
    "in a set": {Key(), Key()},
    "in a frozenset": frozenset({Key(), Key()}),
    "in dict values": {1: untouchable()()}.values(),
    "in a deque": collections.deque([untouchable()()]),
    "in a mapping proxy": types.MappingProxyType({1: untouchable()()}),
    "in a slice": slice(untouchable()(), untouchable()(), untouchable()()),
    "in a partial": functools.partial(ran, untouchable()()),
    "in a dataclass": Box([untouchable()()]),
    "in a dataclass with a property": PropertyBox([untouchable()()]),
    "in a dataclass with slots": SlottedBox([untouchable()()]),
    "time zone": dt.datetime(2011, 2, 3, tzinfo=Zone()),
    **{f"subclass of {kind.__name__}": untouchable("Sub", kind)() for kind in (list, tuple, dict, set, str, int)},
    **{f"class named {name}": untouchable(name)() for name in ("list", "tuple", "dict", "set", "str", "int")},
}

everything_untouchable = pytest.mark.parametrize("where", UNTOUCHABLE)
