"""DjangoProcessWorker: processes in which Django is set up as it is here, on the databases that are in force here."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from django.test import override_settings
from django.utils import timezone, translation

from slacker import Slacker, SlackerError, TransportError
from slacker.workers import DjangoProcessWorker, DjangoThreadWorker, DummyWorker
from slacker.workers import django as module
from tests.django.app.models import Author
from tests.django.helpers import backend_pid, postgresql_only

ROOT = Path(__file__).parents[2]


@pytest.fixture
def one_process(database: dict[str, Any]) -> Iterator[DjangoProcessWorker]:
    """Make a worker on which each chain follows another in the same process."""
    worker = DjangoProcessWorker(1)
    yield worker
    asyncio.run(worker.aclose())


def session() -> int:
    """As work: return which object is the driver's connection."""
    connection.ensure_connection()
    return id(connection.connection)


def database_name() -> str:
    return str(connection.settings_dict["NAME"])


def settings_module() -> str:
    return settings.SETTINGS_MODULE


def begin_and_leave() -> None:
    """As work: begin a transaction and leave it open."""
    connection.set_autocommit(False)
    Author.objects.create(name="Ann")


# --- where it runs -------------------------------------------------------------------------------------------------


async def test_runs_in_another_process(processes: DjangoProcessWorker) -> None:
    """The process that queries is not this one, and has the same settings module."""
    assert await Slacker(os, processes).getpid() != os.getpid()
    assert await Slacker(settings_module, processes)() == "tests.django.settings"


@pytest.mark.usefixtures("database")
async def test_workers_without_arguments_share_their_processes() -> None:
    """All DjangoProcessWorker() are equal, and run on one engine until one of them is closed."""
    first, second = DjangoProcessWorker(), DjangoProcessWorker()
    pid = await Slacker(os, first).getpid()
    assert await Slacker(os, second).getpid() == pid
    await first.aclose()
    assert await Slacker(os, second).getpid() != pid
    await second.aclose()


def test_which_workers_are_one() -> None:
    """Workers without arguments are equal; one with arguments equals itself only, and other kinds not at all."""
    assert DjangoProcessWorker() == DjangoProcessWorker()
    assert len({DjangoProcessWorker(), DjangoProcessWorker(1), DjangoProcessWorker(1), DjangoThreadWorker()}) == 4


def test_repr() -> None:
    """The repr reads like the call that made it."""
    assert repr(DjangoProcessWorker()) == "DjangoProcessWorker()"
    assert repr(DjangoProcessWorker(2, max_queue=5)) == "DjangoProcessWorker(max_workers=2, max_queue=5)"


async def test_a_setting_replaces_them(library: dict[str, Author]) -> None:
    """SLACKER_WORKER replaces what workers without arguments run on, so that a test sees its own process."""
    with override_settings(SLACKER_WORKER="slacker.django_backend.testing.InlineWorker"):
        assert await Slacker(os, DjangoProcessWorker()).getpid() == os.getpid()
        await DjangoProcessWorker().aclose()


async def test_the_setting_names_the_worker_itself() -> None:
    """The setting may name DjangoProcessWorker, for workers of all kinds."""
    with override_settings(SLACKER_WORKER="slacker.workers.django.DjangoProcessWorker"):
        engine = DjangoThreadWorker()._engine()
        assert (type(engine), engine) == (module.Processes, DjangoProcessWorker()._engine())
        await DjangoProcessWorker().aclose()


# --- which database ------------------------------------------------------------------------------------------------


async def test_finds_the_rows(processes: DjangoProcessWorker, library: dict[str, Author]) -> None:
    """Processes find the rows that are there, and this one finds those of processes."""
    await Slacker(Author, processes).objects.create(name="Zoe")
    names = Slacker(Author, processes).objects.values_list("name", flat=True)
    assert await names == ["Ann", "Bob", "Zoe"]
    assert await Slacker(Author, DummyWorker()).objects.count() == 3


