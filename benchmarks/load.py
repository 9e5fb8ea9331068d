"""Many clients at once: how many calls a second, and how long each of them waits.

Each client makes its next call when it has the answer to the last. There are 1, 16 and 64 that look up rows by primary
key; and 64 of whose calls every 20th fetches 500 rows, for the latency of short calls among longer ones.

All have two processes with two threads each there, which is what `manage.py runslacker` has by default on two cores
and SQLite, and four connections here: the other clients wait on this side.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from .far_side.processes import FarSides, far_sides
from .measure import Case, Effort, per_call, take_turns
from .peers import Peer, cases_of, servers_of
from .tables import CALLS, LOOP_CPU, P50, P99, PROCESS_CPU, WALL, Table, percentile

__all__ = ["tables"]

AT_ONCE = (1, 16, 64)
BASELINE = "2011 way"
UNSHARED = "slacker, unshared"
OVER_HTTP = ["slacker over HTTP", UNSHARED, BASELINE, "aiohttp + pickle"]
PEERS = [
    *OVER_HTTP,
    "RPyC",
    "Pyro5",
    "ProcessPoolExecutor",
    "slacker in threads",
    "Django async ORM",
    "in place",
]
NOTES = [
    "The ratios are of calls a second: more is better.",
    "ProcessPoolExecutor has two processes without threads; all below it do the work in this process.",
    "aiohttp does not let waiting calls through in order: see its 99th percentile.",
]
EACH_LONG = 20
LONG = 500  # rows

Work = Callable[[Peer, int], Awaitable[Any]]


def tables(effort: Effort) -> list[Table]:
    """Measure look-ups by few and by many clients, and a mixture."""
    # Which process has a connection is drawn by lot when it is made, and holds for a sitting: now and then one has all.
    few, many = effort.within(sittings=2), effort.within(sittings=5)
    with far_sides(servers_of(PEERS), processes=2, threads=2) as sides:
        look_ups = [_look_ups(clients, few if clients < AT_ONCE[-1] else many, sides) for clients in AT_ONCE]
        return [*look_ups, _mixture(few, sides)]


def _look_ups(clients: int, effort: Effort, sides: FarSides) -> Table:
    calls = effort.count(60 if clients == 1 else 256)
    return Table(
        f"load-{clients}",
        f"User.objects.get(pk=...) on SQLite, {clients} at once",
        take_turns(lambda: cases_of(PEERS, sides, lambda peer: _case(peer, clients, calls, _look_up)), effort),
        baseline=BASELINE,
        compared=CALLS,
        notes=NOTES,
        size=clients,
    )


def _mixture(effort: Effort, sides: FarSides) -> Table:
    calls, clients = effort.count(384), AT_ONCE[-1]
    return Table(
        "load-mixed",
        f"The same {clients} at once, each {EACH_LONG}th call fetching {LONG} rows",
        take_turns(lambda: cases_of(OVER_HTTP, sides, lambda peer: _case(peer, clients, calls, _mixed)), effort),
        baseline=UNSHARED,
        compared=P99,
        notes=["The ratios are of the 99th percentile: less is better."],
    )


def _case(peer: Peer, clients: int, calls: int, work: Work) -> Case:
    latencies: list[float] = []

    async def client(numbers: Iterator[int]) -> None:
        for number in numbers:
            begun = time.perf_counter()
            await work(peer, number)
            latencies.append(time.perf_counter() - begun)

    async def turn() -> object:
        latencies.clear()
        numbers = iter(range(calls))  # each client takes the next
        await asyncio.gather(*[client(numbers) for _ in range(clients)])
        return len(latencies)

    async def meter(case: Case) -> dict[str, float]:
        costs = await per_call(case)
        return {
            CALLS: 1e6 / costs[WALL],
            P50: percentile(latencies, 50) * 1e3,
            P99: percentile(latencies, 99) * 1e3,
            LOOP_CPU: costs[LOOP_CPU],
            PROCESS_CPU: costs[PROCESS_CPU],
        }

    return Case(peer.name, calls, turn, meter)


def _look_up(peer: Peer, number: int) -> Awaitable[Any]:
    assert peer.get_user is not None
    return peer.get_user(1 + number)


def _mixed(peer: Peer, number: int) -> Awaitable[Any]:
    assert peer.get_users is not None
    return _look_up(peer, number) if number % EACH_LONG else peer.get_users(LONG)
