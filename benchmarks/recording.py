"""Recording a chain, without running it: the proxy against `dask.delayed`, which records the same expressions.

Both start from a root made once, as a module makes it, and nothing is run. dask names every step by a token that is
unique in a cluster, which is most of its cost and which slacker has no use for.

Encoded is what a worker would send: by slacker an envelope, by dask the pickled graph. `distributed` pickles with
cloudpickle only what plain pickle refuses; nothing of this is.
"""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from dask.delayed import delayed

from slacker import Slacker, chain_of
from slacker.wire import encode_request

from .measure import Case, Effort, take_turns
from .tables import Table

__all__ = ["tables"]


class User:
    """Stands for a model: recording asks nothing of its root."""


def tables(effort: Effort) -> list[Table]:
    """Measure recording five steps, with and without encoding them, and the search of a large argument for recipes."""
    ours = Slacker(User)
    theirs = delayed(User)
    keys = list(range(100_000))

    @asynccontextmanager
    async def five_steps() -> AsyncIterator[list[Case]]:
        yield [
            _record("slacker", effort.count(2_000), lambda: _five_steps(ours)),
            _record("dask.delayed", effort.count(60), lambda: _five_steps(theirs)),
        ]

    @asynccontextmanager
    async def encoded() -> AsyncIterator[list[Case]]:
        yield [
            _record("slacker", effort.count(800), lambda: encode_request([chain_of(_five_steps(ours))])),
            _record("dask.delayed", effort.count(50), lambda: pickle.dumps(_five_steps(theirs))),
        ]

    @asynccontextmanager
    async def large_argument() -> AsyncIterator[list[Case]]:
        yield [_record("slacker", effort.count(5), lambda: ours.filter(pk__in=keys))]

    return [
        Table(
            "recording",
            'Record 5 steps: User.objects.filter(is_staff=True).order_by("name")',
            take_turns(five_steps, effort),
            baseline="dask.delayed",
        ),
        Table(
            "record-and-encode",
            "Record the same 5 steps and make bytes of them",
            take_turns(encoded, effort),
            baseline="dask.delayed",
        ),
        Table(
            "large-argument",
            "Record 2 steps with a list of 100 000 ints, which is searched for recipes: .filter(pk__in=[...])",
            take_turns(large_argument, effort),
        ),
    ]


def _five_steps(model: Any) -> Any:
    return model.objects.filter(is_staff=True).order_by("name")


def _record(name: str, times: int, record: Callable[[], object]) -> Case:
    async def turn() -> None:
        for _ in range(times):
            record()

    return Case(name, times, turn)
