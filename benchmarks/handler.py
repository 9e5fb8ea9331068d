"""What the other visitors notice: a Tornado handler that has nothing to do, while reports run on the same loop.

Eight reports of 5 000 rows each are fetched at once. Meanwhile another process asks the handler, over loopback, each
5 ms (`far_side.probe`). On an idle loop, the last row, it is answered within about a millisecond.

All have one process with four threads there, so that on two cores the loop has one.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from .far_side.processes import CHECKOUT, HOST, FarSides, far_sides
from .measure import Case, Effort, take_turns
from .peers import Call, Peer, cases_of, servers_of
from .tables import P50, P99, Table, percentile

__all__ = ["tables"]

REPORTS = 8
ROWS = 5_000
IDLE = "no report"
BASELINE = "Django async ORM"
PEERS = [
    "slacker over HTTP",
    "slacker in threads",
    "slacker in processes",
    BASELINE,
    "sync_to_async",
    "asyncio.to_thread",
    "ProcessPoolExecutor",
    "2011 way",
    "in place",
]


class Fast(RequestHandler):
    """Answers at once."""

    async def get(self) -> None:
        self.write("fast")


def tables(effort: Effort) -> list[Table]:
    """Measure how long the handler takes while each peer fetches."""
    effort = effort.within(sittings=2)
    rows = effort.count(ROWS)
    with far_sides(servers_of(PEERS)) as sides:
        return [
            Table(
                "handler",
                f"A handler without work, while {REPORTS} reports of {rows} rows run",
                take_turns(lambda: _sitting(sides, rows), effort),
                baseline=BASELINE,
                compared=P99,
                notes=[
                    "The ratios are of the 99th percentile. Reports: from the first one's begin to the last one's end."
                ],
            )
        ]


@asynccontextmanager
async def _sitting(sides: FarSides, rows: int) -> AsyncIterator[list[Case]]:
    async with _visitor() as visitor:

        def case(peer: Peer) -> Case | None:
            return peer.get_users and _case(peer.name, peer.get_users, rows, visitor)

        async with cases_of(PEERS, sides, case) as cases:
            yield [*cases, _case(IDLE, _nothing, rows, visitor)]


async def _nothing(rows: int) -> list[None]:
    await asyncio.sleep(rows / ROWS)
    return [None] * rows


def _case(name: str, get_users: Call, rows: int, visitor: _Visitor) -> Case:
    async def turn() -> object:
        return [len(report) for report in await asyncio.gather(*[get_users(rows) for _ in range(REPORTS)])]

    async def meter(case: Case) -> dict[str, float]:
        gc.collect()
        visitor.tell("go")
        begun, cpu = time.perf_counter(), time.thread_time()
        await case.turn()
        wall, cpu = time.perf_counter() - begun, time.thread_time() - cpu
        visitor.tell("stop")
        latencies = await visitor.latencies()
        return {
            P50: percentile(latencies, 50) * 1e3,
            P99: percentile(latencies, 99) * 1e3,
            "longest ms": max(latencies) * 1e3,
            "reports, wall ms": wall * 1e3,
            "loop CPU ms": cpu * 1e3,
        }

    return Case(name, REPORTS, turn, meter)


class _Visitor:
    """The process that asks the handler."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def tell(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n".encode())

    async def latencies(self) -> list[float]:
        assert self._process.stdout is not None
        latencies: list[float] = json.loads(await self._process.stdout.readline())
        return latencies


@asynccontextmanager
async def _visitor() -> AsyncIterator[_Visitor]:
    socket, port = bind_unused_port(address=HOST)
    server = HTTPServer(Application([("/", Fast)], log_function=lambda _: None))
    server.add_socket(socket)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.far_side.probe",
        str(port),
        cwd=CHECKOUT,
        stdin=pipe,
        stdout=pipe,
        limit=1 << 24,
    )
    try:
        yield _Visitor(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        server.stop()
        await server.close_all_connections()
