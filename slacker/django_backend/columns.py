"""The values of one field, of many rows at once, in a form that pickles fast and small.

    values --pack_column--> the same tuple, or a `Packed` --pickle--> the values again

What makes pickle slow is what it does once per value in Python or by many small steps: `__reduce_ex__`, its result, a
call when loading. Here the same is done by `map` over functions of C, on the way out and back, so that a value costs no
step of the interpreter's. Rules:

1. Only exact types. An instance of a subclass may carry anything, and pickles as its class wants it.
2. Only values that lead to no row. A row that is found in a column would be pickled apart from the rows, and come back
   as two objects where there was one. Hence the list of types, and `Unusual` for all that is not on it.
"""

from __future__ import annotations

import datetime as dt
import marshal
import uuid
import zoneinfo
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from itertools import repeat, starmap
from operator import attrgetter, itemgetter
from struct import unpack
from typing import Any, Final, final

__all__ = ["Packed", "Unusual", "drain", "one_of", "pack_column"]


class Unusual(Exception):
    """What was found is nothing for columns and must be pickled in its own way."""


@final
class Packed:
    """Unpickles as what `rebuild(*parts)` returns; `rebuild` is a function of a module's top level."""

    __slots__ = ("_parts", "_rebuild")

    def __init__(self, rebuild: Callable[..., object], *parts: object) -> None:
        self._rebuild = rebuild
        self._parts = parts

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._rebuild, self._parts


def pack_column(values: tuple[Any, ...]) -> object:
    """Return what pickles as a sequence equal to `values`: they themselves, or something packed.

    Raises:
        Unusual: there are values of other types than the known ones.
    """
    types = set(map(type, values))
    others = types - {type(None)}
    if len(others) == 1 and (pack := _PACKERS.get(*others)) is not None:
        gaps = [index for index, value in enumerate(values) if value is None] if len(types) > 1 else []
        packed = pack([value for value in values if value is not None] if gaps else values)
        if packed is not None:
            return Packed(_with_gaps, packed, gaps) if gaps else packed
    if types <= _LEADING_NOWHERE or (types <= _CONTAINERS and _is_plain(values)):
        return values
    raise Unusual


def drain(calls: Iterable[object]) -> None:
    """Have all calls of a `map` made, and forget what they return."""
    deque(calls, maxlen=0)


def one_of(values: Sequence[Any]) -> Any:
    """Return the value that all of `values` are equal to, in type too; raise Unusual if there is none."""
    first = values[0]
    if values.count(first) < len(values) or len(set(map(type, values))) > 1:
        raise Unusual
    return first


def _with_gaps(values: list[Any], gaps: list[int]) -> list[Any]:
    for index in gaps:
        values.insert(index, None)
    return values


def _is_plain(values: tuple[Any, ...]) -> bool:
    # As of a JSONField. marshal knows plain data only, and looks through all of it faster than a walk in Python would.
    try:
        marshal.dumps(values)
    except ValueError:
        return False
    return True


# --- one type each: to a Packed, and back ----------------------------------------------------------------------------


def _pack_strings(values: Sequence[str]) -> Packed | None:
    # One long string is quicker to pickle and to split than many short ones are to load, if they are short.
    if sum(map(len, values)) > 40 * len(values):
        return None
    joined = "\0".join(values)
    return Packed(_strings, joined) if joined.count("\0") == len(values) - 1 else None


def _strings(joined: str) -> list[str]:
    return joined.split("\0")


def _pack_datetimes(values: Sequence[dt.datetime]) -> Packed | None:
    zones = [*map(attrgetter("tzinfo"), values)]
    if len(set(map(id, zones))) > 1 or type(zones[0]) not in _ZONES or any(map(attrgetter("fold"), values)):
        return None
    # (datetime, (state, zone)): the ten bytes of the state are what pickle takes and what the class accepts. This form
    # of the method leaves out the fold; the one that has it takes half as long again.
    states = map(itemgetter(0), map(itemgetter(1), map(dt.datetime.__reduce__, values)))
    return Packed(_datetimes, b"".join(states), zones[0])


def _datetimes(states: bytes, zone: dt.tzinfo | None) -> list[dt.datetime]:
    pieces = unpack("10s" * (len(states) // 10), states)  # all at once: iter_unpack takes five times as long
    return list(starmap(dt.datetime, zip(pieces) if zone is None else zip(pieces, repeat(zone))))


def _pack_dates(values: Sequence[dt.date]) -> Packed:
    return Packed(_dates, list(map(dt.date.toordinal, values)))


def _dates(ordinals: list[int]) -> list[dt.date]:
    return list(map(dt.date.fromordinal, ordinals))


def _pack_decimals(values: Sequence[Decimal]) -> Packed:
    return Packed(_decimals, " ".join(map(str, values)))


def _decimals(texts: str) -> list[Decimal]:
    return list(map(Decimal, texts.split(" ")))


def _pack_uuids(values: Sequence[uuid.UUID]) -> Packed:
    return Packed(_uuids, list(map(attrgetter("int"), values)), one_of(list(map(attrgetter("is_safe"), values))))


def _uuids(ints: list[int], is_safe: uuid.SafeUUID) -> list[uuid.UUID]:
    # The class has no constructor in C and refuses assignment: its slots are filled as its own unpickling does it.
    values = list(map(object.__new__, repeat(uuid.UUID, len(ints))))
    drain(map(vars(uuid.UUID)["int"].__set__, values, ints))
    drain(map(vars(uuid.UUID)["is_safe"].__set__, values, repeat(is_safe)))
    return values


def _pack_memoryviews(values: Sequence[memoryview]) -> Packed:
    return Packed(_memoryviews, list(map(bytes, values)))


def _memoryviews(values: list[bytes]) -> list[memoryview]:
    return [memoryview(value) for value in values]


_PACKERS: Final[dict[type, Callable[[Any], Packed | None]]] = {
    str: _pack_strings,
    dt.datetime: _pack_datetimes,
    dt.date: _pack_dates,
    Decimal: _pack_decimals,
    uuid.UUID: _pack_uuids,
    memoryview: _pack_memoryviews,
}
"""By type, what makes a column of it, without None, into something packed, or None if that would not be the better."""

_SIMPLE: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
_LEADING_NOWHERE: Final = _SIMPLE | {dt.datetime, dt.date, dt.time, dt.timedelta, Decimal, uuid.UUID}
_CONTAINERS: Final = _SIMPLE | {list, tuple, dict, set, frozenset}
_ZONES: Final = frozenset({type(None), dt.timezone, zoneinfo.ZoneInfo})
