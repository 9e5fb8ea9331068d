"""Database connections in slacker's threads: kept between chains, replaced when broken, closed with the thread."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.cache import cache
from django.core.cache.backends.base import BaseCache
from django.db import DatabaseError, OperationalError, ProgrammingError, connection, connections
from django.db.backends.base import base
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import override_settings

from slacker import Slacker
from slacker.django_backend import scope
from slacker.workers import DjangoThreadWorker, pool
from tests.django.app.models import Author
from tests.django.helpers import Backends, backend_pid, postgresql_only, session, sqlite_only
from tests.waiting import eventually

# --- how long they are kept ----------------------------------------------------------------------------------------


async def test_a_connection_is_kept_between_chains(one_thread: DjangoThreadWorker) -> None:
    """With Django's default CONN_MAX_AGE of 0 the next chain in a thread finds the connection open."""
    recipe = Slacker(session, one_thread)()

    assert await recipe is await recipe


@postgresql_only
async def test_the_server_sees_one_session(one_thread: DjangoThreadWorker, backends: Backends) -> None:
    """To PostgreSQL many chains in one thread are one session."""
    served = {await Slacker(backend_pid, one_thread)() for _ in range(20)}

    assert served == backends.pids()


@pytest.mark.parametrize("max_age", [None, 3600])
async def test_a_long_max_age_keeps_the_connection(
    database: dict[str, Any], one_thread: DjangoThreadWorker, monkeypatch: pytest.MonkeyPatch, max_age: int | None
) -> None:
    """A CONN_MAX_AGE other than 0 is obeyed: a long one keeps the connection."""
    monkeypatch.setitem(database, "CONN_MAX_AGE", max_age)
    recipe = Slacker(session, one_thread)()

    assert await recipe is await recipe


async def test_a_short_max_age_replaces_the_connection(
    database: dict[str, Any], one_thread: DjangoThreadWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CONN_MAX_AGE other than 0 is obeyed: one that has passed closes the connection."""
    monkeypatch.setitem(database, "CONN_MAX_AGE", 1e-9)
    recipe = Slacker(session, one_thread)()

    assert await recipe is not await recipe


async def test_a_max_age_that_passes_meanwhile(
    database: dict[str, Any], one_thread: DjangoThreadWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CONN_MAX_AGE that passes while the thread has no work closes the connection before the next chain uses it."""
    monkeypatch.setitem(database, "CONN_MAX_AGE", 3600)
    recipe = Slacker(session, one_thread)()
    before = await recipe
    monkeypatch.setattr(base, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 4000))

    assert await recipe is not before


