"""A single call in another process on this machine, one after another and several at once: `peers`, and no call at all.

All have one process with four threads there; the process pool has one process, which does one thing at a time.

Loop CPU is what off-loading saves, so it is what the ratios are of. It leaves out what threads of this process do, which
take turns with the loop: those of RPyC, Pyro5, the process pool and the async ORM, and the few in which slacker's HTTP
client runs. Process CPU has those, and the client's share only: not the far side's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from .far_side.processes import FarSides, far_sides
from .measure import Case, Effort, take_turns
from .peers import Call, Peer, open_peers, servers_of
from .tables import LOOP_CPU, Table

__all__ = ["tables"]

AT_ONCE = 16
KEY = 7  # the number that is counted up, and the primary key that is looked up
BASELINE = "in place"
PEERS = [
    "slacker over HTTP",
    BASELINE,
    "2011 way",
    "aiohttp + pickle",
    "RPyC",
    "Pyro5",
    "Dask",
    "ProcessPoolExecutor",
    "Django async ORM",
]
NOTES = [
    "The ratios are of loop CPU, which hides what threads cost: those of RPyC, Pyro5, ProcessPoolExecutor and Django's "
    "async ORM.",
    "Process CPU has them. It is the caller's, without the far side's.",
]


def tables(effort: Effort) -> list[Table]:
    """Measure a trivial call and a look-up, each one after another and at once."""
    effort = effort.within(sittings=5)
    with far_sides(servers_of(PEERS)) as sides:
        return [
            _table("remote-call-in-turn", "Trivial call in another process, one after another", effort, sides),
            _table("remote-call-at-once", f"Trivial call in another process, {AT_ONCE} at once", effort, sides),
            _table("orm-get-in-turn", "User.objects.get(pk=...) on SQLite, one after another", effort, sides),
            _table("orm-get-at-once", f"User.objects.get(pk=...) on SQLite, {AT_ONCE} at once", effort, sides),
        ]


def _table(name: str, title: str, effort: Effort, sides: FarSides) -> Table:
    at_once, trivial = name.endswith("at-once"), name.startswith("remote-call")

    def case(peer: Peer) -> Case | None:
        call = peer.add_one if trivial else peer.get_user
        if call is None:
            return None
        if at_once:
            return _at_once(peer.name, call, effort.count(2))
        return _in_turn(peer.name, call, effort.count(5_000 if trivial and peer.name == BASELINE else 10))

    @asynccontextmanager
    async def sitting() -> AsyncIterator[list[Case]]:
        async with open_peers(PEERS, sides) as peers:
            yield [one for peer in peers if (one := case(peer)) is not None]

    return Table(name, title, take_turns(sitting, effort), baseline=BASELINE, compared=LOOP_CPU, notes=NOTES)


def _in_turn(name: str, call: Call, times: int) -> Case:
    async def turn() -> object:
        for _ in range(times):
            result = await call(KEY)
        return _told_apart(result)

    return Case(name, times, turn)


def _at_once(name: str, call: Call, times: int) -> Case:
    async def turn() -> object:
        for _ in range(times):
            results = await asyncio.gather(*[call(KEY) for _ in range(AT_ONCE)])
        return [_told_apart(result) for result in results]

    return Case(name, times * AT_ONCE, turn)


def _told_apart(result: Any) -> object:
    if isinstance(result, int):
        return result
    return result["username"] if isinstance(result, dict) else result.username
