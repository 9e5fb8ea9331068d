"""A single call in another process on this machine, one after another and several at once: `peers`, and no call at all.

All have one process with four threads there; the process pool has one process, which does one thing at a time.

Loop CPU is what off-loading saves, so it is what the ratios are of. It leaves out what other threads
do: those of RPyC, Pyro5, the process pool and the async ORM, which take turns with the loop. slacker's HTTP
client has no thread of its own, it works on the loop. Process CPU has all of it, but not the far side.
"""

from __future__ import annotations

from collections.abc import Callable

from .calls import at_once, in_turn, times
from .far_side.processes import far_sides
from .measure import Case, Effort, take_turns
from .peers import Peer, cases_of, servers_of
from .tables import LOOP_CPU, Table

__all__ = ["tables"]

AT_ONCE = 16
BASELINE = "in place"
PEERS = [
    "slacker over HTTP",
    BASELINE,
    "2011 way",
    "aiohttp + pickle",
    "RPyC",
    "Pyro5",
    "Dask",
    "ProcessPoolExecutor",
    "Django async ORM",
]
NOTES = [
    "The ratios are of loop CPU, which hides what threads cost: those of RPyC, Pyro5, ProcessPoolExecutor and Django's "
    "async ORM.",
    "Process CPU has them. It is the caller's, without the far side's.",
]


def tables(effort: Effort) -> list[Table]:
    """Measure a trivial call and a look-up, each one after another and at once."""
    trivial, lookup = "Trivial call in another process", "User.objects.get(pk=...) on SQLite"
    effort = effort.within(sittings=5)

    def add_one_in_turn(peer: Peer) -> Case | None:
        return peer.add_one and in_turn(
            peer.name, peer.add_one, effort.count(5_000 if peer.name == BASELINE else times(peer.name, 10))
        )

    def add_one_at_once(peer: Peer) -> Case | None:
        return peer.add_one and at_once(peer.name, peer.add_one, AT_ONCE, effort.count(times(peer.name, 2)))

    def get_user_in_turn(peer: Peer) -> Case | None:
        return peer.get_user and in_turn(peer.name, peer.get_user, effort.count(times(peer.name, 10)))

    def get_user_at_once(peer: Peer) -> Case | None:
        return peer.get_user and at_once(peer.name, peer.get_user, AT_ONCE, effort.count(times(peer.name, 2)))

    with far_sides(servers_of(PEERS)) as sides:

        def table(name: str, title: str, case: Callable[[Peer], Case | None]) -> Table:
            rows = take_turns(lambda: cases_of(PEERS, sides, case), effort)
            return Table(name, title, rows, baseline=BASELINE, compared=LOOP_CPU, notes=NOTES)

        return [
            table("remote-call-in-turn", f"{trivial}, one after another", add_one_in_turn),
            table("remote-call-at-once", f"{trivial}, {AT_ONCE} at once", add_one_at_once),
            table("orm-get-in-turn", f"{lookup}, one after another", get_user_in_turn),
            table("orm-get-at-once", f"{lookup}, {AT_ONCE} at once", get_user_at_once),
        ]
