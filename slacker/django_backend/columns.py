"""The values of one field, of many rows at once, in a form that pickles fast and small.

    values --pack_column--> the same tuple, or [code, ...] --pickle, unpickle, unpack_column--> the values

What makes pickle slow is what it does once per value in Python or by many small steps: `__reduce_ex__`, its result, a
call when loading. Here the same is done by `map` over functions of C, on the way out and back, so that a value costs no
step of the interpreter's. Rules:

1. Only exact types. An instance of a subclass may carry anything, and pickles as its class wants it.
2. Only values that lead to no row. A row that is found in a column would be pickled apart from the rows, and come back
   as two objects where there was one. Hence the list of types, and `Unusual` for all that is not on it.
3. A chunk of few rows must pay as well: a code costs less than a function found by name in the pickle.
"""

from __future__ import annotations

import datetime as dt
import marshal
import uuid
import zoneinfo
from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set
from decimal import Decimal
from itertools import compress, count, repeat, starmap
from operator import attrgetter, itemgetter, setitem
from struct import Struct
from typing import Any, Final

__all__ = ["Unusual", "drain", "leads_nowhere", "pack_column", "unpack_column"]


drain: Final[Callable[[Iterable[object]], None]] = deque[object](maxlen=0).extend
"""Have all calls of a `map` made, and keep nothing."""


class Unusual(Exception):
    """What was found is nothing for columns and must be pickled in its own way."""


def pack_column(values: tuple[Any, ...]) -> tuple[Any, ...] | list[Any]:
    """Return what pickles well and is turned into an equal of `values` by `unpack_column`.

    Raises:
        Unusual: there are values of other types than the known ones.
    """
    types = set(map(type, values))
    if len(types) == 1 and types <= _SAME_IF_EQUAL and values.count(values[0]) == len(values):
        return ["same", values[0], len(values)]  # flags, countries, what is empty in all rows
    if types <= _AT_BEST:
        return values
    others = types - {_NONE}
    if len(others) == 1 and (pack := _PACKERS.get(*others)) is not None:
        present = bytes([value is not None for value in values]) if len(types) > 1 else None
        packed = pack(values if present is None else list(compress(values, present)))
        if packed is not None:
            return packed if present is None else ["gaps", packed, present]
    if leads_nowhere(values, types):
        return values
    raise Unusual


def leads_nowhere(values: Iterable[Any], types: Set[type]) -> bool:
    """Tell whether `values`, of these types, certainly lead to no row."""
    if types <= _LEADING_NOWHERE:
        return True
    others = [value for value in values if type(value) not in _LEADING_NOWHERE]
    return set(map(type, others)) <= _CONTAINERS and _is_plain(others)


def unpack_column(column: tuple[Any, ...] | list[Any]) -> Sequence[Any]:
    """Return the values that `pack_column` was given."""
    if type(column) is tuple:
        return column
    code, *packed = column
    if code == "gaps":
        return _with_gaps(*packed)
    return _UNPACKERS[code](*packed)


def _with_gaps(packed: list[Any], present: bytes) -> list[Any]:
    values: list[Any] = [None] * len(present)
    drain(map(setitem, repeat(values), compress(count(), present), unpack_column(packed)))
    return values


def _is_plain(values: list[Any]) -> bool:
    # As of a JSONField. marshal knows plain data only, and looks through all of it faster than a walk in Python would.
    try:
        marshal.dumps(values)
    except ValueError:
        return False
    return True


# --- one type each: into [code, ...], and from what follows the code ------------------------------------------------


def _pack_strings(values: Sequence[str]) -> list[Any] | None:
    # One long string is quicker to pickle and to split than many short ones are to load, if they are short.
    if sum(map(len, values)) > 40 * len(values):
        return None
    joined = "\0".join(values)
    return ["str", joined] if joined.count("\0") == len(values) - 1 else None


def _strings(joined: str) -> list[str]:
    return joined.split("\0")


