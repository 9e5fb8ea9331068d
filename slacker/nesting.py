"""Looking through arguments: what is, or holds, a recipe, and putting something else in its place.

One pair of functions tells what may hold recipes: `parts_of` gives the values to look at, `rebuilt` makes the like with
other values. Both dispatch on the type (`functools.singledispatch`), and know list, tuple, dict, set, frozenset,
deque, slice, their subclasses, and dataclasses; ``slacker.django_backend.expressions`` registers Django's ``Q`` and
expressions. No other object is looked through: a QuerySet leads into its model's ``_meta`` without end. Register a type
of yours in the module that defines it: where its objects are sent to, it must be known as well.

It all runs on the caller's loop. So types are asked, not values: a container of what cannot hold any, however long,
costs a pass or two in C.
"""

from __future__ import annotations

import copy
import inspect
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import singledispatch
from typing import Any, TypeAlias

__all__ = ["PLAIN", "Replace", "are_plain", "find", "parts_of", "rebuilt", "replace", "surveyed"]


PLAIN: frozenset[type] = frozenset({bool, int, float, complex, str, bytes, bytearray, type(None), type(...), range})

are_plain = PLAIN.issuperset
"""Whether none of some types can be, or hold, what is sought: a quick answer before anything else."""

Replace: TypeAlias = Callable[[Any], Any]


# --- what can hold them ----------------------------------------------------------------------------------------------


@singledispatch
def parts_of(value: Any) -> Iterable[Collection[Any]]:
    """Return the values that `value` holds, as one or more collections; empty for what is not looked through."""
    return ([part for _name, part in _fields(value)],) if is_dataclass(type(value)) else ()


@singledispatch
def rebuilt(value: Any, replace: Replace) -> Any:
    """Return the like of `value`, with `replace(part)` for each value that it holds; `value` itself stays as it is."""
    same = copy.copy(value)
    for name, part in _fields(value):
        object.__setattr__(same, name, replace(part))  # past a frozen dataclass's refusal
    return same


@parts_of.register(list)
@parts_of.register(tuple)
@parts_of.register(set)
@parts_of.register(frozenset)
def _(value: Any) -> Iterable[Collection[Any]]:
    kind = type(value)
    if kind in _PLAIN_CONTAINERS:
        return (value,)
    base: Any = next(base for base in _PLAIN_CONTAINERS if issubclass(kind, base))
    return (list(base.__iter__(value)),)  # past whatever a subclass makes of iteration: that may be a query


_PLAIN_CONTAINERS: tuple[type, ...] = (list, tuple, set, frozenset)


@parts_of.register
def _(value: dict) -> Iterable[Collection[Any]]:  # type: ignore[type-arg]  # registered for what is annotated
    return dict.keys(value), dict.values(value)


@parts_of.register
def _(value: slice) -> Iterable[Collection[Any]]:
    return ((value.start, value.stop, value.step),)


@rebuilt.register(list)
def _(value: Any, replace: Replace) -> Any:
    same = copy.copy(value)
    same[:] = [replace(item) for item in list.__iter__(value)]
    return same


@rebuilt.register(tuple)
def _(value: Any, replace: Replace) -> Any:
    return tuple.__new__(type(value), [replace(item) for item in tuple.__iter__(value)])


@rebuilt.register(set)
@rebuilt.register(frozenset)
def _(value: Any, replace: Replace) -> Any:
    (items,) = parts_of(value)
    return type(value)([replace(item) for item in items])


@rebuilt.register(dict)
def _(value: Any, replace: Replace) -> Any:
    replaced = [(replace(key), replace(part)) for key, part in dict.items(value)]
    same = copy.copy(value)  # of its own class, with the default factory, for example, that it may have
    same.clear()
    # As it is kept, whatever the class makes of assignment or update: a MultiValueDict a list, a Counter a sum.
    put: Any = OrderedDict.__setitem__ if isinstance(same, OrderedDict) else dict.__setitem__
    for key, part in replaced:
        put(same, key, part)
    return same


@parts_of.register
def _(value: deque) -> Iterable[Collection[Any]]:  # type: ignore[type-arg]  # as above
    return ([*deque.__iter__(value)],)


@rebuilt.register(deque)
def _(value: Any, replace: Replace) -> Any:
    items = [replace(item) for item in deque.__iter__(value)]
    same = copy.copy(value)
    deque.clear(same)
    deque.extend(same, items)
    return same


@rebuilt.register(slice)
def _(value: Any, replace: Replace) -> Any:
    return slice(replace(value.start), replace(value.stop), replace(value.step))


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fields that are set, past a property, a class of its own or a ``__getattr__``: those may be queries."""
    for name in [field.name for field in fields(value)]:
        held = inspect.getattr_static(value, name, _UNSET)
        if isinstance(held, types.MemberDescriptorType):  # of a class with slots
            try:
                held = held.__get__(value)
            except AttributeError:
                continue
        if held is not _UNSET:
            yield name, held


_UNSET = object()


# --- looking and replacing -------------------------------------------------------------------------------------------


def surveyed(values: Collection[Any]) -> Iterator[tuple[type, Collection[Any], bool]]:
    """Yield each type that `values` and what they hold are of, with values among which it occurs, and whether it is
    looked through.
    """
    todo = [values]
    seen: set[int] = set()
    while todo:
        part = todo.pop()
        for kind in set(map(type, part)) - PLAIN:
            look = parts_of.dispatch(kind)
            opens = look is not _nothing_known or is_dataclass(kind)
            yield kind, part, opens
            if opens:
                for value in part:
                    if type(value) is kind and id(value) not in seen:
                        seen.add(id(value))
                        todo += look(value)


_nothing_known = parts_of.dispatch(object)


def find(values: Collection[Any], is_sought: Callable[[type], bool]) -> Any:
    """Return what is, or is held by, one of `values` and of a type for which `is_sought` is true; None if there is
    none.
    """
    if are_plain(map(type, values)):
        return None
    for kind, part, _opens in surveyed(values):
        if is_sought(kind):
            return next(value for value in part if type(value) is kind)
    return None


def replace(value: Any, is_sought: Callable[[type], bool], put: Replace) -> Any:
    """Return `value` with `put(x)` for each x that `find` would find in it; what holds none of them stays the same
    object, and what occurs twice is the same object in both places still.

    Raises:
        TypeError: what holds one contains itself.
    """
    done: dict[int, tuple[Any, Any]] = {}  # by id(): what it is, to keep it alive, and what stands in its place

    def replaced(part: Any) -> Any:
        kind = type(part)
        if kind in PLAIN:
            return part
        if is_sought(kind):
            return put(part)
        if id(part) not in done:
            done[id(part)] = part, _OPEN
            done[id(part)] = part, part if find((part,), is_sought) is None else rebuilt(part, replaced)
        new = done[id(part)][1]
        if new is _OPEN:
            raise TypeError(f"a {kind.__name__} that holds a recipe contains itself")
        return new

    return replaced(value)


_OPEN = object()
