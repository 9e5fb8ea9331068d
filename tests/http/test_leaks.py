"""What very many calls leave behind in the client's process: nothing. The hook, which keeps nonces, runs in another."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slacker import Refused, Slacker, TransportError
from slacker.workers import HttpWorker
from tests.waiting import LIVENESS

from . import servers
from .servers import AUDIENCE, GRANIAN, KEY, Served, count_connections, served_by

AT_ONCE = 50  # of which as many have to wait for a connection as there are not
NOBODY = "http://127.0.0.1:1/"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served_by(*GRANIAN, "--blocking-threads", "1", "--backpressure", "64") as served:
        yield served


async def outcomes(recipe: Slacker) -> list[Any]:
    return await asyncio.gather(*[recipe.fetch() for _ in range(AT_ONCE)], return_exceptions=True)


async def succeed(worker: HttpWorker) -> None:
    assert set(await outcomes(Slacker(servers.echo, worker)("text"))) == {"text"}


async def fail(worker: HttpWorker) -> None:
    assert {type(error) for error in await outcomes(Slacker(servers.throw, worker)(LookupError("gone")))} == {
        LookupError
    }


async def find_nobody(worker: HttpWorker) -> None:
    assert {type(error) for error in await outcomes(Slacker(servers.echo, worker)(1))} == {TransportError}


async def are_refused(worker: HttpWorker) -> None:
    assert {type(error) for error in await outcomes(Slacker(servers.echo, worker)(worker))} == {Refused}


async def are_cancelled(worker: HttpWorker) -> None:
    calls = [Slacker(servers.echo, worker)("text").fetch() for _ in range(AT_ONCE)]
    await Slacker(servers.echo, worker)("text")  # some are done by now, some on their way, some wait
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)


Way = Callable[[HttpWorker], Awaitable[None]]


async def make(worker: HttpWorker, calls: int, way: Way) -> None:
    for _ in range(calls // AT_ONCE):
        await way(worker)


def worker_for(server: Served, way: Way) -> HttpWorker:
    return HttpWorker(NOBODY if way is find_nobody else server.url, key=KEY, audience=AUDIENCE)


def held(port: int) -> tuple[int, int, int]:
    """Return how many descriptors there are besides those of connections, how many threads, how many tasks."""
    descriptors = len(list(Path("/proc/self/fd").iterdir())) - count_connections(port)
    return descriptors, threading.active_count(), len(asyncio.all_tasks())


def allocated_blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


@pytest.mark.parametrize(
    ("way", "warm_up", "calls"),
    [
        (succeed, 1_000, 10_000),
        (fail, 1_000, 10_000),
        (find_nobody, 2_000, 2_000),
        (are_refused, 2_000, 2_000),
        (are_cancelled, 2_000, 2_000),
    ],
)
def test_calls_leave_nothing_behind(server: Served, way: Way, warm_up: int, calls: int) -> None:
    """After some calls to warm up many more add no memory, no descriptor, no thread and no task."""

    async def main() -> None:
        async with worker_for(server, way) as worker:
            await make(worker, warm_up, way)
            blocks, before = allocated_blocks(), held(server.port)
            await make(worker, calls, way)
            assert allocated_blocks() - blocks < 2_000
            while held(server.port) != before:  # noqa: ASYNC110 (connections of cancelled calls are closed in a while)
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 10 * LIVENESS))


@pytest.fixture
def without_gc() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("way", [succeed, fail, find_nobody, are_refused, are_cancelled])
async def test_calls_leave_no_cycles(server: Served, without_gc: None, way: Way) -> None:
    """What calls leave, however they end, is freed without the collector of cycles: it would hold the loop up."""
    async with worker_for(server, way) as worker:
        await make(worker, 200, way)
        gc.collect()
        await make(worker, 500, way)
        assert gc.collect() < 100  # objects; one cycle a call would be thousands
