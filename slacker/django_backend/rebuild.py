"""Tables into rows: what unpickling packed rows calls, on the loop of whoever waits for them.

The instances of all tables are made first, empty, so that they can refer to one another by number, in cycles too. Then
they are filled column by column. No constructor, descriptor or signal is called, and nothing asks the database.
"""

from __future__ import annotations

import datetime as dt
import functools
import gc
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import islice, repeat
from operator import attrgetter, setitem
from typing import Any

from django.apps import apps
from django.db.models.base import ModelState

from .columns import drain, unpack_column

__all__ = ["rebuild", "rebuild_one"]


_datetime: Any = dt.datetime  # by the ten bytes that it gives to pickle, which its types do not tell


def rebuild(tables: list[tuple[Any, ...]], order: Sequence[int], is_tuple: bool) -> Any:
    """Return the list, or tuple, of rows that `slacker.django_backend.rows.pack` was given.

    Args:
        tables: of each what `_Table` in `slacker.django_backend.rows` has, with numbers in place of objects.
        order: the numbers of the rows.
        is_tuple: whether they are a tuple.

    Raises:
        LookupError: there is no such model on this side.
    """
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
            assign, targets = _assignment(model, columns, rows)
            for name, column in columns.items():
                if name == "_state":
                    values: Sequence[Any] = _states(size, made, state, relations)
                elif name in lists:
                    values = _lists(made, *lists[name])
                else:
                    values = unpack_column(column)
                drain(map(assign, targets, repeat(sys.intern(name)), values))
        rows = _pick(made, order)
        return tuple(rows) if is_tuple else rows
    finally:
        if collecting:
            gc.enable()


def rebuild_one(shape: str, values: list[Any], moments: Sequence[int]) -> Any:
    """Return a row by itself, one without related objects.

    Args:
        shape: label of the app and name of the model, the attributes, those of `_state`; each list with commas.
        values: of all attributes, in that order.
        moments: which of the values are the states of datetimes in UTC.

    Raises:
        LookupError: there is no such model on this side.
    """
    app, model, names, names_of_state = _parsed(shape)
    for place in moments:
        values[place] = _datetime(values[place], dt.UTC)
    # A model that is there is found without `get_model`, which takes as long as all the rest.
    row = object.__new__(apps.all_models[app].get(model.lower()) or apps.get_model(app, model))
    attributes = row.__dict__
    attributes.update(zip(names, values, strict=False))
    attributes["_state"] = state = object.__new__(ModelState)
    state.__dict__.update(zip(names_of_state, values[len(names) :], strict=True), fields_cache={})
    return row


@functools.lru_cache(maxsize=256)
def _parsed(shape: str) -> tuple[str, str, list[str], list[str]]:
    app, model, names, names_of_state = shape.split(" ")
    return app, model, _names(names), _names(names_of_state)


def _names(joined: str) -> list[str]:
    return list(map(sys.intern, joined.split(","))) if joined else []


def _new(model: Any, names: Iterable[str], size: int) -> list[Any]:
    # Instances share the names of their attributes only if the first of its class gets them before others are made:
    # each that is made meanwhile takes away from the room for names. Without that they take twice the memory.
    first = object.__new__(model)
    attributes = first.__dict__
    for name in names:
        attributes[sys.intern(name)] = None
    return [first, *map(object.__new__, repeat(model, size - 1))]


def _assignment(model: Any, names: Iterable[str], rows: list[Any]) -> tuple[Callable[..., None], list[Any]]:
    """Return how to set attributes without anybody hearing of it, and on what."""
    if model.__setattr__ is object.__setattr__ and not any(_is_heard_of(model, name) for name in names):
        return setattr, rows
    return setitem, list(map(attrgetter("__dict__"), rows))  # which costs a dict for each row


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
