"""What servers go through: one thread for everything, work that leaves traces, a database that is gone for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import Error

from slacker import Slacker
from slacker.workers import DjangoHttpWorker
from tests.postgres import PostgreSQL, running_postgresql

from .conftest import AUDIENCE, with_tables
from .helpers import Server
from .project import work

ONE_THREAD = {
    "runserver": ["-m", "django", "runserver", "--noreload", "--nothreading", "127.0.0.1:{port}"],
    "gunicorn": ["-m", "gunicorn", "-b", "127.0.0.1:{port}", "-w", "1", "tests.servers.project.wsgi"],
    "runslacker": ["-m", "django", "runslacker", "127.0.0.1:{port}", "--processes", "1", "--threads", "1"],
}


@pytest.fixture(scope="module", params=ONE_THREAD)
def one_thread(
    request: pytest.FixtureRequest, sqlite: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Serve with a single thread, by each kind of server."""
    log = tmp_path_factory.mktemp("log") / "log"
    with Server(ONE_THREAD[request.param], sqlite, log, SLACKER_AUDIENCE=AUDIENCE) as server:
        yield server


async def test_calls_at_once_take_turns(one_thread: Server) -> None:
    """Where one thread serves all, calls at once, over more connections than it can hold open, wait for each other."""
    async with DjangoHttpWorker(one_thread.url) as worker:
        assert await asyncio.gather(*[Slacker(work.echo, worker)(n) for n in range(30)]) == list(range(30))


async def test_no_traces_are_left(one_thread: Server) -> None:
    """What the work sets in its context is not seen by the next call in the thread, and what it prints by no call."""
    async with DjangoHttpWorker(one_thread.url) as worker:
        before = await Slacker(work.traces, worker)()
        assert await Slacker(work.leave_traces, worker)() is None
        assert await Slacker(work.traces, worker)() == before


# --- the database ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mortal() -> Iterator[PostgreSQL]:
    """Run a PostgreSQL that may be stopped, as no other test needs it."""
    with running_postgresql() as server:
        server.create("mortal")
        yield server


@pytest.mark.parametrize("kind", ["runslacker", "gunicorn"])
async def test_the_database_restarts(mortal: PostgreSQL, tmp_path: Path, kind: str) -> None:
    """While the database is down calls fail with Django's error; when it is back, at most one more of a thread does."""
    database = await asyncio.to_thread(with_tables, mortal.entry("mortal"))
    with Server(ONE_THREAD[kind], database, tmp_path / "log", SLACKER_AUDIENCE=AUDIENCE) as server:
        async with DjangoHttpWorker(server.url) as worker:
            authors = Slacker(work.count_authors, worker)()
            assert await authors == 0
            await asyncio.to_thread(mortal.stop)
            for _ in range(3):
                with pytest.raises(Error):
                    await authors
            await asyncio.to_thread(mortal.start)
            outcomes = await asyncio.gather(authors, return_exceptions=True)
            assert outcomes == [0] or isinstance(outcomes[0], Error)
            assert [await authors for _ in range(5)] == [0] * 5
