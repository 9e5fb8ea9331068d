"""The project of these tests: in this process, where the clients are, and on databases for its servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.conf import settings
from django.test import override_settings
from django.utils import timezone

from slacker import Slacker
from slacker.workers import DjangoHttpWorker
from tests.postgres import PostgreSQL

from .helpers import KINDS, Server
from .helpers import django as manage

AUDIENCE = "tests of servers"


@pytest.fixture(scope="package", autouse=True)
def project() -> Iterator[str]:
    """Give this process the project's settings; its servers have other databases, hence the name for both sides.

    Yields:
        The settings module that this process was set up with.
    """
    if not settings.configured:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("DJANGO_SETTINGS_MODULE", "tests.servers.project.settings")
            django.setup()
    from .project import settings as own

    module = settings.SETTINGS_MODULE
    with override_settings(
        **{name: getattr(own, name) for name in dir(own) if name.isupper() and name != "DATABASES"},
        SLACKER_AUDIENCE=AUDIENCE,
    ):
        yield module
    timezone.get_default_timezone()


@pytest.fixture(autouse=True)
def _as_it_was(project: str) -> Iterator[None]:
    """Close what workers without arguments share, and have no time zone to read on a loop, whatever went before."""
    timezone.get_default_timezone()  # Django reads a file for it, once for each change of a setting
    yield
    asyncio.run(DjangoHttpWorker().aclose())


# --- databases -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgresql(postgresql_server: PostgreSQL) -> dict[str, Any]:
    """Make a database in PostgreSQL and return the entry of DATABASES for it."""
    postgresql_server.create("servers")
    return with_tables(postgresql_server.entry("servers"))


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the entry of DATABASES for a SQLite file."""
    file = tmp_path_factory.mktemp("sqlite") / "project.sqlite3"
    entry = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(file)}
    return with_tables({**entry, "OPTIONS": {"init_command": "PRAGMA synchronous=OFF"}})


def with_tables(entry: dict[str, Any]) -> dict[str, Any]:
    """Make the project's tables in the database of an entry of DATABASES, and return that."""
    code, output = manage("migrate", "--run-syncdb", "--verbosity", "0", database=entry)
    assert (code, output) == (0, "")
    return entry


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the entry of DATABASES for a database with the project's tables: once SQLite, once PostgreSQL."""
    return request.getfixturevalue(request.param)


# --- servers and clients ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="package")
def servers(database: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Start one server of each kind, all at once."""
    logs = tmp_path_factory.mktemp("logs")
    started = {kind: Server(kind, database, logs / kind, SLACKER_AUDIENCE=AUDIENCE) for kind in KINDS}
    yield started
    for server in started.values():
        server.ask_to_stop()
    for server in started.values():
        server.stop()


@pytest.fixture(scope="package", params=KINDS)
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    """Return a server, once for each kind."""
    server = servers[request.param]
    server.wait()
    return server


@pytest.fixture
def worker(server: Server) -> Iterator[DjangoHttpWorker]:
    """Make a worker for the server."""
    made = DjangoHttpWorker(server.url)
    yield made
    asyncio.run(made.aclose())


@pytest.fixture
def library(worker: DjangoHttpWorker) -> DjangoHttpWorker:
    """Have the worker's server fill its database, see `tests.servers.project.work.refill`."""
    from .project import work

    async def fill() -> None:
        await Slacker(work.refill, worker)()

    asyncio.run(fill())
    return worker
