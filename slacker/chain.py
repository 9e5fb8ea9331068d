"""What was recorded, as plain data: a root object and the steps to take from it.

    Slacker(User).objects.filter(is_staff=True)[:5]      the proxy records ...
    Chain(User, (Attr("objects"), Attr("filter"), Call((), {"is_staff": True}), Item(slice(None, 5))))

Rules of this module: everything is immutable; a step knows how to apply itself and how it reads; nothing here has
heard of proxies, loops, pickling or Django. Reading a chain (`repr`, `outline`) never runs anything of the
user's: an argument's own ``__repr__`` may be a database query.
"""

from __future__ import annotations

import enum
import importlib
import reprlib
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, final

__all__ = ["Attr", "Call", "Chain", "Item", "Recipe", "Replay", "Step", "find_unfinished"]


class Recipe:
    """Base of the recording proxy: lets a chain recognise one among its arguments without importing it."""

    __slots__ = ()


@final
@dataclass(frozen=True, slots=True, repr=False)
class Attr:
    """The step ``.name``."""

    name: str

    def apply(self, target: Any) -> Any:
        return getattr(target, self.name)

    def __repr__(self) -> str:
        return f".{self.name}"

    def outline(self) -> str:
        return f".{self.name}"


@final
@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """The step ``(*args, **kwargs)``. The arguments are kept as they were given, not copied."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def apply(self, target: Any) -> Any:
        return target(*self.args, **self.kwargs)

    def __repr__(self) -> str:
        shown = [_describe(value) for value in self.args]
        shown += [f"{name}={_describe(value)}" for name, value in self.kwargs.items()]
        return f"({', '.join(shown)})"

    def outline(self) -> str:
        return "(...)" if self.args or self.kwargs else "()"


@final
@dataclass(frozen=True, slots=True, repr=False)
class Item:
    """The step ``[key]``; a slice is a key like any other."""

    key: Any

    def apply(self, target: Any) -> Any:
        return target[self.key]

    def __repr__(self) -> str:
        keys = self.key if type(self.key) is tuple and self.key else (self.key,)
        return f"[{', '.join(map(_describe_key, keys))}{',' if keys is self.key and len(keys) == 1 else ''}]"

    def outline(self) -> str:
        return "[...]"


Step: TypeAlias = Attr | Call | Item


@final
@dataclass(frozen=True, slots=True, repr=False)
class Chain:
    """A root object and the steps to take from it.

    Picklable with plain `pickle` when root and arguments are; a module as root travels by name.
    """

    root: Any
    steps: tuple[Step, ...] = ()

    def replay(self, base: Any = None) -> Any:
        """Take the steps, here and now, and return what the last one gives.

        Args:
            base: another object to start from instead of the root.

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


def find_unfinished(values: Iterable[Any]) -> Any:
    """Return the first recipe or awaitable among `values`, or None.

    Looks into list, tuple, dict (keys as well), set, frozenset, slice and dataclass instances, never into other
    objects: a QuerySet leads into its model's ``_meta`` without end. Containers of plain values cost one pass in C.
    """
    todo = [value for value in values if type(value) not in _PLAIN]
    seen: set[int] = set()
    while todo:
        value = todo.pop()
        kind = type(value)
        if issubclass(kind, Recipe) or hasattr(kind, "__await__"):
            return value
        if id(value) in seen:
            continue
        seen.add(id(value))
        for part in _parts(value, kind):
            if not _PLAIN.issuperset(set(map(type, part))):
                todo.extend([item for item in part if type(item) not in _PLAIN])
    return None


def _parts(value: Any, kind: type) -> tuple[Iterable[Any], ...]:
    if issubclass(kind, list | tuple | set | frozenset):
        return (value,)
    if issubclass(kind, dict):
        return (value.keys(), value.values())
    if kind is slice:
        return ((value.start, value.stop, value.step),)
    if hasattr(kind, "__dataclass_fields__"):
        return ([getattr(value, name, None) for name in kind.__dataclass_fields__],)
    return ()


# --- Reading without running ---------------------------------------------------------------------------------------


class _Describe(reprlib.Repr):
    """The standard library's bounded repr, which here asks only types it knows to be harmless."""

    _HARMLESS = frozenset({"datetime", "decimal", "fractions", "ipaddress", "pathlib", "re", "uuid", "zoneinfo"})

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 80
        self.maxlevel = 4

    def repr_instance(self, x: Any, level: int) -> str:
        kind = type(x)
        if isinstance(x, Recipe | Chain):
            return repr(x)
        if isinstance(x, slice):
            return f"slice({', '.join(self.repr1(part, level - 1) for part in (x.start, x.stop, x.step))})"
        if isinstance(x, enum.Enum):
            return f"{kind.__name__}.{x.name}"
        if isinstance(x, type | types.FunctionType | types.BuiltinFunctionType | types.MethodType | types.ModuleType):
            return _name(x)
        if kind in _PLAIN or kind.__module__ in self._HARMLESS:
            return super().repr_instance(x, level)
        return f"{kind.__qualname__}(...)"


_describe = _Describe().repr


def _describe_key(key: Any) -> str:
    if not isinstance(key, slice):
        return _describe(key)
    bounds = ["" if bound is None else _describe(bound) for bound in (key.start, key.stop)]
    return ":".join(bounds if key.step is None else [*bounds, _describe(key.step)])


def _name(root: Any) -> str:
    if isinstance(root, types.ModuleType):
        return root.__name__
    name = getattr(root, "__qualname__", None) if callable(root) else None
    return name if isinstance(name, str) else f"{type(root).__qualname__}(...)"
