"""What `DaskWorker` promises besides the contract: what becomes of calls when the cluster, or a part of it, goes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from slacker import DeadlineExceeded, Slacker, TransportError, WorkerClosed, options, stream
from slacker.workers import DaskWorker
from tests.waiting import LIVENESS

from . import work
from .cluster import local_cluster


@pytest.fixture
def worker(dask_client: Client) -> DaskWorker:
    return DaskWorker(dask_client)


@pytest.fixture
def short_lived() -> Iterator[LocalCluster]:
    """A cluster that the test may end."""
    with local_cluster(processes=1) as made:
        yield made


async def test_runs_in_the_cluster(worker: DaskWorker) -> None:
    """Chains are replayed in the cluster's processes."""
    assert await Slacker(os.getpid, worker)() != os.getpid()


async def test_equal_calls_run_each(worker: DaskWorker, tmp_path: Path) -> None:
    """Calls that look alike are tasks of their own: Dask does not make one of them."""
    append = Slacker(work.append, worker)(str(tmp_path / "ran"), "x")
    await asyncio.gather(*[append.fetch() for _ in range(3)])

    assert (tmp_path / "ran").read_text() == "xxx"


async def test_a_client_on_the_loop(cluster: str) -> None:
    """A client that lives on the loop which makes the calls will do as well."""
    async with Client(cluster, asynchronous=True) as client:
        assert await Slacker(work.echo, DaskWorker(client))("here") == "here"


async def test_its_client_is_left_open(dask_client: Client) -> None:
    """Closing the worker leaves the client to whoever made it."""
    async with DaskWorker(dask_client) as worker:
        await Slacker(work.echo, worker)(1)
    with pytest.raises(WorkerClosed):
        await Slacker(work.echo, worker)(2)

    assert await Slacker(work.echo, DaskWorker(dask_client))(3) == 3


async def test_a_time_limit_tells_not_whether_it_ran(worker: DaskWorker) -> None:
    """A call that is late may have run: the cluster does not tell."""
    with pytest.raises(DeadlineExceeded) as caught:
        await options(Slacker(work.nap, worker)(1), timeout=0.2)

    assert caught.value.executed is None


async def test_work_that_kills_its_process(worker: DaskWorker) -> None:
    """When the processes die that are given a call, again and again, it fails; what comes next runs."""
    with pytest.raises(TransportError, match="KilledWorker") as caught:
        await Slacker(work.meet, worker)("os._exit")

    assert caught.value.executed is None
    assert await Slacker(work.echo, worker)("next") == "next"


async def test_a_client_that_is_closed(cluster: str) -> None:
    """A call that is under way when the client closes fails, and nobody knows whether it ran; later ones never do."""
    async with Client(cluster, asynchronous=True) as client:
        worker = DaskWorker(client)
        await Slacker(work.echo, worker)("begin")
        running = Slacker(work.nap, worker)(1).fetch()
        await asyncio.sleep(0)
    with pytest.raises(TransportError, match="gave this call up") as caught:
        await running
    assert caught.value.executed is None
    with pytest.raises(WorkerClosed, match=r"its client is closed: echo.* did not run") as late:
        await Slacker(work.echo, worker)(1)
    assert late.value.executed is False


async def test_a_cluster_that_is_gone(short_lived: LocalCluster) -> None:
    """When the scheduler goes, calls fail: none waits for ever."""
    client = await asyncio.to_thread(Client, short_lived)
    try:
        running = Slacker(work.nap, DaskWorker(client))(0.5).fetch()
        await asyncio.sleep(0.1)
        await asyncio.to_thread(short_lived.close)
        with pytest.raises(TransportError) as caught:
            await asyncio.wait_for(running, LIVENESS)  # liveness bound
    finally:
        await asyncio.to_thread(client.close)

    assert caught.value.executed is None


def test_streams_are_refused(worker: DaskWorker) -> None:
    """A stream is refused by name."""
    with pytest.raises(TypeError, match=r"DaskWorker.* cannot stream"):
        aiter(stream(Slacker(range, worker)(3)))


@pytest.mark.parametrize("client", [None, "tcp://127.0.0.1:8786", Client])
def test_takes_a_client(client: object) -> None:
    """Anything but a client is refused."""
    with pytest.raises(TypeError, match=r"client must be a distributed\.Client, got"):
        DaskWorker(client)  # type: ignore[arg-type]
