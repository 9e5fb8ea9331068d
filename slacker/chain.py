"""What was recorded, as plain data: a root object and the steps to take from it.

    Slacker(User).objects.filter(is_staff=True)[:5]      the proxy records ...
    Chain(User, (Attr("objects"), Attr("filter"), Call((), {"is_staff": True}), Item(slice(None, 5))))

Rules of this module: everything is immutable; a step knows how to apply itself and how it reads; nothing here has
heard of proxies, loops, pickling or Django. Reading a chain (`repr`, `outline`) never runs anything of the
user's: an argument's own ``__repr__`` may be a database query.
"""

from __future__ import annotations

import datetime as dt
import enum
import importlib
import inspect
import types
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields, is_dataclass
from itertools import islice
from typing import Any, TypeAlias, final

__all__ = ["Attr", "Call", "Chain", "Item", "Recipe", "Replay", "Step", "are_plain", "find_unfinished"]


class Recipe:
    """Base of the recording proxy: lets a chain recognise one among its arguments without importing it."""

    __slots__ = ()


# The constructors are written out: those of frozen dataclasses cost twice as much, and chains are made while users'
# loops wait.


@final
@dataclass(frozen=True, slots=True, repr=False, init=False)
class Attr:
    """The step ``.name``."""

    name: str

    def __init__(self, name: str) -> None:
        _set_name(self, name)

    def apply(self, target: Any) -> Any:
        return getattr(target, self.name)

    def __repr__(self) -> str:
        return f".{self.name}"

    def outline(self) -> str:
        return f".{self.name}"


