"""`DjangoHttpWorker` as an object: which are one, what replaces them, how they end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import zoneinfo
from collections.abc import Iterator

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.utils import timezone

from slacker import Slacker, WorkerClosed, workers
from slacker.django_backend.testing import InlineWorker
from slacker.workers import DjangoHttpWorker, DjangoProcessWorker, DjangoThreadWorker, DjangoWorker
from slacker.workers import django as module
from slacker.workers.http import HttpWorker

from .helpers import ROOT, InProcess
from .project import work


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[HttpWorker]]:
    """Let engines reach the hook in this process, and list them as they are made."""
    made: list[HttpWorker] = []
    make = module._Http.__init__

    def spy(self: module._Http, **arguments: object) -> None:
        make(self, **{"transport": InProcess(), **arguments})
        made.append(self)

    monkeypatch.setattr(module._Http, "__init__", spy)
    with override_settings(SLACKER_SERVER="http://127.0.0.1"):
        yield made


async def call(worker: object) -> int:
    return await Slacker(work.echo, worker)(1)


# --- which are one ---------------------------------------------------------------------------------------------------


def test_those_without_arguments_are_equal() -> None:
    """Workers without arguments are equal and hash alike, so that recipes on them nest."""
    assert DjangoHttpWorker() == DjangoHttpWorker()
    assert len({DjangoHttpWorker(), DjangoHttpWorker(), DjangoHttpWorker(timeout=None)}) == 1


async def test_those_without_arguments_share_an_engine(engines: list[HttpWorker]) -> None:
    """All of them have one set of connections."""
    assert [await call(DjangoHttpWorker()) for _ in range(2)] == [1, 1]
    assert len(engines) == 1


@pytest.mark.parametrize(
    "given", [{"url": "http://127.0.0.1"}, {"timeout": 1.0}, {"max_connections": 8}, {"key": b"k" * 32}], ids=str
)
async def test_any_argument_makes_one_of_its_own(engines: list[HttpWorker], given: dict[str, object]) -> None:
    """A worker with an argument equals itself only, and has its own engine."""
    one, other = DjangoHttpWorker(**given), DjangoHttpWorker(**given)
    assert (one == one, one == other, one == DjangoHttpWorker()) == (True, False, False)
    assert len({one, other, DjangoHttpWorker()}) == 3
    assert len(engines) == 2


def test_the_name_of_2011() -> None:
    """DjangoWorker is DjangoHttpWorker, from both places."""
    assert DjangoWorker is DjangoHttpWorker is workers.DjangoWorker is module.DjangoWorker


def test_it_is_an_http_worker() -> None:
    """Whoever asks for an HttpWorker gets one."""
    assert isinstance(DjangoHttpWorker(), HttpWorker)


def test_it_offers_what_the_others_do() -> None:
    """It forwards to its engine, so it must not inherit what only the engine can do."""

    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(DjangoHttpWorker) == public(DjangoThreadWorker)


def test_threads_are_another_place() -> None:
    """Workers of different kinds differ, and so does whatever is no worker of this sort."""
    assert len({DjangoThreadWorker(), DjangoHttpWorker(), DjangoProcessWorker()}) == 3
    assert DjangoHttpWorker() != "DjangoHttpWorker()"


async def test_a_subclass_is_another_place(engines: list[HttpWorker]) -> None:
    """A subclass, even one of the same name, has an engine of its own."""

    class Sub(DjangoHttpWorker):
        pass

    first = Sub

    class Sub(DjangoHttpWorker):  # type: ignore[no-redef]
        pass

    assert first() != Sub()
    assert [await call(first()), await call(Sub())] == [1, 1]
    assert len(engines) == 2
    await first().aclose()
    await Sub().aclose()


@pytest.mark.parametrize(
    ("worker", "shown"),
    [
        (lambda: DjangoHttpWorker(), "DjangoHttpWorker()"),
        (lambda: DjangoHttpWorker(key="k" * 32), "DjangoHttpWorker('SLACKER_SERVER', max_connections=8)"),
        (lambda: DjangoHttpWorker("127.0.0.1:8000"), "DjangoHttpWorker('http://127.0.0.1:8000', max_connections=8)"),
        (
            lambda: DjangoHttpWorker("http://127.0.0.1/", max_connections=2),
            "DjangoHttpWorker('http://127.0.0.1/', max_connections=2)",
        ),
    ],
)
def test_repr(worker: object, shown: str) -> None:
    """It shows where it leads, and no key."""
    assert shown == repr(worker())


@pytest.mark.parametrize("kind", [DjangoHttpWorker, DjangoThreadWorker])
def test_the_time_zone_is_read_before_the_loop_runs(
    engines: list[HttpWorker], kind: type[DjangoHttpWorker | DjangoThreadWorker]
) -> None:
    """Making a worker reads the file of the default time zone, so that the first call need not, on the loop."""
    timezone.get_default_timezone.cache_clear()
    zoneinfo.ZoneInfo.clear_cache()
    worker = kind()

    async def first_call() -> int:
        async with worker:
            return await call(worker)

    assert asyncio.run(first_call()) == 1  # a read on the loop would raise


# --- how they end ----------------------------------------------------------------------------------------------------


async def test_the_shared_engine_is_closed_for_all(engines: list[HttpWorker]) -> None:
    """Closing one without arguments closes the engine of all; the next call makes another."""
    await call(DjangoHttpWorker())
    await DjangoHttpWorker().aclose()
    with pytest.raises(WorkerClosed):
        engines[0].check_open()
    assert await call(DjangoHttpWorker()) == 1
    assert len(engines) == 2


async def test_closing_what_was_never_used() -> None:
    """Nothing is made in order to be closed."""
    await DjangoHttpWorker().aclose()
    await DjangoHttpWorker("http://127.0.0.1").aclose()


async def test_one_of_its_own_is_closed_by_itself(engines: list[HttpWorker]) -> None:
    """A worker with arguments that is closed stays closed, says so by its name, and the shared one goes on."""
    worker = DjangoHttpWorker("http://127.0.0.1")
    await worker.aclose()
    with pytest.raises(WorkerClosed, match=r"^DjangoHttpWorker\('http://127.0.0.1', max_connections=8\) is closed"):
        await call(worker)
    assert await call(DjangoHttpWorker()) == 1


# --- SLACKER_WORKER --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("slacker.django_backend.testing.InlineWorker", InlineWorker),
        ("slacker.workers.django.DjangoThreadWorker", module._Threads),
        ("slacker.workers.django.DjangoProcessWorker", module.Processes),
        ("slacker.workers.django.DjangoHttpWorker", module._Http),
        ("slacker.workers.django.DjangoWorker", module._Http),
    ],
)
async def test_a_setting_replaces_them(engines: list[HttpWorker], path: str, kind: type) -> None:
    """SLACKER_WORKER replaces what workers without arguments run on, by one for all kinds."""
    with override_settings(SLACKER_WORKER=path):
        http, threads, processes = DjangoHttpWorker(), DjangoThreadWorker(), DjangoProcessWorker()
        assert [await call(http), await call(threads), await call(processes)] == [1, 1, 1]
        assert http._engine() is threads._engine() is processes._engine()
        assert kind is type(http._engine())
        await http.aclose()


async def test_a_setting_leaves_others_alone(engines: list[HttpWorker]) -> None:
    """A worker with arguments is what it is, whatever SLACKER_WORKER says."""
    with override_settings(SLACKER_WORKER="slacker.django_backend.testing.InlineWorker"):
        assert await call(DjangoHttpWorker("http://127.0.0.1")) == 1
    assert engines[0]._sender.transport.requests == 1


async def test_a_setting_is_read_for_each_call(engines: list[HttpWorker]) -> None:
    """One worker follows SLACKER_WORKER there and back."""
    worker = DjangoHttpWorker()
    await call(worker)
    with override_settings(SLACKER_WORKER="slacker.django_backend.testing.InlineWorker"):
        await call(worker)
        await worker.aclose()
    await call(worker)
    assert [engine._sender.transport.requests for engine in engines] == [2]


@pytest.mark.parametrize(
    "path", ["no.such.module", "slacker.workers.django._setting", "slacker.workers.http.HttpWorker"]
)
async def test_a_setting_that_names_no_worker(path: str) -> None:
    """SLACKER_WORKER that names nothing, or no worker that can be made, is ImproperlyConfigured."""
    with override_settings(SLACKER_WORKER=path), pytest.raises(ImproperlyConfigured, match="SLACKER_WORKER"):
        await call(DjangoHttpWorker())


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"url": "ftp://127.0.0.1:8000"}, "http:// or https://"),
        ({"key": "short"}, "at least 32 bytes"),
        ({"key": b""}, "at least 32 bytes"),
        ({"timeout": 0}, "timeout must be a number of seconds above 0"),
        ({"max_connections": 0}, "max_connections must be at least 1"),
    ],
)
def test_what_cannot_be_made(given: dict[str, object], problem: str) -> None:
    """An argument that is not usable is a ValueError when the worker is made."""
    with pytest.raises(ValueError, match=problem):
        DjangoHttpWorker(**given)


def test_apps_that_are_not_loaded() -> None:
    """A call before ``django.setup()`` says that it is missing."""
    code = """
        import asyncio
        from django.conf import settings
        from slacker import Slacker, run
        from slacker.workers import DjangoHttpWorker
        settings.configure(SECRET_KEY="x" * 60)
        asyncio.run(run(Slacker(len, DjangoHttpWorker())([])))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "AppRegistryNotReady: Django's apps aren't loaded yet: call django.setup() first" in done.stderr


def test_several_loops_share_it(engines: list[HttpWorker]) -> None:
    """One loop after another uses the same engine."""
    assert [asyncio.run(call(DjangoHttpWorker())) for _ in range(2)] == [1, 1]
    assert len(engines) == 1
