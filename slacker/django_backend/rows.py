"""Rows for the wire: model instances as columns, taken apart and rebuilt without a step of the interpreter's for each.

    rows --pack--> Packed --pickle--> bytes --unpickle, which calls `_rebuild`--> rows

Django pickles an instance by methods in Python, which copy its state twice, compare releases, and send the names of all
fields along each time. Here the instances of a model that have the same attributes are a table: its columns are pickled
(see `columns`), and instances made of them by `map` over functions of C. Related objects and those of prefetched lists
are tables too, and rows refer to them by number: what was one object stays one, and cycles are no matter.

What comes back is equal: the class, `__dict__` with its order, `_state` but for weak references to peers, and which
objects are the same. No constructor, descriptor or signal is called, nor are they by Django's own unpickling. To that
is left what is unusual in any way: models with pickling of their own, rows that differ in their attributes or in where
they come from, values that may lead to rows, prefetched QuerySets.
"""

from __future__ import annotations

import copyreg
import gc
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice, repeat
from operator import attrgetter, setitem
from typing import Any, Final, final

from django.apps import apps
from django.db.models import Model
from django.db.models.base import ModelState

from .columns import Unusual, drain, one_of, pack_column, unpack_column

__all__ = ["pack"]

LEAST: Final = 16
"""Rows from which on columns take the loop, which loads them, less time than pickle does."""

_STATE: Final = frozenset({"adding", "db", "fetch_mode", "fields_cache", "peers"})
"""What Django keeps in `_state`. More is somebody else's."""
_NOT_SHARED: Final = frozenset({"fields_cache", "peers"})
"""Of that, what each row has for itself: related objects, and weak references, which pickle leaves out as well."""

