"""Rows for the wire: model instances as columns, taken apart and rebuilt without a step of the interpreter's for each.

    rows --pack--> Packed --pickle--> bytes --unpickle, which calls `rebuild`--> rows

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
import datetime as dt
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, repeat
from operator import attrgetter, itemgetter
from typing import Any, Final, final

from django.apps import apps
from django.db.models import Model
from django.db.models.base import ModelState

from .columns import Unusual, leads_nowhere, pack_column
from .rebuild import rebuild, rebuild_one

__all__ = ["pack"]

LEAST: Final = 16
"""Rows from which on columns take the loop, which loads them, less time than one row by itself after another does."""

_STATE: Final = frozenset({"adding", "db", "fetch_mode", "fields_cache", "peers"})
"""What Django keeps in `_state`. More is somebody else's."""
_NOT_SHARED: Final = frozenset({"fields_cache", "peers"})
"""Of that, what each row has for itself: related objects, and weak references, which pickle leaves out as well."""

_PICKLING: Final = ("__new__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
"""Methods by which a class may change how it pickles."""


@final
class Packed:
    """Pickles what was taken apart, and unpickles as what it was made of."""

    __slots__ = ("_reduced",)

    def __init__(self, remake: Callable[..., object], *parts: object) -> None:
        self._reduced = remake, parts

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._reduced


def pack(value: Any) -> Any:
    """Return what pickles, by plain `pickle`, faster and smaller than `value`, and unpickles as an equal of it.

    Model instances are packed, and lists and tuples of them. Anything else is returned as it is.
    """
    kind = type(value)
    try:
        if kind is list or kind is tuple:
            if value and isinstance(value[0], Model):
                return _pack(value) if len(value) >= LEAST else _pack_a_few(value)
        elif issubclass(kind, Model):
            return _pack_one(value)
    except Unusual:
        pass
    return value


# --- a few rows, each by itself --------------------------------------------------------------------------------------


def _pack_a_few(rows: Sequence[Any]) -> Sequence[Packed]:
    if len(set(map(id, rows))) < len(rows):
        raise Unusual
    packed = [_pack_one(row) for row in rows]
    return tuple(packed) if type(rows) is tuple else packed


def _pack_one(row: Any) -> Packed:
    """Pack a row whose values lead to no other one."""
    label = _label(type(row))
    state = row.__dict__.get("_state")
    if type(state) is not ModelState or type(cache := state.__dict__.get("fields_cache", {})) is not dict or cache:
        raise Unusual
    kept = {name: value for name, value in state.__dict__.items() if name not in _NOT_SHARED}
    if not _STATE.issuperset(kept):
        raise Unusual
    shape = _shape(*label, tuple(row.__dict__), tuple(kept))
    values = [None if value is state else value for value in row.__dict__.values()]
    if not leads_nowhere(values, set(map(type, values))):
        raise Unusual
    moments = [place for place, value in enumerate(values) if type(value) is dt.datetime and value.tzinfo is dt.UTC]
    for place in moments:  # they pickle by three names, each of which has to be looked up
        values[place] = values[place].__reduce_ex__(4)[1][0]
    return Packed(rebuild_one, shape, [*values, *kept.values()], tuple(moments))


@functools.lru_cache(maxsize=256)
def _shape(app: str, model: str, *names: tuple[str, ...]) -> str:
    if any(type(name) is not str or "," in name or " " in name for name in chain.from_iterable(names)):
        raise Unusual
    return " ".join([app, model, *map(",".join, names)])


# --- many, as columns ------------------------------------------------------------------------------------------------


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

    @property
    def has_neighbours(self) -> bool:
        """Whether `numbered` has to refer to instances."""
        return bool(self.relations or self.lists)

    def neighbours(self) -> Iterator[Model | None]:
        """Return the instances found in these ones, many of them more than once."""
        yield from chain.from_iterable(self.relations.values())
        yield from chain.from_iterable(chain.from_iterable(self.lists.values()))

    def numbered(self, numbers: _Numbers) -> tuple[object, ...]:
        """Return what `rebuild` takes, where numbers stand for instances."""
        lists = {
            name: (list(map(len, column)), numbers.of(list(chain.from_iterable(column))))
            for name, column in self.lists.items()
        }
        relations = {name: numbers.of(column) for name, column in self.relations.items()}
        return self.model, self.size, self.columns, lists, self.state, relations


class _Numbers(dict[int, int]):
    """The number of each instance, counted through all tables, by its id. None has the number -1."""

    def __init__(self, rows: Sequence[Model]) -> None:
        super().__init__({id(None): -1})
        self.update(zip(map(id, rows), count()))

    def of(self, rows: Sequence[Model | None]) -> Sequence[int]:
        numbers = list(map(self.__getitem__, map(id, rows)))
        if not numbers or numbers[0] < 0:
            return numbers
        without_gaps = range(numbers[0], numbers[0] + len(numbers))  # which pickles in a few bytes
        return without_gaps if numbers == list(without_gaps) else numbers


def _pack(rows: Sequence[Any]) -> Packed:
    known: dict[int, Any] = {id(None): None}
    members: list[Model] = []
    tables: list[_Table] = []
    found = rows
    while found:
        new = dict(zip(map(id, found), found, strict=True))
        for old in new.keys() & known.keys():
            del new[old]
        known |= new
        found = []
        for model in dict.fromkeys(map(type, new.values())):
            of_model = [row for row in new.values() if type(row) is model]
            members += of_model
            table = _take_apart(model, of_model)
            tables.append(table)
            found += table.neighbours()
    lists = [id(several) for table in tables for column in table.lists.values() for several in column]
    if len(set(lists)) < len(lists):
        raise Unusual  # one list in two places
    alone = len(tables) == 1 and len(members) == len(rows) and not tables[0].has_neighbours  # as most are
    numbers = _Numbers(() if alone else members)
    order: Sequence[int] = range(len(rows)) if alone else numbers.of(rows)
    return Packed(rebuild, [table.numbered(numbers) for table in tables], order, type(rows) is tuple)


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
    known = _STATE.issuperset(names) and set(names).issuperset(chain(*shapes))
    if not known or any(set(names).difference(shape, _NOT_SHARED) for shape in shapes):
        raise Unusual
    state = {name: _one_of([*map(dict.get, dicts, repeat(name))]) for name in names if name not in _NOT_SHARED}
    if "fields_cache" not in names:
        return state, {}
    # It is made when it is first used, which is while a row is read if it has foreign keys that are not null. Rows
    # without it get an empty one, as from Django's own unpickling.
    caches = [*map(dict.get, dicts, repeat("fields_cache"), repeat({}))]
    if set(map(type, caches)) != {dict}:
        raise Unusual
    return {**state, "fields_cache": None}, _columns(caches)


def _columns(dicts: Sequence[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Return the values by key, in order; raise Unusual if there is a dict that has others."""
    try:
        keys = [*zip(*dicts, strict=True)]
    except ValueError:  # one has more of them than another
        raise Unusual from None
    if any(column.count(column[0]) < len(column) or type(column[0]) is not str for column in keys):
        raise Unusual
    names = map(itemgetter(0), keys)
    return dict(zip(names, zip(*map(dict.values, dicts), strict=True), strict=True))


def _one_of(values: Sequence[Any]) -> Any:
    """Return the value that all of `values` are equal to, in type too; raise Unusual if there is none."""
    first = values[0]
    if values.count(first) < len(values) or len(set(map(type, values))) > 1:
        raise Unusual
    return first


def _are_lists_of_rows(column: tuple[Any, ...]) -> bool:
    if set(map(type, column)) != {list}:
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
