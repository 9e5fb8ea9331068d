"""What slacker shall reach, as data, and the verdict on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .tables import LOOP_CPU, WALL, Table, ratios, spread

__all__ = ["GOALS", "Goal", "Verdict", "judge"]


@dataclass(frozen=True, slots=True)
class Goal:
    """The median of a row's figure is at most `limit`: times that of row `against`, or absolute without one.

    A speed-up of 5 or more is a limit of 0.2.
    """

    table: str
    row: str
    limit: float
    against: str | None = None
    figure: str = WALL


GOALS = (
    Goal("threads-at-once", "slacker, fetch()", 0.35, against="run_in_executor"),
    Goal("threads-in-turn", "slacker, await", 0.8, against="run_in_executor"),
    Goal("recording", "slacker", 0.03, against="dask.delayed"),
    Goal("rows-dump", "slacker", 0.2, against="pickle", figure=LOOP_CPU),
    Goal("rows-load", "slacker", 0.33, against="pickle", figure=LOOP_CPU),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured for a goal: a median, of the ratios of all rounds where the goal is a ratio."""

    goal: Goal
    measured: float

    @property
    def reached(self) -> bool:
        return self.measured <= self.goal.limit

    def __str__(self) -> str:
        goal = self.goal
        what = f"{goal.limit:g} x {goal.against}" if goal.against else f"{goal.limit:g} {goal.figure}"
        return f"goal <= {what}: {self.measured:.3g} {'reached' if self.reached else 'NOT reached'}"


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