async def test_follows_the_databases_in_force(
    one_process: DjangoProcessWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a database gets another name, as when a test run begins, no process with the old one serves another call."""
    name, pid = await Slacker(database_name, one_process)(), await Slacker(os, one_process).getpid()
    assert name == database_name()
    with monkeypatch.context() as patch:
        patch.setitem(connections["default"].settings_dict, "NAME", "test_" + Path(name).name)
        assert await Slacker(database_name, one_process)() == "test_" + Path(name).name
    assert await Slacker(database_name, one_process)() == name
    assert await Slacker(os, one_process).getpid() != pid


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("name", [":memory:", "file:memorydb_default?mode=memory&cache=shared"])
async def test_refuses_a_database_in_memory(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A SQLite database in memory, which no other process can see, is refused by its alias."""
    entry = {**connections["default"].settings_dict, "ENGINE": "django.db.backends.sqlite3", "NAME": name}
    monkeypatch.setitem(connections.settings, "memory", connections.configure_settings({"default": entry})["default"])
    with pytest.raises(ImproperlyConfigured, match="The database 'memory' is SQLite in memory"):
        await Slacker(os, DjangoProcessWorker()).getpid()
    del connections["memory"]


async def test_a_name_that_is_a_path(one_process: DjangoProcessWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a database may be a Path, as in a new project's settings, or left out."""
    name = database_name()
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", Path(name))
    assert await Slacker(database_name, one_process)() == name


@postgresql_only
async def test_a_database_without_a_name(one_process: DjangoProcessWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database may have no name of its own, as one that is named by a service file."""
    monkeypatch.setitem(connections["default"].settings_dict, "NAME", None)
    assert await Slacker(database_name, one_process)() == "None"


SCRIPT = """
import asyncio, django
from django.conf import settings
from slacker import Slacker, run
from slacker.workers import DjangoProcessWorker

settings.configure(SECRET_KEY="x" * 60)
django.setup()
asyncio.run(run(Slacker(len, DjangoProcessWorker())([])))
"""


def test_refuses_settings_that_no_module_has() -> None:
    """Settings made by settings.configure() cannot be those of other processes, and the call says so."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=60
    )  # liveness bound
    assert "ImproperlyConfigured: The settings were made by settings.configure()" in done.stderr


async def test_settings_that_fail_there(database: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """When Django cannot be set up in a process the call says why, and did not run."""
    monkeypatch.setenv("SLACKER_TEST_DATABASE", "no JSON")
    async with DjangoProcessWorker(1) as worker:
        with pytest.raises(SlackerError, match=r"a process cannot be set up, .*JSONDecodeError") as caught:
            await Slacker(os, worker).getpid()
    assert caught.value.executed is False


# --- Django's care -------------------------------------------------------------------------------------------------


async def test_the_callers_language_and_time_zone_go_along(one_process: DjangoProcessWorker) -> None:
    """Language and time zone of the caller are active in the work, and not left behind."""
    language, zone = Slacker(translation.get_language, one_process)(), Slacker(timezone, one_process)
    with translation.override("de"), timezone.override(zoneinfo.ZoneInfo("Europe/Berlin")):
        assert (await language, await zone.get_current_timezone_name()) == ("de", "Europe/Berlin")
    assert (await language, await zone.get_current_timezone_name()) == ("en", "UTC")


async def test_keeps_its_connection(one_process: DjangoProcessWorker) -> None:
    """Chains that follow each other in a process have one connection."""
    assert len({await Slacker(session, one_process)() for _ in range(3)}) == 1


@postgresql_only
async def test_a_connection_that_the_server_closed(
    one_process: DjangoProcessWorker, backends: Any, library: dict[str, Author]
) -> None:
    """A call after the server ended the session fails at most once, and the next has a new connection."""
    before = await Slacker(backend_pid, one_process)()
    await asyncio.to_thread(backends.terminate, before)
    count = Slacker(Author, one_process).objects.count()
    await asyncio.gather(count, return_exceptions=True)
    assert await count == 2
    assert await Slacker(backend_pid, one_process)() != before


async def test_a_transaction_that_is_left_open(one_process: DjangoProcessWorker) -> None:
    """What a chain wrote in a transaction that it left open is not there for the next."""
    await Slacker(begin_and_leave, one_process)()
    assert await Slacker(session, one_process)()


async def test_survives_the_death_of_a_process(one_process: DjangoProcessWorker, library: dict[str, Author]) -> None:
    """After a process died the next call finds the ORM in another."""
    with pytest.raises(TransportError):
        await Slacker(os, one_process).abort()
    assert await Slacker(Author, one_process).objects.count() == 2


@postgresql_only
async def test_the_server_sees_the_sessions_end(database: dict[str, Any], backends: Any) -> None:
    """When aclose() returns the processes' connections have been closed."""
    async with DjangoProcessWorker(1) as worker:
        pid = await Slacker(backend_pid, worker)()
    assert pid not in await asyncio.to_thread(backends.pids)


# --- as the program was started ------------------------------------------------------------------------------------


def arguments() -> list[str]:
    return sys.argv


async def test_settings_see_how_the_program_was_started(
    one_process: DjangoProcessWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that ask whether "test" is among the arguments have the same answer in a process."""
    monkeypatch.setattr(sys, "argv", ["manage.py", "test", "it's"])

    assert await Slacker(arguments, one_process)() == ["manage.py", "test", "it's"]


def host_and_user() -> tuple[str, str]:
    return connection.settings_dict["HOST"], connection.settings_dict["USER"]


@postgresql_only
async def test_the_server_in_force_is_used(
    database: dict[str, Any], one_process: DjangoProcessWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only the name of a database is that in force here, but where it is."""
    monkeypatch.setitem(database, "USER", "somebody-else")
    monkeypatch.setitem(connection.settings_dict, "USER", "somebody-else")

    assert await Slacker(host_and_user, one_process)() == (database["HOST"], "somebody-else")
