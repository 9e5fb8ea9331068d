"""What a loop's other users notice: how long it stands still, and how much less of their work gets done.

    longest_stall    a task that wants to wake up each millisecond --> the most that lay between two wake-ups
    work_lost        a task that always has work to do             --> the time by which it got less done

Neither is enough. A stall counted as the loop's CPU leaves out threads that hold the GIL, and counted as wall time it
has whatever else the machine did. Work lost has all of it, but not how it was spread: a loop that stands still for
400 ms and one that loses 1 ms 400 times lose the same.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from .measure import Case, Meter, per_call
from .tables import LOST, STALL, STALL_WALL, in_ms

__all__ = ["costs_to_others", "longest_stall", "work_lost"]

TICK = 0.001
CALIBRATION = 0.05  # seconds in which a busy task shows how fast it is when alone


def costs_to_others(*, beside_work: bool) -> Meter:
    """Return a meter that takes turns for what a call costs by itself, in milliseconds, and for the longest stall.

    Args:
        beside_work: whether it takes one turn more, in the first round, for the work lost.
    """
    left_out = not beside_work

    async def meter(case: Case) -> dict[str, float]:
        nonlocal left_out
        figures = {in_ms(figure): value / 1e3 for figure, value in (await per_call(case)).items()}
        stall, stall_wall = await longest_stall(case.turn)
        figures |= {STALL: stall * 1e3, STALL_WALL: stall_wall * 1e3}
        if not left_out:
            figures[LOST] = await work_lost(case.turn) * 1e3
            left_out = True
        return figures

    return meter


async def longest_stall(turn: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Take a turn and return the most loop CPU, and the most wall time, between two wake-ups of a ticker, in seconds.

    The result is kept alive meanwhile: when it is freed is up to whoever got it.
    """
    gc.collect()
    gaps = _Gaps()
    async with _beside(_tick(gaps)):
        await asyncio.sleep(5 * TICK)  # it ticks
        gaps.forget()
        kept = await turn()
        await asyncio.sleep(2 * TICK)  # it has seen the end
    del kept
    return gaps.longest_cpu, gaps.longest_wall


async def work_lost(turn: Callable[[], Awaitable[object]]) -> float:
    """Take a turn beside a busy task and return the seconds by which less was done than without the turn."""
    gc.collect()
    alone, _ = await _busy_during(lambda: asyncio.sleep(CALIBRATION))
    beside, kept = await _busy_during(turn)
    del kept
    return beside.seconds - beside.pieces * alone.seconds / alone.pieces


# --- the tasks beside ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def _beside(work: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@dataclass(slots=True)
class _Gaps:
    longest_cpu: float = 0.0
    longest_wall: float = 0.0
    _cpu: float = field(default_factory=time.thread_time)
    _wall: float = field(default_factory=time.perf_counter)

    def note(self) -> None:
        cpu, wall = time.thread_time(), time.perf_counter()
        self.longest_cpu = max(self.longest_cpu, cpu - self._cpu)
        self.longest_wall = max(self.longest_wall, wall - self._wall)
        self._cpu, self._wall = cpu, wall

    def forget(self) -> None:
        self.note()
        self.longest_cpu = self.longest_wall = 0.0


async def _tick(gaps: _Gaps) -> None:
    while True:
        await asyncio.sleep(TICK)
        gaps.note()


@dataclass(slots=True)
class _Done:
    pieces: int = 0
    seconds: float = 0.0


async def _busy_during(turn: Callable[[], Awaitable[object]]) -> tuple[_Done, object]:
    done = _Done()
    async with _beside(_work(done)):
        await asyncio.sleep(0)  # it works
        done.pieces, begun = 0, time.perf_counter()
        result = await turn()
        done.seconds = time.perf_counter() - begun
        pieces = done.pieces
    return _Done(max(pieces, 1), done.seconds), result


async def _work(done: _Done) -> None:
    while True:
        _piece()
        done.pieces += 1
        await asyncio.sleep(0)


def _piece() -> None:
    for _ in range(3_000):  # plain Python, about 0.1 ms
        pass