@final
@dataclass(frozen=True, slots=True, repr=False, init=False)
class Call:
    """The step ``(*args, **kwargs)``. The arguments are kept as they were given, not copied."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        _set_args(self, args)
        _set_kwargs(self, kwargs)

    def apply(self, target: Any) -> Any:
        return target(*self.args, **self.kwargs)

    def __repr__(self) -> str:
        shown = [_describe(value) for value in self.args]
        shown += [f"{name}={_describe(value)}" for name, value in self.kwargs.items()]
        return f"({', '.join(shown)})"

    def outline(self) -> str:
        return "(...)" if self.args or self.kwargs else "()"


@final
@dataclass(frozen=True, slots=True, repr=False, init=False)
class Item:
    """The step ``[key]``; a slice is a key like any other."""

    key: Any

    def __init__(self, key: Any) -> None:
        _set_key(self, key)

    def apply(self, target: Any) -> Any:
        return target[self.key]

    def __repr__(self) -> str:
        keys = self.key if type(self.key) is tuple and self.key else (self.key,)
        return f"[{', '.join(map(_describe_key, keys))}{',' if keys is self.key and len(keys) == 1 else ''}]"

    def outline(self) -> str:
        return "[...]"


_set_name = Attr.__dict__["name"].__set__
_set_args = Call.__dict__["args"].__set__
_set_kwargs = Call.__dict__["kwargs"].__set__
_set_key = Item.__dict__["key"].__set__

Step: TypeAlias = Attr | Call | Item


@final
@dataclass(frozen=True, slots=True, repr=False, init=False)
class Chain:
    """A root object and the steps to take from it.

    Picklable with plain `pickle` when root and arguments are; a module as root travels by name.
    """

    root: Any
    steps: tuple[Step, ...]

    def __init__(self, root: Any, steps: tuple[Step, ...] = ()) -> None:
        _set_root(self, root)
        _set_steps(self, steps)

    def replay(self, base: Any = None) -> Any:
        """Take the steps, here and now, and return what the last one gives.

        Args:
            base: another object to start from; None starts from the root.

        Raises:
            Whatever a step raises, unchanged.
        """
        return Replay(self, base).run()

    def outline(self) -> str:
        """Return the chain as code with the argument values left out, for logs: they may be passwords."""
        return _name(self.root) + "".join([step.outline() for step in self.steps])

    def label(self, number: int) -> str:
        """Return how step `number` (from 1) reads in a message: ``.filter`` for the attribute and for its call."""
        step = self.steps[number - 1]
        if isinstance(step, Call):
            if number == 1:
                return _name(self.root)
            if isinstance(called := self.steps[number - 2], Attr):
                return called.outline()
        return step.outline()

    def __repr__(self) -> str:
        return f"<Chain {self}>"

    def __str__(self) -> str:
        return _name(self.root) + "".join(map(repr, self.steps))

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self.root, types.ModuleType):
            return _chain_from_module, (self.root.__name__, self.steps)
        return Chain, (self.root, self.steps)


_set_root = Chain.__dict__["root"].__set__
_set_steps = Chain.__dict__["steps"].__set__


def _chain_from_module(name: str, steps: tuple[Step, ...]) -> Chain:
    return Chain(importlib.import_module(name), steps)


@final
class Replay:
    """One run of a chain; afterwards `step` tells how far it came (0: no step was begun)."""

    __slots__ = ("base", "chain", "step")

    def __init__(self, chain: Chain, base: Any = None) -> None:
        self.chain = chain
        self.base = base
        self.step = 0

    def run(self) -> Any:
        """Take the steps and return what the last one gives; raise what a step raises."""
        target = self.chain.root if self.base is None else self.base
        for step in self.chain.steps:
            self.step += 1
            target = step.apply(target)
        return target


# --- Looking through arguments -------------------------------------------------------------------------------------

_PLAIN: frozenset[type] = frozenset({bool, int, float, complex, str, bytes, bytearray, type(None), type(...), range})


are_plain = _PLAIN.issuperset
"""Whether none of some types can be, or hold, a recipe or awaitable: a quick answer before `find_unfinished`."""


def find_unfinished(values: Collection[Any]) -> Any:
    """Return a recipe or awaitable that is, or is held by, one of `values`; None if there is none.

    Looks into list, tuple, dict (keys as well), set, frozenset, slice and dataclass instances, never into other
    objects: a QuerySet leads into its model's ``_meta`` without end. It runs on the caller's loop, so it asks types
    and not values: a container of what cannot hold any, however long, costs a pass or two in C.
    """
    if are_plain(map(type, values)):
        return None
    todo = [values]
    seen: set[int] = set()
    while todo:
        part = todo.pop()
        for kind in set(map(type, part)) - _PLAIN:
            if issubclass(kind, Recipe) or hasattr(kind, "__await__"):
                return next(value for value in part if type(value) is kind)
            parts_of = _PARTS_OF.get(kind) or _parts_of(kind)
            if parts_of is None:
                continue
            for value in part:
                if type(value) is kind and id(value) not in seen:
                    seen.add(id(value))
                    todo += parts_of(value)
    return None


_Parts: TypeAlias = Callable[[Any], Iterable[Collection[Any]]]

_PARTS_OF: dict[type, _Parts] = {
    **dict.fromkeys((list, tuple, set, frozenset), lambda value: (value,)),
    dict: lambda value: (value.keys(), value.values()),
    slice: lambda value: ((value.start, value.stop, value.step),),
}


def _parts_of(kind: type) -> _Parts | None:
    # Past whatever a subclass makes of iteration, and a class of its fields: that may be a query.
    if issubclass(kind, dict):
        return lambda value: (dict.keys(value), dict.values(value))
    base: Any = next((base for base in (list, tuple, set, frozenset) if issubclass(kind, base)), None)
    if base is not None:
        return lambda value: (list(base.__iter__(value)),)
    if is_dataclass(kind):
        names = [field.name for field in fields(kind)]
        return lambda value: ([_field(value, name) for name in names],)
    return None


def _field(value: Any, name: str) -> Any:
    held = inspect.getattr_static(value, name, None)
    return getattr(value, name, None) if isinstance(held, types.MemberDescriptorType) else held


# --- Reading without running ---------------------------------------------------------------------------------------

# Only types known to be harmless are asked for their repr, and no object is asked for anything before its type is
# known. Hence issubclass(type(x), ...) and not isinstance, which falls back on ``x.__class__``: Django's lazy objects,
# `request.user` for one, answer that with a query.

_LONGEST = 80
"""Characters shown of one value."""

_MOST = 6
"""Members shown of one container."""

_DEEPEST = 4
"""Containers shown inside one another."""

_BRACKETS: dict[type, Any] = {list: "[]", tuple: "()", dict: "{}", set: "{}", frozenset: ("frozenset({", "})")}

_NAMED = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)

_HARMLESS = frozenset({"datetime", "decimal", "fractions", "ipaddress", "pathlib", "re", "uuid", "zoneinfo"})
"""Modules of the standard library whose types write only what they are made of."""


def _describe(value: Any, levels: int = _DEEPEST) -> str:
    """Return `value` as code, shortened; for an object of a type that is not known, ``Type(...)``."""
    kind = type(value)
    if kind in _BRACKETS:
        return _describe_members(value, levels)
    if kind is slice:
        return f"slice({', '.join([_describe(part, levels) for part in (value.start, value.stop, value.step)])})"
    if issubclass(kind, _NAMED):
        return _name(value)
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


def _describe_members(value: Any, levels: int) -> str:
    kind = type(value)
    if not value:
        return repr(value)
    opening, closing = _BRACKETS[kind]
    if not levels:
        return f"{opening}...{closing}"
    if kind is dict:
        shown = [f"{_describe(k, levels - 1)}: {_describe(v, levels - 1)}" for k, v in islice(value.items(), _MOST)]
    else:
        shown = [_describe(member, levels - 1) for member in islice(value, _MOST)]
    if kind in (set, frozenset):
        shown.sort()
    if len(value) > _MOST:
        shown.append("...")
    alone = "," if kind is tuple and len(value) == 1 else ""
    return f"{opening}{', '.join(shown)}{alone}{closing}"


def _describe_key(key: Any) -> str:
    if type(key) is not slice:
        return _describe(key)
    bounds = ["" if bound is None else _describe(bound) for bound in (key.start, key.stop)]
    return ":".join(bounds if key.step is None else [*bounds, _describe(key.step)])


def _is_harmless(value: Any, kind: type) -> bool:
    if kind in (dt.datetime, dt.time):  # these write their time zone's repr
        kind = type(value.tzinfo)
    return kind in _PLAIN or kind.__module__.partition(".")[0] in _HARMLESS


def _name(root: Any) -> str:
    kind = type(root)
    if kind is types.MethodType:
        root = root.__func__
    try:  # what the object itself has, past any ``__getattr__`` of its class
        name = object.__getattribute__(root, "__name__" if issubclass(kind, types.ModuleType) else "__qualname__")
    except AttributeError:
        name = None
    return name if type(name) is str else f"{kind.__qualname__}(...)"