_PICKLING: Final = ("__new__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
"""Methods by which a class may change how it pickles."""


@final
class Packed:
    """Pickles what was taken apart, and unpickles as what it was made of."""

    __slots__ = ("_parts",)

    def __init__(self, *parts: object) -> None:
        self._parts = parts

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return _rebuild, self._parts


def pack(value: Any) -> Any:
    """Return what pickles, by plain `pickle`, faster and smaller than `value`, and unpickles as an equal of it.

    Lists and tuples of model instances are packed. Anything else is returned as it is.
    """
    if type(value) in (list, tuple) and len(value) >= LEAST and isinstance(value[0], Model):
        try:
            return _pack(value)
        except Unusual:
            pass
    return value


# --- taking apart ----------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class _Table:
    """Instances of one model with the same attributes, taken apart.

    Args:
        model: label of the app and name of the model.
        size: how many instances.
        columns: by attribute, in order, packed. None for `_state` and for what is in `lists`.
        lists: attributes that are lists of instances, as `to_attr` makes them.
        state: by attribute of `_state`, in order, the value that all have. None for `fields_cache`.
        relations: by name within `fields_cache`.
    """

    model: tuple[str, str]
    size: int
    columns: dict[str, object]
    lists: dict[str, tuple[list[Model], ...]]
    state: dict[str, object]
    relations: dict[str, tuple[Model | None, ...]]

    def neighbours(self) -> Iterator[Model | None]:
        """Return the instances found in these ones, many of them more than once."""
        yield from chain.from_iterable(self.relations.values())
        yield from chain.from_iterable(chain.from_iterable(self.lists.values()))

    def numbered(self, numbers: _Numbers) -> tuple[object, ...]:
        """Return what `_rebuild` takes, where numbers stand for instances."""
        lists = {
            name: (list(map(len, column)), numbers.of(list(chain.from_iterable(column))))
            for name, column in self.lists.items()
        }
        relations = {name: numbers.of(column) for name, column in self.relations.items()}
        return self.model, self.size, self.columns, lists, self.state, relations


class _Numbers(dict[int, int]):
    """The number of each instance, counted through all tables, by its id. None has the number -1."""

    def __init__(self) -> None:
        super().__init__({id(None): -1})

    def add(self, rows: Sequence[Model]) -> None:
        self.update(zip(map(id, rows), count(len(self) - 1)))

    def of(self, rows: Sequence[Model | None]) -> Sequence[int]:
        numbers = list(map(self.__getitem__, map(id, rows)))
        if not numbers or numbers[0] < 0:
            return numbers
        without_gaps = range(numbers[0], numbers[0] + len(numbers))  # which pickles in a few bytes
        return without_gaps if numbers == list(without_gaps) else numbers


def _pack(rows: Sequence[Any]) -> Packed:
    numbers = _Numbers()
    tables: list[_Table] = []
    found = rows
    while found:
        new = dict(zip(map(id, found), found, strict=True))
        for known in new.keys() & numbers.keys():
            del new[known]
        found = []
        for model in dict.fromkeys(map(type, new.values())):
            members = [row for row in new.values() if type(row) is model]
            numbers.add(members)
            table = _take_apart(model, members)
            tables.append(table)
            found += table.neighbours()
    return Packed([table.numbered(numbers) for table in tables], numbers.of(rows), type(rows) is tuple)


def _take_apart(model: type, rows: list[Any]) -> _Table:
    label = _label(model)
    columns: dict[str, Any] = _columns([*map(attrgetter("__dict__"), rows)])
    state, relations = _take_states_apart(columns.get("_state", ()))
    lists = {}
    for name, column in columns.items():
        if name == "_state":
            columns[name] = None
        elif type(column[0]) is list and _are_lists_of_rows(column):
            lists[name] = column
            columns[name] = None
        else:
            columns[name] = pack_column(column)
    return _Table(label, len(rows), columns, lists, state, relations)


def _take_states_apart(states: tuple[Any, ...]) -> tuple[dict[str, object], dict[str, tuple[Any, ...]]]:
    if set(map(type, states)) != {ModelState}:
        raise Unusual
    dicts = [*map(attrgetter("__dict__"), states)]
    shapes = dict.fromkeys(map(tuple, dicts))
    names = max(shapes, key=len)
    if not _STATE.issuperset(names) or len(set(names).union(*shapes)) > len(names):
        raise Unusual
    state = {name: one_of([*map(dict.get, dicts, repeat(name))]) for name in names if name not in _NOT_SHARED}
    if "fields_cache" not in names:
        return state, {}
    # It is made when it is first used, which is while a row is read if that has foreign keys that are not null. Rows
    # without it get an empty one, as from Django's own unpickling.
    caches = [*map(dict.get, dicts, repeat("fields_cache"), repeat({}))]
    if set(map(type, caches)) != {dict}:
        raise Unusual
    return {**state, "fields_cache": None}, _columns(caches)


def _columns(dicts: Sequence[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Return the values by key, in order; raise Unusual if there is a dict that has others."""
    shapes = set(map(tuple, dicts))
    names = shapes.pop()
    if shapes or not set(map(type, names)) <= {str}:
        raise Unusual
    return dict(zip(names, zip(*map(dict.values, dicts), strict=True), strict=True))


def _are_lists_of_rows(column: tuple[Any, ...]) -> bool:
    if set(map(type, column)) != {list} or len(set(map(id, column))) < len(column):
        return False
    types = set(map(type, chain.from_iterable(column)))
    return bool(types) and all(issubclass(found, Model) for found in types)


def _label(model: Any) -> tuple[str, str]:
    """Return by what name the other side finds `model`; raise Unusual if it is none or pickles in a way of its own."""
    if not issubclass(model, Model) or model in copyreg.dispatch_table or model.__basicsize__ != Model.__basicsize__:
        raise Unusual  # the size is that of more slots
    if any(getattr(model, name) is not getattr(Model, name) for name in _PICKLING):
        raise Unusual
    label = model._meta.app_label, model._meta.object_name
    if apps.all_models[label[0]].get(label[1].lower()) is not model:
        raise Unusual
    return label


# --- rebuilding ------------------------------------------------------------------------------------------------------


def _rebuild(tables: list[tuple[Any, ...]], order: Sequence[int], is_tuple: bool) -> Any:
    # Thousands of new objects, and none of them garbage: the collector would look through them again and again.
    collecting = gc.isenabled()
    gc.disable()
    try:
        models = [apps.get_model(*label) for label, *_ in tables]
        made: list[Any] = []
        for model, (_, size, columns, *_) in zip(models, tables, strict=True):
            made += _new(model, columns, size)
        made.append(None)
        start = 0
        for model, (_, size, columns, lists, state, relations) in zip(models, tables, strict=True):
            rows = made[start : start + size]
            start += size
            for name, column in columns.items():
                if name == "_state":
                    values: Sequence[Any] = _states(size, made, state, relations)
                elif name in lists:
                    values = _lists(made, *lists[name])
                else:
                    values = unpack_column(column)
                _assign(model, rows, sys.intern(name), values)
        rows = _pick(made, order)
        return tuple(rows) if is_tuple else rows
    finally:
        if collecting:
            gc.enable()


def _new(model: Any, names: Iterable[str], size: int) -> list[Any]:
    # Instances share the names of their attributes only if the first of its class gets them before others are made:
    # each that is made meanwhile takes away from the room for names. Without that they take twice the memory.
    first = object.__new__(model)
    attributes = first.__dict__
    for name in names:
        attributes[sys.intern(name)] = None
    return [first, *map(object.__new__, repeat(model, size - 1))]


def _assign(model: Any, rows: list[Any], name: str, values: Sequence[Any]) -> None:
    if model.__setattr__ is object.__setattr__ and not _is_heard_of(model, name):
        drain(map(setattr, rows, repeat(name), values))
    else:  # costs a dict for each row
        drain(map(setitem, map(attrgetter("__dict__"), rows), repeat(name), values))


def _is_heard_of(model: type, name: str) -> bool:
    """Tell whether a descriptor gets what is assigned, such as that of a foreign key."""
    for base in model.__mro__:
        if name in base.__dict__:
            kind = type(base.__dict__[name])
            return hasattr(kind, "__set__") or hasattr(kind, "__delete__")
    return False


def _lists(made: list[Any], lengths: list[int], numbers: Sequence[int]) -> list[list[Any]]:
    members = iter(_pick(made, numbers))
    return [list(islice(members, length)) for length in lengths]


def _states(size: int, made: list[Any], state: dict[str, Any], relations: dict[str, Sequence[int]]) -> list[ModelState]:
    states = _new(ModelState, state, size)
    for name, value in state.items():
        if name == "fields_cache":
            caches: list[dict[str, Any]] = [{} for _ in states]
            for relation, numbers in relations.items():
                drain(map(setitem, caches, repeat(sys.intern(relation)), _pick(made, numbers)))
            drain(map(setattr, states, repeat(sys.intern(name)), caches))
        else:
            drain(map(setattr, states, repeat(sys.intern(name)), repeat(value)))
    return states


def _pick(made: list[Any], numbers: Sequence[int]) -> list[Any]:
    if isinstance(numbers, range):
        return made[numbers.start : numbers.stop]
    return list(map(made.__getitem__, numbers))
