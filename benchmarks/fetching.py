"""A long list of model instances, brought to the loop: what it costs the loop, and everybody else on it.

Four lists of different length. In one round each peer fetches the list twice: undisturbed, and beside a ticker that
sees how long the loop stands still, and in the first round once more, beside a busy task that sees how much less it
gets done (`meters`). The result is kept alive while the clock runs.

All have one process with four threads there, and one call is under way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .far_side.processes import FarSides, far_sides
from .measure import Case, Effort, take_turns
from .meters import costs_to_others
from .peers import Call, Peer, cases_of, servers_of
from .tables import LOOP_CPU, Table, in_ms

__all__ = ["tables"]

COUNTS = (100, 1_000, 5_000, 20_000)
BASELINE = "2011 way"
PEERS = [
    "slacker over HTTP",
    "slacker in threads",
    "slacker in processes",
    "in place",
    BASELINE,
    "aiohttp + pickle",
    "sync_to_async",
    "Django async ORM",
    "ProcessPoolExecutor",
    "Dask",
    "RPyC",
    "Pyro5",
]
SLOW = ("Dask", "Pyro5")
MOST_FOR_SLOW = 5_000
IN_THREADS = ("slacker in threads", "sync_to_async", "Django async ORM")
NOTES = [
    "The ratios are of loop CPU, which hides what threads of the same process cost: see process CPU, and work lost.",
    "Longest stall: most loop CPU between two wake-ups of a task that sleeps 1 ms at a time; beside it most wall time.",
    "Work lost: time by which a task that is always busy got less done on the same loop.",
    "It is of one round, and left out where threads of this process do the work: a loop that is always busy lets them "
    "have the interpreter so seldom that they take minutes.",
    f"Pyro5 brings dicts instead of instances. It and Dask take too long for more than {MOST_FOR_SLOW} rows.",
]


def tables(effort: Effort) -> list[Table]:
    """Measure fetching lists of all lengths."""
    with far_sides(servers_of(PEERS)) as sides:
        return [_table(count, PEERS, _rounds(count, effort), sides) for count in COUNTS]


def _rounds(count: int, effort: Effort) -> Effort:
    """Return an effort of one sitting; of more rounds for the longest lists, which other work disturbs most."""
    times = 3 if count == COUNTS[-1] and not effort.is_quick else 1
    return replace(effort, sittings=1, rounds=effort.rounds * times)


def _table(count: int, names: list[str], effort: Effort, sides: FarSides) -> Table:
    fetched = effort.count(count)
    times = effort.count(max(1, 400 // count))

    def case(peer: Peer) -> Case | None:
        if peer.get_users is None:
            return None
        meter = costs_to_others(beside_work=peer.name not in IN_THREADS)
        return Case(peer.name, times, _turn(peer.get_users, fetched, times), meter)

    if count > MOST_FOR_SLOW:
        names = [name for name in names if name not in SLOW]
    return Table(
        f"fetch-{count}",
        f"list(User.objects.all()[:{fetched}]) on SQLite",
        take_turns(lambda: cases_of(names, sides, case), effort),
        baseline=BASELINE,
        compared=in_ms(LOOP_CPU),
        notes=NOTES,
        size=count,
    )


def _turn(get_users: Call, count: int, times: int) -> Any:
    async def turn() -> object:
        for _ in range(times):
            rows = await get_users(count)
        return _Fetched(rows)

    return turn


class _Fetched:
    """Keeps rows alive; equal if they are of the same users."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def _names(self) -> list[str]:
        return [row["username"] if isinstance(row, dict) else row.username for row in self._rows]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Fetched) and self._names() == other._names()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{len(self._names())} users"
