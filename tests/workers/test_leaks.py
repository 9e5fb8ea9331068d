"""What is left after very many calls: nothing."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from slacker import Slacker, Worker
from slacker.workers import ExecutorWorker, ProcessWorker, ThreadWorker
from tests.waiting import LIVENESS

from . import work


async def succeed(worker: Worker, calls: int) -> None:
    for _ in range(calls // 50):
        await asyncio.gather(*[Slacker(work.Shelf, worker)("a").find("a", upper=True).fetch() for _ in range(50)])


async def fail(worker: Worker, calls: int) -> None:
    for _ in range(calls // 50):
        futures = [Slacker(work.Shelf, worker)("a").find("b").fetch() for _ in range(50)]
        await asyncio.gather(*futures, return_exceptions=True)


async def cancel(worker: Worker, calls: int) -> None:
    for _ in range(calls // 50):
        for future in [Slacker(work.echo, worker)("a").fetch() for _ in range(50)]:
            future.cancel()
        await Slacker(work.echo, worker)("a")


def allocated_blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


async def test_calls_leave_nothing_behind(threads: Callable[[], list[threading.Thread]]) -> None:
    """After 20 000 calls to warm up 80 000 more add no memory and no thread."""
    barrier = threading.Barrier(4)
    async with ThreadWorker(4) as worker:
        await asyncio.gather(*[Slacker(barrier, worker).wait(LIVENESS) for _ in range(4)])
        await succeed(worker, 20_000)
        blocks = allocated_blocks()
        await succeed(worker, 80_000)
        assert allocated_blocks() - blocks < 2_000
        assert len(threads()) == 4


async def test_failing_calls_leave_nothing_behind(local_worker: Worker) -> None:
    """After 2 000 calls to warm up 10 000 failing ones add no memory."""
    await fail(local_worker, 2_000)
    blocks = allocated_blocks()
    await fail(local_worker, 10_000)
    assert allocated_blocks() - blocks < 2_000


async def test_failing_calls_leave_no_cycles(local_worker: Worker, without_gc: None) -> None:
    """What failing calls leave is freed without the collector of cycles."""
    await fail(local_worker, 1_000)
    blocks = sys.getallocatedblocks()
    await fail(local_worker, 2_000)
    assert sys.getallocatedblocks() - blocks < 2_000


@pytest.mark.parametrize(
    "make",
    [lambda: ExecutorWorker(ThreadPoolExecutor(2), shutdown=True), lambda: ProcessWorker(2)],
    ids=["ExecutorWorker", "ProcessWorker"],
)
async def test_failing_calls_by_bytes_leave_nothing_behind(make: Callable[[], Worker]) -> None:
    """After 2 000 calls to warm up 10 000 failing ones, sent as bytes, add no memory."""
    async with make() as worker:
        await fail(worker, 2_000)
        blocks = allocated_blocks()
        await fail(worker, 10_000)
        assert allocated_blocks() - blocks < 2_000


async def test_cancelled_calls_leave_nothing_behind() -> None:
    """After 10 000 cancelled calls to warm up as many add no memory."""
    async with ThreadWorker(2) as worker:
        await cancel(worker, 10_000)
        blocks = allocated_blocks()
        await cancel(worker, 10_000)
        assert allocated_blocks() - blocks < 2_000
