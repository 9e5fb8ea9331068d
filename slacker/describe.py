"""Values as code, for `repr` and messages, without running anything of the user's: a ``__repr__`` may be a query.

Only types known to be harmless are asked for their repr, and no object is asked for anything before its type is
known. Hence issubclass(type(x), ...) and not isinstance, which falls back on ``x.__class__``: Django's lazy objects,
`request.user` for one, answer that with a query.
"""

from __future__ import annotations

import datetime as dt
import enum
import types
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, TypeAlias

from .nesting import PLAIN

__all__ = ["MOST", "Known", "describe", "describe_key", "name_of"]

_LONGEST = 80
"""Characters shown of one value."""

MOST = 6
"""Members shown of one container."""

_DEEPEST = 4
"""Containers shown inside one another."""

_BRACKETS: dict[type, Any] = {list: "[]", tuple: "()", dict: "{}", set: "{}", frozenset: ("frozenset({", "})")}

_NAMED = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)

_HARMLESS = frozenset({"datetime", "decimal", "fractions", "ipaddress", "pathlib", "re", "uuid", "zoneinfo"})
"""Modules of the standard library whose types write only what they are made of."""


Known: TypeAlias = Mapping[type, Callable[[Any], str]]
"""How values of some types read, for whoever knows better."""

_NOTHING: Known = types.MappingProxyType({})


def describe(value: Any, known: Known = _NOTHING, levels: int = _DEEPEST) -> str:
    """Return `value` as code, shortened; for an object of a type that is not known, ``Type(...)``."""
    kind = type(value)
    if kind in known:
        return known[kind](value)
    if kind in _BRACKETS:
        return _describe_members(value, known, levels)
    if kind is slice:
        return f"slice({', '.join([describe(part, known, levels) for part in (value.start, value.stop, value.step)])})"
    if issubclass(kind, _NAMED):
        return name_of(value)
    if issubclass(kind, enum.Enum) and value._name_ is not None:
        return f"{kind.__name__}.{value._name_}"
    if _is_harmless(value, kind):
        start = value[: _LONGEST + 1] if kind in (str, bytes, bytearray) else value
        try:
            text = repr(start)
        except ValueError:  # an int of thousands of digits
            return f"{kind.__qualname__}(...)"
        return text if len(text) <= _LONGEST + 2 else f"{text[:_LONGEST]}..."
    return f"{kind.__qualname__}(...)"


def _describe_members(value: Any, known: Known, levels: int) -> str:
    kind = type(value)
    if not value:
        return repr(value)
    opening, closing = _BRACKETS[kind]
    if not levels:
        return f"{opening}...{closing}"
    if kind is dict:
        pairs = islice(value.items(), MOST)
        shown = [f"{describe(key, known, levels - 1)}: {describe(part, known, levels - 1)}" for key, part in pairs]
    else:
        shown = [describe(member, known, levels - 1) for member in islice(value, MOST)]
    if kind in (set, frozenset):
        shown.sort()
    if len(value) > MOST:
        shown.append("...")
    alone = "," if kind is tuple and len(value) == 1 else ""
    return f"{opening}{', '.join(shown)}{alone}{closing}"


def describe_key(key: Any, known: Known = _NOTHING) -> str:
    """Return `key`, or one of several keys, as it stands in brackets: a slice with colons."""
    if type(key) is not slice:
        return describe(key, known)
    bounds = ["" if bound is None else describe(bound, known) for bound in (key.start, key.stop)]
    return ":".join(bounds if key.step is None else [*bounds, describe(key.step, known)])


def _is_harmless(value: Any, kind: type) -> bool:
    if kind in (dt.datetime, dt.time):  # these write their time zone's repr
        kind = type(value.tzinfo)
    return kind in PLAIN or kind.__module__.partition(".")[0] in _HARMLESS


def name_of(root: Any) -> str:
    kind = type(root)
    if kind is types.MethodType:
        root = root.__func__
    try:  # what the object itself has, past any ``__getattr__`` of its class
        name = object.__getattribute__(root, "__name__" if issubclass(kind, types.ModuleType) else "__qualname__")
    except AttributeError:
        name = None
    return name if type(name) is str else f"{kind.__qualname__}(...)"
