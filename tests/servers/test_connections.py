"""Database connections of servers: kept under runslacker, Django's own affair under the URL include."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError
from django.utils import timezone, translation

from slacker import Slacker
from slacker.workers import DjangoHttpWorker, HttpWorker

from .conftest import AUDIENCE
from .helpers import Server
from .project import settings, work

ONE_PROCESS = ["-m", "gunicorn", "-b", "127.0.0.1:{port}", "-w", "1", "tests.servers.project.wsgi"]


@pytest.fixture(scope="module", params=["127.0.0.1", "0.0.0.0"])
def one_thread_server(
    request: pytest.FixtureRequest, postgresql: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Serve by runslacker, on loopback and on the network, with one thread, in which all work follows one another."""
    command = ["-m", "django", "runslacker", f"{request.param}:{{port}}", "--processes", "1", "--threads", "1"]
    log = tmp_path_factory.mktemp("log") / "runslacker"
    with Server(command, postgresql, log, host=request.param, SLACKER_AUDIENCE=AUDIENCE) as server:
        yield server


@pytest.fixture
def one_thread(one_thread_server: Server) -> Iterator[DjangoHttpWorker]:
    yield from closed_after(DjangoHttpWorker(one_thread_server.url))


def closed_after(worker: DjangoHttpWorker) -> Iterator[DjangoHttpWorker]:
    yield worker
    asyncio.run(worker.aclose())


async def test_runslacker_keeps_connections(one_thread: DjangoHttpWorker) -> None:
    """With CONN_MAX_AGE at its default of 0, a thread of runslacker has one session for many chains."""
    session = Slacker(work.session, one_thread)
    assert len({await session() for _ in range(5)}) == 1


async def test_a_session_that_is_killed(one_thread: DjangoHttpWorker, postgresql: dict[str, Any]) -> None:
    """When PostgreSQL ends a session between two calls at most one call fails, and the next has a new session."""
    session = Slacker(work.session, one_thread)
    before = await session()
    with psycopg.connect(host=postgresql["HOST"], user=postgresql["USER"], dbname=postgresql["NAME"]) as administrator:
        administrator.execute("SELECT pg_terminate_backend(%s, 10000)", [before])
    try:
        after = await session()
    except DatabaseError:
        after = await session()
    assert before != after


async def test_nothing_of_a_caller_is_left_behind(one_thread: DjangoHttpWorker, one_thread_server: Server) -> None:
    """Language and time zone of one call are gone when the thread serves the next."""
    with translation.override("de"), timezone.override("Asia/Tokyo"):
        assert await Slacker(work.surroundings, one_thread)() == ("de", "Asia/Tokyo")
    async with HttpWorker(one_thread_server.url, key=settings.SLACKER_KEY, audience=AUDIENCE) as plain:
        assert await Slacker(work.surroundings, plain)() == ("en", "UTC")  # of which none came along


@pytest.mark.parametrize(("max_age", "sessions"), [(0, 3), (60, 1)])
async def test_the_include_leaves_connections_to_django(
    postgresql: dict[str, Any], tmp_path: Path, max_age: int, sessions: int
) -> None:
    """Under the URL include CONN_MAX_AGE means what it means for requests."""
    database = {**postgresql, "CONN_MAX_AGE": max_age}
    with Server(ONE_PROCESS, database, tmp_path / "log", SLACKER_AUDIENCE=AUDIENCE) as server:
        async with DjangoHttpWorker(server.url) as worker:
            assert sessions == len({await Slacker(work.session, worker)() for _ in range(3)})


# --- ATOMIC_REQUESTS -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def atomic_server(database: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve a project with ATOMIC_REQUESTS."""
    log = tmp_path_factory.mktemp("log") / "gunicorn"
    with Server(ONE_PROCESS, {**database, "ATOMIC_REQUESTS": True}, log, SLACKER_AUDIENCE=AUDIENCE) as server:
        yield server


@pytest.fixture
def atomic(atomic_server: Server) -> Iterator[DjangoHttpWorker]:
    yield from closed_after(DjangoHttpWorker(atomic_server.url))


async def test_a_chain_that_fails_is_rolled_back(atomic: DjangoHttpWorker) -> None:
    """With ATOMIC_REQUESTS what a failing chain did is undone, and a chain beside it is not."""
    from .project.models import Author

    await Slacker(work.refill, atomic)()
    authors = Slacker(Author, atomic).objects
    failed, created = await asyncio.gather(
        Slacker(work.create_and_fail, atomic)("Eve"), authors.create(name="Dan"), return_exceptions=True
    )
    assert (ValueError, "Dan") == (type(failed), created.name)
    assert await authors.order_by("name").values_list("name", flat=True) == ["Ann", "Bob", "Dan"]


async def test_one_transaction_is_enough(atomic: DjangoHttpWorker) -> None:
    """The view is not atomic besides: one chain, one transaction."""
    assert await Slacker(work.atomic_blocks, atomic)() == 1
