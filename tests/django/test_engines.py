"""What a DjangoThreadWorker runs on: the shared engine, one of its own, or what the setting SLACKER_WORKER names."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from slacker import Slacker, Worker, WorkerClosed
from slacker.chain import Chain
from slacker.workers import DjangoThreadWorker, ThreadWorker


async def thread_of(worker: Worker) -> threading.Thread:
    return await Slacker(threading.current_thread, worker)()


# --- sharing -------------------------------------------------------------------------------------------------------


def test_workers_without_arguments_are_equal() -> None:
    """All DjangoThreadWorker() are equal and have one hash: they are one place."""
    assert len({DjangoThreadWorker(), DjangoThreadWorker()}) == 1


@pytest.mark.parametrize("arguments", [{"max_workers": 2}, {"thread_name_prefix": "own"}, {"max_queue": 5}], ids=repr)
def test_a_worker_with_arguments_is_its_own(arguments: dict[str, Any]) -> None:
    """Any argument makes a worker that equals none but itself."""
    worker = DjangoThreadWorker(**arguments)

    assert len({worker, worker, DjangoThreadWorker(), DjangoThreadWorker(**arguments)}) == 3


def test_a_worker_equals_nothing_else() -> None:
    """A worker is not equal to what is no DjangoThreadWorker."""
    assert DjangoThreadWorker() != ThreadWorker()


async def test_workers_without_arguments_share_their_threads() -> None:
    """All DjangoThreadWorker() run on one pool: more workers do not mean more threads than it may have."""
    for _ in range(50):
        await thread_of(DjangoThreadWorker())

    most = min(32, (os.cpu_count() or 1) + 4)
    assert 1 <= sum(thread.name.startswith("slacker-django-") for thread in threading.enumerate()) <= most


async def test_a_worker_with_arguments_has_threads_of_its_own() -> None:
    """A worker with arguments uses neither the shared threads nor more of its own than it may."""
    shared = await thread_of(DjangoThreadWorker())
    async with DjangoThreadWorker(max_workers=1) as worker:
        own = {await thread_of(worker) for _ in range(5)}

    assert (len(own), shared in own) == (1, False)


async def test_threads_are_named() -> None:
    """thread_name_prefix names the threads."""
    async with DjangoThreadWorker(thread_name_prefix="slacker-orm") as worker:
        assert (await thread_of(worker)).name == "slacker-orm-1"


async def test_closing_one_closes_the_shared_engine() -> None:
    """aclose() of one DjangoThreadWorker() ends the shared threads, and returns when they have ended."""
    thread = await thread_of(DjangoThreadWorker())
    await DjangoThreadWorker().aclose()

    thread.join(10)  # liveness bound
    assert not thread.is_alive()


async def test_the_next_call_starts_another_engine() -> None:
    """After aclose() a DjangoThreadWorker(), the very same included, goes on with new threads."""
    worker = DjangoThreadWorker()
    before = await thread_of(worker)
    await worker.aclose()

    assert before is not await thread_of(worker)


async def test_a_closed_worker_of_its_own_stays_closed() -> None:
    """A worker with arguments refuses calls after aclose(), as every other worker does."""
    worker = DjangoThreadWorker(max_workers=1)
    await worker.aclose()

    with pytest.raises(WorkerClosed):
        await thread_of(worker)


async def test_closing_what_was_never_used() -> None:
    """aclose() of a worker that made no call does nothing."""
    await DjangoThreadWorker().aclose()


def test_repr() -> None:
    """The repr reads like the call that made it."""
    assert repr(DjangoThreadWorker()) == "DjangoThreadWorker()"
    assert repr(DjangoThreadWorker(2, max_queue=5)) == "DjangoThreadWorker(max_workers=2, max_queue=5)"


# --- SLACKER_WORKER ------------------------------------------------------------------------------------------------


class Recorder(Worker):
    """Runs nothing: it returns itself, and keeps account of what became of it."""

    made: ClassVar[list[Recorder]] = []
    closed = 0

    def __init__(self) -> None:
        self.made.append(self)

    async def run(self, chain: Chain) -> Any:
        self.check_open()
        return self

    async def aclose(self, timeout: float = 10.0) -> None:
        await super().aclose(timeout)
        self.closed += 1


class Unmakable(Worker):
    def __init__(self) -> None:
        raise ValueError("no such host")

    async def run(self, chain: Chain) -> Any:
        raise AssertionError("was never made")


class PoolOfOne(DjangoThreadWorker):
    def __init__(self) -> None:
        super().__init__(max_workers=1, thread_name_prefix="slacker-one")


recorder = Recorder()
not_a_worker = 42


def named(name: str) -> override_settings:
    """Set SLACKER_WORKER to something in this module."""
    return override_settings(SLACKER_WORKER=f"{__name__}.{name}")


async def test_the_setting_names_a_class() -> None:
    """A worker class named by the setting is made once, and serves all DjangoThreadWorker()."""
    with named("Recorder"):
        served_by = {await Slacker(print, DjangoThreadWorker())() for _ in range(3)}
        await DjangoThreadWorker().aclose()

    assert {Recorder.made[-1]} == served_by


async def test_fetch_runs_on_it_too() -> None:
    """fetch() goes the same way as await."""
    with named("recorder"):
        assert recorder is await Slacker(print, DjangoThreadWorker())().fetch()


async def test_closing_closes_the_worker_that_was_made() -> None:
    """aclose() closes the worker that was made of the class, and the next call makes another."""
    with named("Recorder"):
        first = await Slacker(print, DjangoThreadWorker())()
        await DjangoThreadWorker().aclose()
        second = await Slacker(print, DjangoThreadWorker())()
        await DjangoThreadWorker().aclose()

    assert (first.closed, first is second) == (1, False)


async def test_the_setting_names_a_worker_object() -> None:
    """A worker object named by the setting is used as it is; aclose() leaves it to whoever made it."""
    with named("recorder"):
        await DjangoThreadWorker().aclose()
        await Slacker(print, DjangoThreadWorker())()
        await DjangoThreadWorker().aclose()

        assert recorder is await Slacker(print, DjangoThreadWorker())()


async def test_the_setting_names_the_worker_itself() -> None:
    """Set to DjangoThreadWorker the setting says what holds without it."""
    with override_settings(SLACKER_WORKER="slacker.workers.django.DjangoThreadWorker"):
        name = (await thread_of(DjangoThreadWorker())).name
        await DjangoThreadWorker().aclose()

    assert name.startswith("slacker-django-")


async def test_the_setting_names_a_worker_with_arguments() -> None:
    """A DjangoThreadWorker with arguments of its own keeps them."""
    with named("PoolOfOne"):
        names = {(await thread_of(DjangoThreadWorker())).name for _ in range(5)}
        await DjangoThreadWorker().aclose()

    assert {"slacker-one-1"} == names


async def test_the_setting_is_read_at_each_call() -> None:
    """The setting may change at run time: each call goes where it says then."""
    worker = DjangoThreadWorker()
    results = [await Slacker(len, worker)("text")]
    with named("recorder"):
        results.append(await Slacker(len, worker)("text"))
    results.append(await Slacker(len, worker)("text"))

    assert [4, recorder, 4] == results


async def test_workers_with_arguments_do_not_care() -> None:
    """The setting is nothing to a worker with arguments."""
    with named("recorder"):
        async with DjangoThreadWorker(max_workers=1, thread_name_prefix="slacker-own") as worker:
            assert (await thread_of(worker)).name == "slacker-own-1"


@pytest.mark.parametrize("nothing", [None, ""])
async def test_an_empty_setting_is_none(nothing: str | None) -> None:
    """None and the empty string say the same as no setting."""
    with override_settings(SLACKER_WORKER=nothing):
        assert (await thread_of(DjangoThreadWorker())).name.startswith("slacker-django-")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.Worker", "'nowhere.Worker' does not name a worker that can be made: No module named 'nowhere'"),
        ("undotted", "does not name a worker that can be made: undotted doesn't look like a module path"),
        (f"{__name__}.Absent", 'does not name a worker that can be made: .* does not define a "Absent"'),
        (f"{__name__}.Unmakable", "does not name a worker that can be made: no such host"),
        (f"{__name__}.not_a_worker", "must name a slacker worker class, got 42"),
        (f"{__name__}.named", "must name a slacker worker class, got <function named"),
        ("collections.OrderedDict", "must name a slacker worker class, got OrderedDict"),
    ],
)
async def test_a_wrong_setting_is_reported(path: str, message: str) -> None:
    """A setting that leads to no worker fails the call with Django's ImproperlyConfigured and the reason."""
    with override_settings(SLACKER_WORKER=path), pytest.raises(ImproperlyConfigured, match=message):
        await Slacker(print, DjangoThreadWorker())()


# --- Django that is not set up -------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]

SCRIPT = """
import asyncio
from slacker import Slacker
from slacker.django_backend.testing import InlineWorker
from slacker.workers import DjangoThreadWorker

async def main():
    async with {worker}() as worker:
        await Slacker(print, worker)("ran")

asyncio.run(main())
"""


@pytest.mark.parametrize("worker", ["DjangoThreadWorker", "InlineWorker"])
@pytest.mark.parametrize("settings", ["tests.django.settings", None])
def test_without_setup_the_call_says_what_to_do(worker: str, settings: str | None) -> None:
    """In a program that did not call django.setup(), whether it has settings or not, a call says so."""
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    if settings is not None:
        environment["DJANGO_SETTINGS_MODULE"] = settings
    command = [sys.executable, "-c", SCRIPT.format(worker=worker)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    *_, last_line = done.stderr.splitlines()

    assert (done.stdout, done.returncode) == ("", 1)
    assert "AppRegistryNotReady: Django's apps aren't loaded yet: call django.setup() first" in last_line
