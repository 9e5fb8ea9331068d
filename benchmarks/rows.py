"""Model instances as bytes, and back: the packing of `slacker.django_backend.rows` against pickle by itself.

Rows of the User model with all fields filled, as a query returns them. slacker takes them in chunks, as they go over
the wire; pickle takes the list whole, as one would, and in the same chunks, which spares the garbage collector some
work. All of it is CPU of one thread, and the ratios are of that: other work on the machine disturbs it least.
"""

from __future__ import annotations

import datetime as dt
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import django
from django.conf import settings

from .measure import Case, Effort, take_turns
from .tables import LOOP_CPU, Table

__all__ = ["tables"]

ROWS = 20_000
CHUNK = 250
SITTINGS = 3  # no threads and no sockets, so little is drawn by lot; but a turn takes long
BASELINE = "pickle"

Dump = Callable[[list[Any]], list[bytes]]
Load = Callable[[list[bytes]], list[Any]]


def tables(effort: Effort) -> list[Table]:
    """Measure dumping rows, and loading them."""
    _set_up()
    from slacker.django_backend.rows import pack

    rows = _rows(effort.count(ROWS))
    ways: dict[str, Dump] = {
        "slacker": lambda rows: [pickle.dumps(pack(chunk), 5) for chunk in _chunks(rows)],
        BASELINE: lambda rows: [pickle.dumps(rows, 5)],
        "pickle, in chunks": lambda rows: [pickle.dumps(chunk, 5) for chunk in _chunks(rows)],
    }
    dumped = {name: dump(rows) for name, dump in ways.items()}
    sizes = ", ".join(f"{sum(map(len, parts)) / len(rows):.0f} ({name})" for name, parts in dumped.items())

    @asynccontextmanager
    async def dumping() -> AsyncIterator[list[Case]]:
        yield [_dump(name, dump, rows) for name, dump in ways.items()]

    @asynccontextmanager
    async def loading() -> AsyncIterator[list[Case]]:
        yield [_load(name, parts, len(rows)) for name, parts in dumped.items()]

    effort = replace(effort, sittings=min(SITTINGS, effort.sittings))
    what = f"{ROWS} rows of the User model, each"
    notes = ["The ratios are of loop CPU.", f"Bytes a row: {sizes}."]
    return [
        Table("rows-dump", f"Dump {what}", take_turns(dumping, effort), BASELINE, LOOP_CPU, notes),
        Table("rows-load", f"Load {what}", take_turns(loading, effort), BASELINE, LOOP_CPU, notes),
    ]


def _set_up() -> None:
    # Settings are for good. Where another suite has not made any, these do: no database is asked. That suite would then
    # miss its own, so this one stands last in SUITES.
    if not settings.configured:
        settings.configure(INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"], USE_TZ=True)
    django.setup(set_prefix=False)


def _rows(count: int) -> list[Any]:
    from django.contrib.auth.models import User

    joined = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    names = [field.attname for field in User._meta.concrete_fields]
    return [User.from_db("default", names, [_value(name, number, joined) for name in names]) for number in range(count)]


def _value(name: str, number: int, joined: dt.datetime) -> object:
    return {
        "id": number + 1,
        "password": f"pbkdf2_sha256$1000000${number:022}${number:043}=",
        "last_login": joined + dt.timedelta(days=100, seconds=number * 7.123457),
        "is_superuser": False,
        "username": f"user-{number}",
        "first_name": f"Ada {number}",
        "last_name": f"Example {number}",
        "email": f"user-{number}@example.com",
        "is_staff": number % 7 == 0,
        "is_active": True,
        "date_joined": joined + dt.timedelta(seconds=number * 3.333333),
    }[name]


def _chunks(rows: list[Any]) -> list[list[Any]]:
    return [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]


def _dump(name: str, dump: Dump, rows: list[Any]) -> Case:
    async def turn() -> None:
        dump(rows)

    return Case(name, len(rows), turn)


def _load(name: str, parts: list[bytes], count: int) -> Case:
    async def turn() -> list[Any]:
        rows: list[Any] = []
        for part in parts:
            rows += pickle.loads(part)
        return rows

    return Case(name, count, turn)
