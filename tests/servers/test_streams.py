"""Streams from real servers: which can, how they end when the client goes, and what they take of memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from slacker import Refused, Slacker, options, stream
from slacker.workers import DjangoHttpWorker
from tests.waiting import LIVENESS, until

from .conftest import AUDIENCE
from .helpers import KINDS, Server, environment
from .project import work

LARGE = 100_000
"""Bytes of an item: sockets hold some megabytes, which are not many of these."""

streaming = pytest.mark.parametrize("server", [kind for kind in KINDS if kind != "uvicorn"], indirect=True)


class Sessions:
    """PostgreSQL's own view of the sessions of servers."""

    def __init__(self, database: dict[str, Any]) -> None:
        self._connection = psycopg.connect(
            host=database["HOST"], user=database["USER"], dbname=database["NAME"], autocommit=True
        )

    def in_transaction(self) -> int:
        """Return how many sit in a transaction, waiting for whoever holds it open."""
        query = """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle in transaction'
        """
        return self._connection.execute(query).fetchone()[0]

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def sessions(database: dict[str, Any]) -> Iterator[Sessions]:
    made = Sessions(database)
    yield made
    made.close()


@streaming
async def test_rows_arrive(library: DjangoHttpWorker) -> None:
    """Rows come from every server that can send a reply while it is made."""
    from .project.models import Author

    authors = Slacker(Author, library).objects.order_by("name").prefetch_related("books")
    found = [(author.name, len(author.books.all())) async for author in stream(authors, chunk_size=1)]

    assert found == [("Ann", 2), ("Bob", 1)]


@streaming
async def test_leaving_early(worker: DjangoHttpWorker) -> None:
    """Leaving a stream frees the server's thread for the next call."""
    async with aclosing(stream(Slacker(work.endless, worker)(LARGE), chunk_size=1)) as items:
        assert len(await anext(items)) == LARGE

    assert await Slacker(work.echo, worker)("next") == "next"


@pytest.mark.parametrize("server", ["uvicorn"], indirect=True)
async def test_asgi_is_refused_by_name(worker: DjangoHttpWorker) -> None:
    """A server whose replies are whole refuses a stream, before anything ran; calls go on."""
    with pytest.raises(Refused, match="replies are whole") as caught:
        [item async for item in Slacker(range, worker)(3)]

    assert (caught.value.reason, caught.value.executed) == ("no-streams", False)
    assert await Slacker(work.echo, worker)("next") == "next"


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@streaming
def test_a_client_that_is_killed(server: Server, database: dict[str, Any], sessions: Sessions) -> None:
    """When the process that reads a stream is killed the server ends it: its transaction is over."""
    reader = f"""
        import asyncio, time
        import django
        django.setup()
        from slacker import Slacker, options, stream
        from slacker.workers import DjangoHttpWorker
        from tests.servers.project import work

        async def main():
            worker = DjangoHttpWorker({server.url!r})
            items = stream(options(Slacker(work.endless, worker)({LARGE}), atomic=True), chunk_size=1)
            await items.next_chunk()
            print("reads", flush=True)
            time.sleep({LIVENESS})

        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(reader)]
    env = environment(database, SLACKER_AUDIENCE=AUDIENCE)
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "reads\n"
            until(sessions.in_transaction)
        finally:
            process.kill()
    until(lambda: not sessions.in_transaction())


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@streaming
async def test_a_reader_that_leaves(worker: DjangoHttpWorker, sessions: Sessions) -> None:
    """A transaction around a stream is over when its reader has left."""
    recipe = options(Slacker(work.endless, worker)(LARGE), atomic=True)
    async with aclosing(stream(recipe, chunk_size=1)) as items:
        await items.next_chunk()
    until(lambda: not sessions.in_transaction())


MEASURE = """
    import asyncio, sys
    import django
    django.setup()
    from slacker import Slacker, stream
    from slacker.workers import DjangoHttpWorker
    from tests.servers.project import work
    from tests.servers.project.models import Book

    async def main():
        async with DjangoHttpWorker(sys.argv[1]) as worker:
            await Slacker(work.fill, worker)(50_000)
            for count in (5_000, 25_000, 50_000):
                got = 0
                async for book in Slacker(Book, worker).objects.order_by("pk")[:count]:
                    got += 1
                print(got, work.peak(), await Slacker(work.peak, worker)())

    asyncio.run(main())
"""


def test_memory_does_not_grow_with_the_rows(sqlite: dict[str, Any], tmp_path: Path) -> None:
    """Twice as many rows take less than 5 MB more at their peak, of the client as of the server."""
    command = ["-m", "django", "runslacker", "127.0.0.1:{port}", "--processes", "1", "--threads", "1"]
    with Server(command, sqlite, tmp_path / "log", SLACKER_AUDIENCE=AUDIENCE) as server:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(MEASURE), server.url],
            env=environment(sqlite, SLACKER_AUDIENCE=AUDIENCE),
            capture_output=True,
            text=True,
            timeout=LIVENESS,
        )
    assert done.returncode == 0, done.stderr
    counts, clients, servers = zip(*[map(int, line.split()) for line in done.stdout.splitlines()], strict=True)

    assert counts == (5_000, 25_000, 50_000)
    assert clients[2] - clients[1] < 5 << 20
    assert servers[2] - servers[1] < 5 << 20
