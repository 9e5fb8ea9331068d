"""How many bytes cross the network, both ways, headers included: counted by a relay between each peer and its far side.

Nothing is timed, and no round differs from another. Dask is left out, as its client and scheduler talk all the time;
a process pool has pipes instead.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from .far_side.processes import HOST, FarSides, far_sides
from .measure import Case, Effort, take_turns
from .peers import Peer, cases_of, servers_of
from .tables import Table

__all__ = ["tables"]

PEERS = ["slacker over HTTP", "2011 way", "aiohttp + pickle", "RPyC", "Pyro5"]
BASELINE = "2011 way"
COUNTS = (100, 20_000)
LOOK_UP = "get, bytes"


def tables(effort: Effort) -> list[Table]:
    """Count for a look-up, and for a row of lists of two lengths."""
    with far_sides(servers_of(PEERS)) as sides:
        return [
            Table(
                "traffic",
                f"Bytes both ways of User.objects.get(pk=...), and for each row of {COUNTS[0]} and of {COUNTS[1]}",
                take_turns(lambda: _sitting(sides, effort), Effort(sittings=1, rounds=1)),
                baseline=BASELINE,
                compared=_of(COUNTS[-1]),
                notes=["RPyC compresses. Pyro5 brings dicts instead of instances."],
            )
        ]


def _of(count: int) -> str:
    return f"row of {count}, bytes"


@asynccontextmanager
async def _sitting(sides: FarSides, effort: Effort) -> AsyncIterator[list[Case]]:
    crossed = _Crossed()
    async with (
        _relayed(sides, crossed) as relayed,
        cases_of(PEERS, relayed, lambda peer: _case(peer, crossed, effort)) as cases,
    ):
        yield cases


def _case(peer: Peer, crossed: _Crossed, effort: Effort) -> Case | None:
    if peer.get_user is None or peer.get_users is None:
        return None
    get_user, get_users = peer.get_user, peer.get_users

    async def turn() -> None:
        await get_user(1)  # what is sent once, such as the names of methods, is sent in the first round

    async def meter(case: Case) -> dict[str, float]:
        crossed.bytes = 0
        await get_user(1)
        figures = {LOOK_UP: float(crossed.bytes)}
        for count in COUNTS:
            crossed.bytes = 0
            rows = await get_users(effort.count(count))
            figures[_of(count)] = crossed.bytes / len(rows)
        return figures

    return Case(peer.name, 1, turn, meter)


# --- the relays ----------------------------------------------------------------------------------------------------


class _Crossed:
    bytes = 0


@asynccontextmanager
async def _relayed(sides: FarSides, crossed: _Crossed) -> AsyncIterator[FarSides]:
    """Put a relay before each far side, and yield where those listen."""
    async with AsyncExitStack() as stack:
        ports: dict[str, list[int]] = {}
        for name, behind in sides.ports.items():
            ports[name] = [await stack.enter_async_context(_relay(port, crossed)) for port in behind]
        yield dataclasses.replace(sides, ports=ports)


@asynccontextmanager
async def _relay(port: int, crossed: _Crossed) -> AsyncIterator[int]:
    async with asyncio.TaskGroup() as connections:

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(HOST, port)
            connections.create_task(_copy(reader, far_writer, crossed))
            connections.create_task(_copy(far_reader, writer, crossed))

        server = await asyncio.start_server(connected, HOST, 0)
        yield server.sockets[0].getsockname()[1]
        server.close()  # the copying ends with the connections, which the peers have closed


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, crossed: _Crossed) -> None:
    while data := await reader.read(1 << 16):
        crossed.bytes += len(data)
        writer.write(data)
        await writer.drain()
    writer.close()
