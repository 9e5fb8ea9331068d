"""A call in another process of one's own, without a server: process pools, and a Dask cluster on this machine.

All have two processes with one thread each. Dask's tasks pass through a scheduler in a third, which is made for
clusters and for longer work than this.
"""

from __future__ import annotations

from collections.abc import Callable

from .calls import at_once, in_turn, times
from .far_side.processes import far_sides
from .measure import Case, Effort, take_turns
from .peers import Peer, cases_of, servers_of
from .tables import Table

__all__ = ["tables"]

AT_ONCE = 16
BASELINE = "ProcessPoolExecutor"
PEERS = ["ProcessWorker", "slacker in processes", BASELINE, "Dask"]
NOTES = ["The ratios are of wall time. slacker in processes has Django's care around each call."]


def tables(effort: Effort) -> list[Table]:
    """Measure a trivial call, one after another and at once, and a look-up at once."""
    effort = effort.within(sittings=3)

    def add_one_in_turn(peer: Peer) -> Case | None:
        return peer.add_one and in_turn(peer.name, peer.add_one, effort.count(times(peer.name, 20)))

    def add_one_at_once(peer: Peer) -> Case | None:
        return peer.add_one and at_once(peer.name, peer.add_one, AT_ONCE, effort.count(times(peer.name, 4)))

    def get_user_at_once(peer: Peer) -> Case | None:
        return peer.get_user and at_once(peer.name, peer.get_user, AT_ONCE, effort.count(times(peer.name, 2)))

    with far_sides(servers_of(PEERS), processes=2, threads=1) as sides:

        def table(name: str, title: str, case: Callable[[Peer], Case | None]) -> Table:
            rows = take_turns(lambda: cases_of(PEERS, sides, case), effort)
            return Table(name, title, rows, baseline=BASELINE, notes=NOTES)

        return [
            table("process-call-in-turn", "Trivial call in a local process, one after another", add_one_in_turn),
            table("process-call-at-once", f"Trivial call in a local process, {AT_ONCE} at once", add_one_at_once),
            table(
                "process-get-at-once",
                f"User.objects.get(pk=...) on SQLite in a local process, {AT_ONCE} at once",
                get_user_at_once,
            ),
        ]
