"""One trip for many: 20 look-ups in a batch beside 20 calls, and a stream that is too long for a list.

The stream has a million rows (20 000 users, read fifty times). Its memory is what either side takes at most beyond
what it had before, as the system counts it; Linux only, from /proc.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from slacker import Slacker, batch, stream
from slacker.workers.django import DjangoHttpWorker

from .far_side.processes import FarSides, far_sides
from .far_side.work import all_users
from .measure import Case, Effort, take_turns
from .meters import longest_stall
from .tables import LOOP_CPU, STALL, STALL_WALL, Table

__all__ = ["tables"]

LOOK_UPS = 20
TIMES = 50  # that all users are read
ROUNDS = 1  # besides the one that warms up: half a minute each
MEMORY, MEMORY_THERE = "memory MB", "memory there MB"
ONE_BY_ONE = "20 calls"
NOTES = ["The ratios are of loop CPU.", "At once: as many as the server has threads, the others waiting or sharing."]


def tables(effort: Effort) -> list[Table]:
    """Measure a batch, and a stream."""
    with far_sides(["runslacker"]) as sides:
        return [_batch(effort.within(sittings=3), sides), _stream(effort, sides)]


def _batch(effort: Effort, sides: FarSides) -> Table:
    @asynccontextmanager
    async def sitting() -> AsyncIterator[list[Case]]:
        async with _worker(sides) as worker:
            users = Slacker(_user_model(), worker).objects
            recipes = [users.get(pk=number) for number in range(1, LOOK_UPS + 1)]

            async def one_by_one() -> list[Any]:
                return [await recipe for recipe in recipes]

            async def at_once() -> list[Any]:
                return await asyncio.gather(*[recipe.fetch() for recipe in recipes])

            async def together() -> list[Any]:
                found: list[Any] = await batch(*recipes)
                return found

            yield [
                _case(name, way)
                for name, way in {
                    ONE_BY_ONE: one_by_one,
                    "20 calls at once": at_once,
                    "a batch of 20": together,
                }.items()
            ]

    title = f"{LOOK_UPS} look-ups of one user each, over HTTP"
    return Table("batch-20", title, take_turns(sitting, effort), ONE_BY_ONE, LOOP_CPU, NOTES)


def _case(name: str, way: Callable[[], Coroutine[Any, Any, list[Any]]]) -> Case:
    async def turn() -> object:
        return [user.username for user in await way()]

    return Case(name, 1, turn)


def _stream(effort: Effort, sides: FarSides) -> Table:
    times = effort.count(TIMES)

    @asynccontextmanager
    async def sitting() -> AsyncIterator[list[Case]]:
        async with _worker(sides) as worker:
            recipe = Slacker(all_users, worker)(times)

            async def turn() -> object:
                count = 0
                async for _ in stream(recipe):
                    count += 1
                return count

            async def meter(case: Case) -> dict[str, float]:
                here, there = _Memory([Path("/proc/self")]), _Memory(sides.processes_of("runslacker"))
                stall, wall = await longest_stall(case.turn)
                return {STALL: stall * 1e3, STALL_WALL: wall * 1e3, MEMORY: here.growth(), MEMORY_THERE: there.growth()}

            yield [Case("slacker over HTTP", 1, turn, meter)]

    rounds = Effort(1, min(ROUNDS, effort.rounds), effort.share)
    title = f"Stream of {times} x 20 000 rows of the User model, over HTTP"
    return Table("stream", title, take_turns(sitting, rounds))


class _Memory:
    """How much more some processes have had at once than when this was made, in MB: the sum over them."""

    def __init__(self, processes: list[Path]) -> None:
        self._processes = processes
        for process in processes:
            (process / "clear_refs").write_text("5")  # forget the peak
        self._before = [_status(process, "VmRSS") for process in processes]

    def growth(self) -> float:
        peaks = [_status(process, "VmHWM") for process in self._processes]
        return sum(peak - before for peak, before in zip(peaks, self._before, strict=True)) / 1024


def _status(process: Path, name: str) -> int:
    """Return a figure of /proc/PID/status, in kB."""
    lines = (process / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _worker(sides: FarSides) -> DjangoHttpWorker:
    return DjangoHttpWorker(sides.hook_url, max_connections=sides.connections, timeout=60.0)


def _user_model() -> Any:
    from django.contrib.auth.models import User  # only where Django was set up

    return User
