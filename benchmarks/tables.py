"""What was measured, as data, and the statistics on it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = [
    "CALLS", "LOOP_CPU", "LOST", "P50", "P99", "PROCESS_CPU", "STALL", "STALL_WALL", "WALL", "Row", "Spread", "Table",
    "in_ms", "percentile", "ratios", "spread",
]  # fmt: skip

WALL, LOOP_CPU, PROCESS_CPU = "wall us", "loop CPU us", "process CPU us"
STALL, STALL_WALL, LOST = "longest stall ms", "the same, wall ms", "work lost ms"
CALLS, P50, P99 = "calls/s", "p50 ms", "p99 ms"


def in_ms(figure: str) -> str:
    """Return the name of a figure in microseconds as it is called in milliseconds."""
    return figure.removesuffix("us") + "ms"


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
        size: what grows among tables of the same work, such as the number of rows: the plots' horizontal axis.
    """

    name: str
    title: str
    rows: list[Row]
    baseline: str | None = None
    compared: str = WALL
    notes: list[str] = field(default_factory=list)
    size: int | None = None

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


def percentile(values: Sequence[float], rank: int) -> float:
    """Return what `rank` of 100 values do not exceed."""
    return statistics.quantiles(values, n=100, method="inclusive")[rank - 1] if len(values) > 1 else values[0]
