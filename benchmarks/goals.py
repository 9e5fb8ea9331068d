"""What slacker shall reach, as data, and the verdict on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .tables import CALLS, LOOP_CPU, P99, PROCESS_CPU, STALL, WALL, Table, in_ms, ratios, spread

__all__ = ["GOALS", "Goal", "Verdict", "judge"]

HTTP = "slacker over HTTP"


@dataclass(frozen=True, slots=True)
class Goal:
    """The median of a row's figure is at most `limit`: times that of row `against`, or absolute without one.

    A speed-up of 5 or more is a limit of 0.2. Of figures of which more is better the median is at least `limit`.
    """

    table: str
    row: str
    limit: float
    against: str | None = None
    figure: str = WALL

    @property
    def sign(self) -> str:
        """Which way the limit is meant."""
        return ">=" if self.figure == CALLS else "<="


GOALS = (
    Goal("threads-at-once", "slacker, fetch()", 0.35, against="run_in_executor"),
    Goal("threads-in-turn", "slacker, await", 0.8, against="run_in_executor"),
    Goal("recording", "slacker", 0.03, against="dask.delayed"),
    Goal("rows-dump", "slacker", 0.2, against="pickle", figure=LOOP_CPU),
    Goal("rows-load", "slacker", 0.33, against="pickle", figure=LOOP_CPU),
    Goal("record-and-encode", "slacker", 0.08, against="dask.delayed"),
    Goal("orm-get-in-turn", HTTP, 0.8, against="in place", figure=LOOP_CPU),
    Goal("orm-get-in-turn", HTTP, 0.21, against="2011 way", figure=LOOP_CPU),
    Goal("orm-get-in-turn", HTTP, 2, against="in place", figure=PROCESS_CPU),
    Goal("fetch-20000", HTTP, 0.25, against="2011 way", figure=in_ms(LOOP_CPU)),
    Goal("fetch-20000", HTTP, 10, figure=STALL),
    Goal("batch-20", "a batch of 20", 0.2, against="20 calls", figure=LOOP_CPU),
    Goal("batch-20", "a batch of 20", 0.45, against="20 calls"),
    Goal("stream", HTTP, 10, figure=STALL),
    Goal("stream", HTTP, 50, figure="memory MB"),
    Goal("stream", HTTP, 50, figure="memory there MB"),
    Goal("load-64", HTTP, 3, against="2011 way", figure=CALLS),
    Goal("load-mixed", HTTP, 1.3, against="slacker, unshared", figure=P99),
    Goal("handler", HTTP, 0.5, against="Django async ORM", figure=P99),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured for a goal: a median, of the ratios of all rounds where the goal is a ratio."""

    goal: Goal
    measured: float

    @property
    def reached(self) -> bool:
        goal = self.goal
        return self.measured >= goal.limit if goal.sign == ">=" else self.measured <= goal.limit

    def __str__(self) -> str:
        goal = self.goal
        what = f"{goal.limit:g} {goal.figure}"
        if goal.against:
            what = f"{goal.limit:g} x {goal.against}" + f" in {goal.figure}" * (goal.figure != WALL)
        return f"goal {goal.sign} {what}: {self.measured:.3g} {'reached' if self.reached else 'NOT reached'}"


def judge(tables: Sequence[Table], goals: Sequence[Goal] = GOALS) -> list[Verdict]:
    """Return a verdict on each goal whose table was measured, in the goals' order.

    Raises:
        KeyError: a goal names a row or a figure that its table has not.
    """
    measured = {table.name: table for table in tables}
    return [Verdict(goal, _median(measured[goal.table], goal)) for goal in goals if goal.table in measured]


def _median(table: Table, goal: Goal) -> float:
    values = table.row(goal.row).figures[goal.figure]
    if goal.against is not None:
        values = ratios(values, table.row(goal.against).figures[goal.figure])
    return spread(values).median
