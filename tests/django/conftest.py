"""Databases for the tests of Django's side.

A test that uses the fixture `database`, directly or through another, runs twice: on a SQLite file and on a real
PostgreSQL. The marks `sqlite_only` and `postgresql_only` of `tests.django.helpers` leave one out.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

import django
import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections
from django.db.backends.utils import CursorWrapper
from django.utils import timezone

from slacker import Slacker, Worker
from slacker.workers import DjangoHttpWorker, DjangoProcessWorker, DjangoThreadWorker
from tests.django.helpers import Backends, HookServer
from tests.http.servers import AUDIENCE, KEY
from tests.postgres import PostgreSQL

with pytest.MonkeyPatch.context() as environment:  # of this process only: child processes have settings of their own
    environment.setenv("DJANGO_SETTINGS_MODULE", "tests.django.settings")
    django.setup()

from slacker.django_backend.testing import InlineWorker
from tests.django.app.models import Author, Tag  # models need the settings


@pytest.fixture(scope="session")
def postgresql(postgresql_server: PostgreSQL) -> dict[str, Any]:
    """Make a database in PostgreSQL and return the entry of DATABASES for it."""
    postgresql_server.create("django")
    entry = postgresql_server.entry("django")
    entry["OPTIONS"]["application_name"] = "slacker-tests"
    return entry


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Point ``connections["default"]``, in all threads and child processes, at a database with the app's tables.

    Returns:
        The live entry of DATABASES: what a test sets there holds for connections opened from then on.
    """
    if request.param == "postgresql":
        configured = request.getfixturevalue("postgresql")
    else:
        file = tmp_path_factory.mktemp("sqlite") / "tests.sqlite3"
        configured = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(file)}
        configured["OPTIONS"] = {"init_command": "PRAGMA synchronous=OFF"}  # nobody pulls the plug
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLACKER_TEST_DATABASE", json.dumps(configured))
        entry = connections.configure_settings({"default": configured})["default"]
        patch.setitem(connections.settings, "default", entry)
        _forget_connection()
        call_command("migrate", run_syncdb=True, verbosity=0)
        yield entry
        _forget_connection()


def _forget_connection() -> None:
    connections["default"].close()
    del connections["default"]


@pytest.fixture(autouse=True)
def _time_zone_is_read() -> None:
    """Have Django read its default time zone, a file, before a loop runs: once for each change of a setting."""
    timezone.get_default_timezone()


@pytest.fixture(autouse=True)
def _rows_go(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave an empty database behind."""
    yield
    if "database" in request.fixturenames:
        for model in apps.get_models():
            model._base_manager.all().delete()


@pytest.fixture(autouse=True)
def _threads_go(_rows_go: None) -> Iterator[None]:
    """Close the shared engine, and see that no thread of slacker's is left to disturb the next test."""
    yield
    asyncio.run(DjangoThreadWorker().aclose())
    for thread in threading.enumerate():
        if thread.name.startswith("slacker") and not thread.name.startswith("slacker-process"):  # see `processes`
            thread.join(10)  # it may be on its last steps; the time is a liveness bound
            assert not thread.is_alive(), f"{thread.name} was left behind"


@pytest.fixture
def four_threads(database: dict[str, Any]) -> Iterator[DjangoThreadWorker]:
    """Make a worker with four threads."""
    yield from _closed_after(DjangoThreadWorker(max_workers=4))


@pytest.fixture
def worker(four_threads: DjangoThreadWorker) -> DjangoThreadWorker:
    """Return the worker that a test is about, if it does not say otherwise: the one with four threads."""
    return four_threads


@pytest.fixture(scope="package")
def processes(database: dict[str, Any]) -> Iterator[DjangoProcessWorker]:
    """Make a worker with two processes, which are kept for all tests on a database: to start them takes its time."""
    made = DjangoProcessWorker(2)
    yield made
    asyncio.run(made.aclose())


@pytest.fixture
def one_thread(database: dict[str, Any]) -> Iterator[DjangoThreadWorker]:
    """Make a worker on which each chain follows another in the same thread."""
    yield from _closed_after(DjangoThreadWorker(max_workers=1))


W = TypeVar("W", bound=Worker)


def _closed_after(worker: W) -> Iterator[W]:
    yield worker
    asyncio.run(worker.aclose())


@pytest.fixture
def hook(database: dict[str, Any]) -> Iterator[HookServer]:
    """Serve the hook to this process."""
    with HookServer() as server:
        yield server


@pytest.fixture
def http_worker(hook: HookServer) -> Iterator[DjangoHttpWorker]:
    """Make a worker for the `hook`."""
    yield from _closed_after(DjangoHttpWorker(hook.url, key=KEY, audience=AUDIENCE))


@pytest.fixture(params=["threads", "http", "inline"])
def any_worker(request: pytest.FixtureRequest, database: dict[str, Any]) -> Iterator[Worker]:
    """Make a worker, once of each kind that Django has and that shares the test's memory; see the marks in helpers."""
    if request.param == "inline":
        yield from _closed_after(InlineWorker())
    else:
        fixtures = {"threads": "four_threads", "http": "http_worker", "processes": "processes"}
        yield request.getfixturevalue(fixtures[request.param])


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """List the statements that Django executes from now on, in whichever thread."""
    executed: list[str] = []
    execute = CursorWrapper.execute

    def spy(self: CursorWrapper, sql: Any, params: Any = None) -> Any:
        executed.append(str(sql))
        return execute(self, sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", spy)
    return executed


@pytest.fixture
def library(database: dict[str, Any]) -> dict[str, Author]:
    """Fill the database: Ann wrote "Ashes" (tags: war, sea) and "Bread" (600 pages), Bob wrote "Clouds"."""
    ann, bob = Author.objects.create(name="Ann"), Author.objects.create(name="Bob")
    ashes = ann.books.create(title="Ashes")
    ashes.tags.set([Tag.objects.create(name="sea"), Tag.objects.create(name="war")])
    ann.books.create(title="Bread", pages=600)
    bob.books.create(title="Clouds")
    return {"Ann": ann, "Bob": bob}


@pytest.fixture
def authors(worker: DjangoThreadWorker, library: dict[str, Author]) -> Slacker:
    """Return the recipe that starts at the authors of the `library`."""
    return Slacker(Author, worker).objects


@pytest.fixture
def backends(database: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Backends]:
    """Ask PostgreSQL about its sessions; those of other threads are told from the test's own by their name."""
    connections["default"].ensure_connection()
    monkeypatch.setitem(database["OPTIONS"], "application_name", Backends.name)
    observer = Backends(database)
    yield observer
    observer.close()


@pytest.fixture
def pooled(database: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give threads their connections from a psycopg pool, which holds one."""
    connections["default"].ensure_connection()  # the test's own comes from no pool
    monkeypatch.setitem(database["OPTIONS"], "pool", {"min_size": 1, "max_size": 1, "timeout": 10})
    yield
    connections["default"].close_pool()
