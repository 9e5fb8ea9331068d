"""What a hundred thousand calls leave behind: nothing."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading

import pytest
from django.db import connection

from slacker import Slacker
from slacker.workers import DjangoThreadWorker
from tests.django.app.models import Author
from tests.django.helpers import Backends, postgresql_only
from tests.waiting import LIVENESS


def select() -> tuple[int]:
    """As work: run the cheapest query there is."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()


@pytest.fixture
def recipes(worker: DjangoThreadWorker, library: dict[str, Author]) -> list[Slacker]:
    """Return fifty recipes of which five query, one fails; with more queries a hundred thousand take minutes."""
    found = Slacker(Author, worker).objects.filter(name="Ann")
    missing = Slacker(Author, worker).objects.get(name="Zoe")
    return [found, missing, *[Slacker(select, worker)()] * 3, *[Slacker(len, worker)("text")] * 45]


@postgresql_only
def test_calls_leave_nothing_behind(recipes: list[Slacker], library: dict[str, Author], backends: Backends) -> None:
    """After 20 000 calls to warm up 80 000 more add no memory, no thread and no database session."""

    async def call(times: int) -> None:
        for _ in range(times // len(recipes)):
            results = await asyncio.gather(*[recipe.fetch() for recipe in recipes], return_exceptions=True)
            assert (results[0], type(results[1])) == ([library["Ann"]], Author.DoesNotExist)

    def footprint() -> tuple[int, set[threading.Thread], set[int]]:
        gc.collect()
        return sys.getallocatedblocks(), set(threading.enumerate()), backends.pids()

    asyncio.run(asyncio.wait_for(call(20_000), 2 * LIVENESS))
    blocks, threads, sessions = footprint()
    asyncio.run(asyncio.wait_for(call(80_000), 2 * LIVENESS))
    blocks_then, threads_then, sessions_then = footprint()

    assert blocks_then - blocks < 2_000
    assert (threads_then, sessions_then) == (threads, sessions)
