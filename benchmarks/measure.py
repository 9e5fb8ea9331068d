"""The engine: cases that do the same work take turns (A B C, A B C, ...), and what each turn cost is kept.

Turns are short and rounds are many. What disturbs, other work on the machine or threads that the system moves to
another core, mostly lasts longer than a round, so it is the same for all cases. Hence a ratio is computed within each
round, and only then is the median taken: the ratio of two medians would compare different moments.

What the figures do and do not say:

 - Loop CPU is `time.thread_time` on the loop's thread. It leaves out what threads cost the loop by holding the GIL, and
   is no price by itself: process CPU stands beside it.
 - Figures are per call, and of many calls: they say nothing about the slowest one.
 - The garbage collector stays on, as in production. A full collection before each turn keeps one case from paying for
   the garbage of another.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

__all__ = ["FULL", "QUICK", "Case", "Effort", "Row", "Spread", "Table", "ratios", "spread", "take_turns"]

WALL, LOOP_CPU, PROCESS_CPU = "wall us", "loop CPU us", "process CPU us"


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: the number of rounds that count, and the share of the usual calls in each turn."""

    rounds: int
    share: float = 1.0

    @property
    def is_quick(self) -> bool:
        """Whether turns are too short for the figures to mean anything."""
        return self.share < 1

    def count(self, usual: int) -> int:
        """Return how many repetitions to make where a full run makes `usual`."""
        return max(1, round(usual * self.share))


FULL = Effort(rounds=61)
QUICK = Effort(rounds=2, share=0.02)
"""Shows that everything runs. Its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Case:
    """One way to do the work.

    Args:
        name: how the table calls it.
        calls: how many calls one turn makes. Choose it so that a turn takes 10 to 20 ms, longer than the time slice
            of a thread.
        turn: makes the calls and returns something that is equal for all cases that did the same work, or None.
    """

    name: str
    calls: int
    turn: Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Row:
    """What a case cost: by the name of the figure, with its unit, one value a round."""

    name: str
    figures: dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows about the same work.

    Args:
        name: short and lasting: goals and the JSON refer to it.
        title: what was done, for readers.
        rows: in the order in which they are printed.
        baseline: the row that the ratios of figure `compared` refer to; None for no ratios.
        notes: what a reader must know to understand the figures, a sentence each.
    """

    name: str
    title: str
    rows: list[Row]
    baseline: str | None = None
    compared: str = WALL
    notes: list[str] = field(default_factory=list)

    def row(self, name: str) -> Row:
        """Return the row called `name`; KeyError if there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"table {self.name!r} has no row {name!r}, only {[row.name for row in self.rows]}")


@dataclass(frozen=True, slots=True)
class Spread:
    """The values of several rounds: their median, the bounds of their middle half, the least and the most."""

    median: float
    low: float
    high: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """Summarise the values of several rounds."""
    low, median, high = statistics.quantiles(values, method="inclusive") if len(values) > 1 else [*values] * 3
    return Spread(median, low, high, min(values), max(values))


def ratios(values: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Divide round by round. ValueError if the two were not measured in the same rounds."""
    return [value / base for value, base in zip(values, baseline, strict=True)]


async def take_turns(cases: Sequence[Case], rounds: int) -> list[Row]:
    """Measure the cases on the running loop, in turns; a first round warms up and is not counted.

    Raises:
        ValueError: the cases did not do the same work: their turns returned different things.
    """
    warm_up = [await case.turn() for case in cases]
    for case, result in zip(cases, warm_up, strict=True):
        if result != warm_up[0]:
            raise ValueError(f"{case.name!r} returned {result!r}, {cases[0].name!r} {warm_up[0]!r}: not the same work")
    rows = [Row(case.name, {WALL: [], LOOP_CPU: [], PROCESS_CPU: []}) for case in cases]
    for _ in range(rounds):
        for case, row in zip(cases, rows, strict=True):
            for name, seconds in (await _turn(case)).items():
                row.figures[name].append(seconds * 1e6 / case.calls)
    return rows


async def _turn(case: Case) -> dict[str, float]:
    gc.collect()
    begun = time.perf_counter(), time.thread_time(), time.process_time()
    await case.turn()
    ended = time.perf_counter(), time.thread_time(), time.process_time()
    return dict(
        zip((WALL, LOOP_CPU, PROCESS_CPU), (end - begin for end, begin in zip(ended, begun, strict=True)), strict=True)
    )
