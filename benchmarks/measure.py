"""The engine: cases that do the same work take turns, and what each turn cost is kept.

    sitting 1: A B C  A B C  ...    sitting 2: A B C  A B C  ...

Turns are short and rounds are many. What disturbs, such as other work on the machine, mostly lasts longer than a round,
so it is the same for all cases. Hence a ratio is computed within each round, and only then is the median taken: the
ratio of two medians would compare different moments.

What is drawn by lot when threads are made, above all whether they share a core with the loop, can make a call several
times as dear for as long as the threads live. Hence several sittings, each with a new loop and threads of its own. In
one long sitting the same code was measured at 0.6 and at 1.6 times its baseline.

What the figures do and do not say:

 - Loop CPU is `time.thread_time` on the loop's thread. It leaves out what threads cost the loop by holding the GIL, and
   is no price by itself: process CPU stands beside it.
 - Figures are per call, and of many calls: they say nothing about the slowest one. The meters of `meters` do.
 - The garbage collector stays on, as in production. A full collection before each turn keeps one case from paying for
   the garbage of another; and what was there before the turns, the modules of all peers above all, is kept out of it
   by `gc.freeze`, as servers should, or each would pay for the others' modules.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

from .tables import LOOP_CPU, PROCESS_CPU, WALL, Row

__all__ = ["FULL", "QUICK", "Case", "Effort", "Meter", "per_call", "take_turns"]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: sittings, rounds that count in each, and the share of the usual calls in each turn."""

    sittings: int
    rounds: int
    share: float = 1.0

    @property
    def is_quick(self) -> bool:
        """Whether turns are too short for the figures to mean anything."""
        return self.share < 1

    def count(self, usual: int) -> int:
        """Return how many repetitions to make where a full run makes `usual`."""
        return max(1, round(usual * self.share))

    def within(self, sittings: int) -> Effort:
        """Return the same effort in at most so many sittings, for work that takes long."""
        return replace(self, sittings=min(sittings, self.sittings))


FULL = Effort(sittings=12, rounds=5)
QUICK = Effort(sittings=2, rounds=1, share=0.02)
"""Shows that everything runs. Its figures mean nothing."""


Meter: TypeAlias = Callable[["Case"], Awaitable[dict[str, float]]]


async def per_call(case: Case) -> dict[str, float]:
    """Take a turn and return what a call of it cost, in microseconds."""
    gc.collect()
    wall, loop_cpu, process_cpu = time.perf_counter(), time.thread_time(), time.process_time()
    kept = await case.turn()
    costs = {
        WALL: time.perf_counter() - wall,
        LOOP_CPU: time.thread_time() - loop_cpu,
        PROCESS_CPU: time.process_time() - process_cpu,
    }
    del kept  # what it takes to free a large result is nobody's way of getting it
    return {figure: seconds * 1e6 / case.calls for figure, seconds in costs.items()}


@dataclass(frozen=True, slots=True)
class Case:
    """One way to do the work.

    Args:
        name: how the table calls it.
        calls: how many calls one turn makes. Choose it so that a turn takes 10 to 20 ms, longer than the time slice
            of a thread.
        turn: makes the calls and returns something that is equal for all cases that did the same work, or None.
        meter: takes a turn and returns what was measured, by the name of the figure.
    """

    name: str
    calls: int
    turn: Callable[[], Awaitable[object]]
    meter: Meter = per_call


def take_turns(sitting: Callable[[], AbstractAsyncContextManager[Sequence[Case]]], effort: Effort) -> list[Row]:
    """Measure cases in turns; the first round of each sitting warms up and is not counted.

    Args:
        sitting: entered on a new loop for each sitting; makes the threads, servers, ... of all cases and yields the
            cases, always of the same names.
        effort: how many sittings and rounds.

    Raises:
        ValueError: the cases did not do the same work: their turns returned different things.
    """
    rows: dict[str, Row] = {}

    async def sit() -> None:
        async with sitting() as cases:
            await _warm_up(cases)
            with _frozen():
                for _ in range(effort.rounds):
                    for case in cases:
                        row = rows.setdefault(case.name, Row(case.name, {}))
                        for figure, value in (await case.meter(case)).items():
                            row.figures.setdefault(figure, []).append(value)

    for _ in range(effort.sittings):
        asyncio.run(sit())
    return list(rows.values())


async def _warm_up(cases: Sequence[Case]) -> None:
    first = await cases[0].turn()
    for case in cases[1:]:  # one result beside the first at a time: they may be large
        result = await case.turn()
        if result != first:
            raise ValueError(f"{case.name!r} returned {result!r}, {cases[0].name!r} {first!r}: not the same work")


@contextmanager
def _frozen() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
