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
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass

import anyio.to_thread
from asgiref.sync import sync_to_async

from slacker import Slacker
from slacker.workers.local import ThreadWorker

from .measure import Case, Effort, Table, take_turns

__all__ = ["tables"]

THREADS = 4  # of every peer; for work this short the number hardly matters
AT_ONCE = 50
BASELINE = "run_in_executor"


def work(number: int) -> int:
    """Do next to nothing."""
    return number + 1


Call = Callable[[int], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Peer:
    """A way to call `work` in a thread, as its users write it."""

    name: str
    call: Call


async def tables(effort: Effort) -> list[Table]:
    """Measure calls made at once and calls made one after another."""
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(ThreadWorker(THREADS))
        pools = [stack.enter_context(ThreadPoolExecutor(THREADS)) for _ in range(2)]
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(THREADS))  # to_thread's; closed by asyncio.run
        recipe = Slacker(work, worker)
        fetched = Peer("slacker, fetch()", lambda number: recipe(number).fetch())
        awaited = Peer("slacker, await", recipe)
        peers = _peers(loop, *pools)
        return [
            Table(
                "threads-at-once",
                f"Trivial call in a thread, {AT_ONCE} at once by asyncio.gather",
                await take_turns(
                    [_at_once(peer, effort.count(6)) for peer in (fetched, awaited, *peers)], effort.rounds
                ),
                baseline=BASELINE,
                notes=[
                    "await: gather makes a Task of each recipe, as it does of each coroutine. Recording is included."
                ],
            ),
            Table(
                "threads-in-turn",
                "Trivial call in a thread, one after another",
                await take_turns([_in_turn(peer, effort.count(100)) for peer in (awaited, *peers)], effort.rounds),
                baseline=BASELINE,
            ),
        ]


def _peers(loop: asyncio.AbstractEventLoop, pool: ThreadPoolExecutor, asgiref_pool: ThreadPoolExecutor) -> list[Peer]:
    limiter = anyio.CapacityLimiter(THREADS)
    return [
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