async def test_an_idle_thread_closes_its_connection(
    worker: DjangoThreadWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that ends for want of work closes its connection."""
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.01)
    used = await Slacker(session, worker)()

    await eventually(lambda: is_closed(used))


async def test_aclose_closes_the_connections(worker: DjangoThreadWorker) -> None:
    """aclose() returns when the connections are closed."""
    used = await Slacker(session, worker)()
    await worker.aclose()

    assert is_closed(used)


@postgresql_only
async def test_the_server_sees_the_last_session_end(worker: DjangoThreadWorker, backends: Backends) -> None:
    """After aclose() PostgreSQL knows no session of slacker's threads any more."""
    await all_threads(worker, session)
    assert len(backends.pids()) == 4
    await worker.aclose()

    await eventually(lambda: not backends.pids())


# --- one for each thread -------------------------------------------------------------------------------------------


async def test_threads_never_share_a_connection(worker: DjangoThreadWorker) -> None:
    """Chains that run at the same time have different connections."""
    assert len(set(await all_threads(worker, session))) == 4


@pytest.fixture
def connected(database: dict[str, Any]) -> BaseDatabaseWrapper:
    connection.ensure_connection()
    return connections["default"]


async def test_a_connection_is_no_argument(worker: DjangoThreadWorker, connected: BaseDatabaseWrapper) -> None:
    """A connection of the loop's thread that is handed to the work is refused by Django, not shared."""
    with pytest.raises(DatabaseError, match="can only be used in that same thread"):
        await Slacker(connected, worker).cursor()


@postgresql_only
async def test_there_are_no_more_connections_than_threads(worker: DjangoThreadWorker, backends: Backends) -> None:
    """However many chains are under way, each thread has one session."""
    await asyncio.gather(*[Slacker(Author, worker).objects.count().fetch() for _ in range(500)])

    assert len(backends.pids()) <= 4


# --- broken ones ---------------------------------------------------------------------------------------------------


@postgresql_only
async def test_a_session_that_the_server_ended_fails_one_call(
    one_thread: DjangoThreadWorker, backends: Backends
) -> None:
    """A connection lost between two calls fails the next one, at most; the one after that has a new connection."""
    lost = await Slacker(backend_pid, one_thread)()
    backends.terminate(lost)
    with contextlib.suppress(OperationalError):
        await Slacker(Author, one_thread).objects.count()

    assert await Slacker(Author, one_thread).objects.count() == 0


@postgresql_only
async def test_a_session_that_the_server_ended_meanwhile_fails_no_call(
    one_thread: DjangoThreadWorker, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that had no work for a while probes its connection first: no call fails."""
    monkeypatch.setattr(scope, "PROBE_AFTER", 0)
    backends.terminate(await Slacker(backend_pid, one_thread)())

    assert await Slacker(Author, one_thread).objects.count() == 0


@postgresql_only
async def test_a_session_that_ended_while_its_thread_worked_fails_no_call(
    one_thread: DjangoThreadWorker, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts how long the connection was not probed, not how long its thread had no work."""
    monkeypatch.setattr(scope, "PROBE_AFTER", 0.5)
    backends.terminate(await Slacker(backend_pid, one_thread)())
    end = time.monotonic() + 2 * scope.PROBE_AFTER
    while time.monotonic() < end:
        await Slacker(len, one_thread)("work that asks no database")

    assert await Slacker(Author, one_thread).objects.count() == 0


@postgresql_only
async def test_a_connection_is_probed_no_more_often_than_needed(
    one_thread: DjangoThreadWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within `PROBE_AFTER` of the last probe it is used without a question."""
    probes: list[object] = []
    monkeypatch.setattr(type(connections["default"]), "is_usable", probes.append)
    monkeypatch.setattr(scope, "PROBE_AFTER", 3600)
    for _ in range(5):
        await Slacker(Author, one_thread).objects.count()

    assert probes == []


async def test_a_cache_is_closed_after_its_chain(
    one_thread: DjangoThreadWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache's client is made for each chain, and closed after it, as Django does after a request."""
    closed: list[object] = []
    monkeypatch.setattr(BaseCache, "close", lambda self, **_: closed.append(self))
    await Slacker(cache, one_thread).get("key")

    assert len(closed) == 1


async def test_a_probed_connection_that_works_is_kept(
    one_thread: DjangoThreadWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Probing a connection that works changes nothing."""
    monkeypatch.setattr(scope, "PROBE_AFTER", 0)
    recipe = Slacker(session, one_thread)()

    assert await recipe is await recipe


@postgresql_only
async def test_health_checks_are_obeyed(
    database: dict[str, Any], one_thread: DjangoThreadWorker, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With CONN_HEALTH_CHECKS, Django's own setting, each call probes its connection: none fails."""
    monkeypatch.setitem(database, "CONN_HEALTH_CHECKS", True)
    backends.terminate(await Slacker(backend_pid, one_thread)())

    assert await Slacker(Author, one_thread).objects.count() == 0


@postgresql_only
async def test_a_query_that_is_killed_fails_alone(one_thread: DjangoThreadWorker, backends: Backends) -> None:
    """A connection lost in mid-query arrives as OperationalError, and the next call has a new one."""
    asleep = Slacker(execute, one_thread)("SELECT pg_sleep(60)").fetch()
    await eventually(lambda: backends.pids("active"))
    backends.terminate(*backends.pids())

    with pytest.raises(OperationalError):
        await asleep
    assert await Slacker(Author, one_thread).objects.count() == 0


async def test_a_failed_query_does_not_cost_the_connection(one_thread: DjangoThreadWorker) -> None:
    """After an ordinary database error the connection is found to be sound, and kept."""
    recipe = Slacker(session, one_thread)()
    before = await recipe
    with pytest.raises((OperationalError, ProgrammingError)):
        await Slacker(execute, one_thread)("SELECT nonsense")

    assert before is await recipe


@sqlite_only
async def test_a_locked_database_is_an_error(
    database: dict[str, Any], one_thread: DjangoThreadWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's "database is locked" arrives as OperationalError, and the call after the lock works."""
    monkeypatch.setitem(database["OPTIONS"], "timeout", 0.01)
    create = Slacker(Author, one_thread).objects.create
    await Slacker(session, one_thread)()  # connect, which takes a look at the file, before it is locked
    with contextlib.closing(sqlite3.connect(database["NAME"], isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(OperationalError, match="database is locked"):
            await create(name="Ann")

    assert (await create(name="Ann")).name == "Ann"


# --- psycopg's pool ------------------------------------------------------------------------------------------------


@postgresql_only
async def test_a_pooled_connection_goes_back_after_each_chain(pooled: None) -> None:
    """Two threads get along with a pool of one connection: each gives it back after its chain."""
    async with DjangoThreadWorker(max_workers=1) as one, DjangoThreadWorker(max_workers=1) as other:
        assert await Slacker(backend_pid, one)() == await Slacker(backend_pid, other)()


@postgresql_only
@pytest.mark.parametrize("statement", ["SELECT nonsense", "SELECT pg_terminate_backend(pg_backend_pid())"])
async def test_a_pooled_connection_goes_back_after_a_failure(
    pooled: None, one_thread: DjangoThreadWorker, statement: str
) -> None:
    """A chain that fails, or loses its connection, gives it back, and the next chain works."""
    with pytest.raises((OperationalError, ProgrammingError)):
        await Slacker(execute, one_thread)(statement)

    assert await Slacker(Author, one_thread).objects.count() == 0


# --- memory --------------------------------------------------------------------------------------------------------


async def test_the_query_log_does_not_grow(one_thread: DjangoThreadWorker) -> None:
    """With DEBUG Django logs each query until a request begins; in slacker's threads until the next chain."""
    with override_settings(DEBUG=True):
        lengths = [await Slacker(count_and_look_at_log, one_thread)() for _ in range(5)]

    assert lengths[1:] == [1] * 4


# --- work and helpers ----------------------------------------------------------------------------------------------


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def count_and_look_at_log() -> int:
    Author.objects.count()
    return len(connection.queries_log)


async def all_threads(worker: DjangoThreadWorker, work: Any) -> list[Any]:
    """Run `work` in each of the worker's four threads at the same time."""
    barrier = threading.Barrier(4)

    def together() -> Any:
        barrier.wait(10)  # liveness bound
        return work()

    return await asyncio.gather(*[Slacker(together, worker)().fetch() for _ in range(4)])


def is_closed(used: Any) -> bool:
    if hasattr(used, "closed"):
        return used.closed
    try:
        used.total_changes
    except sqlite3.ProgrammingError:
        return True
    return False