def _pack_datetimes(values: Sequence[dt.datetime]) -> list[Any] | None:
    zones = [*map(attrgetter("tzinfo"), values)]
    if len(set(map(id, zones))) > 1 or type(zones[0]) not in _ZONES or any(map(attrgetter("fold"), values)):
        return None
    # (datetime, (state, zone)): the ten bytes of the state are what pickle takes and what the class accepts. This form
    # of the method leaves out the fold; the one that has it takes half as long again.
    states = map(itemgetter(0), map(itemgetter(1), map(dt.datetime.__reduce__, values)))
    return ["datetime", b"".join(states), zones[0]]


def _datetimes(states: bytes, zone: dt.tzinfo | None) -> list[dt.datetime]:
    # All at once: iter_unpack takes three times as long. struct.unpack would keep as many formats as there are lengths.
    pieces = Struct("10s" * (len(states) // 10)).unpack(states)
    return list(starmap(dt.datetime, zip(pieces) if zone is None else zip(pieces, repeat(zone))))


def _pack_dates(values: Sequence[dt.date]) -> list[Any]:
    return ["date", list(map(dt.date.toordinal, values))]


def _dates(ordinals: list[int]) -> list[dt.date]:
    return list(map(dt.date.fromordinal, ordinals))


def _pack_decimals(values: Sequence[Decimal]) -> list[Any]:
    return ["Decimal", " ".join(map(str, values))]


def _decimals(texts: str) -> list[Decimal]:
    return list(map(Decimal, texts.split(" ")))


def _pack_uuids(values: Sequence[uuid.UUID]) -> list[Any] | None:
    is_safe, *others = set(map(attrgetter("is_safe"), values))
    return None if others else ["UUID", list(map(attrgetter("int"), values)), is_safe]


def _uuids(ints: list[int], is_safe: uuid.SafeUUID) -> list[uuid.UUID]:
    # The class has no constructor in C and refuses assignment: its slots are filled as its own unpickling does it.
    values = list(map(object.__new__, repeat(uuid.UUID, len(ints))))
    drain(map(vars(uuid.UUID)["int"].__set__, values, ints))
    drain(map(vars(uuid.UUID)["is_safe"].__set__, values, repeat(is_safe)))
    return values


def _pack_memoryviews(values: Sequence[memoryview]) -> list[Any]:
    return ["memoryview", list(map(bytes, values))]


def _memoryviews(values: list[bytes]) -> list[memoryview]:
    return [memoryview(value) for value in values]


_PACKERS: Final[dict[type, Callable[[Any], list[Any] | None]]] = {
    str: _pack_strings,
    dt.datetime: _pack_datetimes,
    dt.date: _pack_dates,
    Decimal: _pack_decimals,
    uuid.UUID: _pack_uuids,
    memoryview: _pack_memoryviews,
}
"""By type, what packs values of it, or returns None if they are better off as they are."""

_UNPACKERS: Final[dict[str, Callable[..., list[Any]]]] = {
    "same": lambda value, size: [value] * size,
    "str": _strings,
    "datetime": _datetimes,
    "date": _dates,
    "Decimal": _decimals,
    "UUID": _uuids,
    "memoryview": _memoryviews,
}
"""By code, what unpacks them."""

_NONE: Final = type(None)
_AT_BEST: Final = frozenset({_NONE, bool, int, float, complex, bytes})
_SAME_IF_EQUAL: Final = frozenset({_NONE, bool, int, str, bytes})
"""Equal values of one of these types cannot be told apart, unlike floats with their zeros."""
_LEADING_NOWHERE: Final = _AT_BEST | {str, dt.datetime, dt.date, dt.time, dt.timedelta, Decimal, uuid.UUID}
_CONTAINERS: Final = frozenset({list, tuple, dict, set, frozenset})
_ZONES: Final = frozenset({_NONE, dt.timezone, zoneinfo.ZoneInfo})
