"""A trivial function in a thread: `slacker.workers.ThreadWorker` and everything else that does that.

The function costs next to nothing, so the figures are the way there and back. Real work is added to them, so real
ratios are nearer to 1: this table tells whether off-loading is worth it for short work, not how much faster an
application becomes.

Every peer has as many threads, but asgiref's thread-sensitive mode, Django's default, which by design has one: that
makes it cheaper here, where nothing waits, and slow where something does. ``run_in_executor`` does not copy context
variables as all the others do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio.to_thread
from asgiref.sync import ThreadSensitiveContext, sync_to_async

from slacker import Slacker
from slacker.workers.local import ThreadWorker

from .measure import Case, Effort, take_turns
from .tables import Table

__all__ = ["tables"]

THREADS = 4  # of every peer; for work this short the number hardly matters
AT_ONCE = 50
BASELINE = "run_in_executor"


def work(number: int) -> int:
    """Do next to nothing."""
    return number + 1


@dataclass(frozen=True, slots=True)
class Peer:
    """A way to call `work` in a thread, as its users write it."""

    name: str
    call: Callable[[int], Awaitable[int]]


def tables(effort: Effort) -> list[Table]:
    """Measure calls made at once and calls made one after another."""

    @asynccontextmanager
    async def at_once() -> AsyncIterator[list[Case]]:
        async with _peers() as peers:
            yield [_at_once(peer, effort.count(6)) for peer in peers]

    @asynccontextmanager
    async def in_turn() -> AsyncIterator[list[Case]]:
        async with _peers() as (_fetched, _recorded, *peers):
            yield [_in_turn(peer, effort.count(100)) for peer in peers]

    return [
        Table(
            "threads-at-once",
            f"Trivial call in a thread, {AT_ONCE} at once by asyncio.gather",
            take_turns(at_once, effort),
            baseline=BASELINE,
            notes=[
                "fetch(): of recipes recorded before. In the two rows below it each call is recorded anew.",
                "await: gather makes a Task of each recipe, as of each coroutine.",
            ],
        ),
        Table(
            "threads-in-turn",
            "Trivial call in a thread, one after another",
            take_turns(in_turn, effort),
            baseline=BASELINE,
        ),
    ]


@asynccontextmanager
async def _peers() -> AsyncIterator[list[Peer]]:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS))  # to_thread's; asyncio.run shuts it down
    limiter = anyio.CapacityLimiter(THREADS)
    with ThreadPoolExecutor(THREADS) as pool, ThreadPoolExecutor(THREADS) as asgiref_pool:
        async with ThreadWorker(THREADS) as worker, ThreadSensitiveContext():  # the latter as in Django's requests
            recipe = Slacker(work, worker)
            kept = [recipe(number) for number in range(AT_ONCE)]
            yield [
                Peer("slacker, fetch()", lambda number: kept[number].fetch()),
                Peer("slacker, record, fetch()", lambda number: recipe(number).fetch()),
                Peer("slacker, await", recipe),
                Peer(BASELINE, lambda number: loop.run_in_executor(pool, work, number)),
                Peer("asyncio.to_thread", lambda number: asyncio.to_thread(work, number)),
                Peer("anyio.to_thread", lambda number: anyio.to_thread.run_sync(work, number, limiter=limiter)),
                Peer("sync_to_async, sensitive", sync_to_async(work)),
                Peer("sync_to_async, not", sync_to_async(work, thread_sensitive=False, executor=asgiref_pool)),
            ]


def _at_once(peer: Peer, times: int) -> Case:
    call = peer.call

    async def turn() -> object:
        results: list[int] = []
        for _ in range(times):
            results += await asyncio.gather(*[call(number) for number in range(AT_ONCE)])
        return results

    return Case(peer.name, times * AT_ONCE, turn)


def _in_turn(peer: Peer, times: int) -> Case:
    call = peer.call

    async def turn() -> object:
        return [await call(number) for number in range(times)]

    return Case(peer.name, times, turn)
