"""The workers that the contract holds for, and what several tests here need.

A new worker is one line in `WORKERS`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from distributed import Client

from slacker import Worker
from slacker.workers import DaskWorker, DummyWorker, ExecutorWorker, HttpWorker, ProcessWorker, ThreadWorker
from tests.http.servers import AUDIENCE, KEY, HttpServer
from tests.unmeasured import unmeasured
from tests.waiting import LIVENESS

from .work import Source, sources


def _set_django_up() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.settings")
    import django
    from django.utils import timezone

    django.setup()
    timezone.get_default_timezone()  # a file, which is read now and not on the loop: once for each change of a setting


def _django_thread_worker() -> Worker:
    _set_django_up()
    from slacker.workers import DjangoThreadWorker

    return DjangoThreadWorker(4)


def _django_process_worker() -> Worker:
    _set_django_up()
    from slacker.workers import DjangoProcessWorker

    return DjangoProcessWorker(2)


def _django_http_worker(request: pytest.FixtureRequest) -> Worker:
    _set_django_up()
    from slacker.workers import DjangoHttpWorker

    return DjangoHttpWorker(request.getfixturevalue("hook"), key=KEY, audience=AUDIENCE)


def _inline_worker() -> Worker:
    _set_django_up()
    from slacker.django_backend.testing import InlineWorker

    return InlineWorker()


LOCAL: dict[str, Callable[[pytest.FixtureRequest], Worker]] = {
    "DummyWorker": lambda _: DummyWorker(),
    "ThreadWorker": lambda _: ThreadWorker(4),
    "DjangoThreadWorker": lambda _: _django_thread_worker(),
    "InlineWorker": lambda _: _inline_worker(),
}
"""Those that hand over the very objects."""

WORKERS: dict[str, Callable[[pytest.FixtureRequest], Worker]] = {
    **LOCAL,
    "DummyWorker(pickled)": lambda _: DummyWorker(pickled=True),
    "HttpWorker": lambda request: HttpWorker(request.getfixturevalue("hook"), key=KEY, audience=AUDIENCE),
    "DjangoHttpWorker": _django_http_worker,
    "ExecutorWorker": lambda _: ExecutorWorker(ThreadPoolExecutor(4), shutdown=True),
    "DaskWorker": lambda request: DaskWorker(request.getfixturevalue("dask_client")),
    "ProcessWorker": lambda _: ProcessWorker(2),
    "DjangoProcessWorker": lambda _: _django_process_worker(),
}

NO_STREAMS = ("ExecutorWorker", "DaskWorker", "ProcessWorker", "DjangoProcessWorker")
"""Those that cannot stream."""


@pytest.fixture(scope="session")
def hook() -> Iterator[str]:
    """The address of a hook in this process."""
    with HttpServer() as server:
        yield server.url


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Dask cluster, in a process of its own: what Dask does there is not seen by other tests.

    It lasts no longer than a module, as its processes take a tenth of a core even when they have nothing to do.
    """
    command = [sys.executable, "-m", "tests.workers.cluster"]
    with subprocess.Popen(
        command, env=unmeasured(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()


@pytest.fixture
def dask_client(cluster: str) -> Iterator[Client]:
    with Client(cluster) as client:
        yield client


@pytest.fixture(params=WORKERS)
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    made = WORKERS[request.param](request)
    yield made
    asyncio.run(made.aclose())


@pytest.fixture(params=[name for name in WORKERS if name not in NO_STREAMS])
def streaming_worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    made = WORKERS[request.param](request)
    yield made
    asyncio.run(made.aclose())


@pytest.fixture
def source() -> Iterator[Source]:
    """Make items for streams, by whichever worker of this process."""
    made = Source()
    sources[made.number] = made
    yield made
    del sources[made.number]


@pytest.fixture(params=LOCAL)
def local_worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    made = LOCAL[request.param](request)
    yield made
    asyncio.run(made.aclose())


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Fail a test after which a thread of slacker's lives on: each closes its workers, or lets go of them."""
    yield
    for thread in slacker_threads():
        thread.join(LIVENESS)  # liveness bound
        assert not thread.is_alive(), thread


def slacker_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("slacker")]


@pytest.fixture
def threads() -> Callable[[], list[threading.Thread]]:
    """Return a function that returns the living threads of all workers."""
    return slacker_threads


@pytest.fixture
def without_gc() -> Iterator[None]:
    """Turn the collector of cycles off, so that only reference counts free what is freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[str]]:
    """Return a function that returns what was logged by slacker at a level."""
    caplog.set_level(logging.DEBUG, "slacker")

    def messages(level: int) -> list[str]:
        records = [record for record in caplog.records if record.name == "slacker"]
        return [record.getMessage() for record in records if record.levelno == level]

    return messages


@pytest.fixture
def open_descriptors() -> Callable[[], int]:
    """Return a function that returns how many file descriptors are open, those of garbage not counted."""

    def count() -> int:
        gc.collect()
        return len(list(Path("/dev/fd").iterdir()))

    return count


@pytest.fixture
def run_script() -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Return a function that runs a script in an interpreter of its own, which has to exit before long."""

    def run(source: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", textwrap.dedent(source)]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIVENESS)  # liveness bound

    return run
