"""Options of a run: what may be given, what is kept, and what is refused before anything runs."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

import pytest

from slacker import Slacker, Worker, batch, chain_of, options
from slacker.chain import AS_USUAL, Chain, Options
from slacker.recipe import state_of
from slacker.workers import DummyWorker, ThreadWorker


class Databases(Worker):
    """A worker that has two databases."""

    async def run(self, chain: Chain) -> Any:
        return chain.options

    def check_atomic(self, alias: str) -> None:
        if alias not in ("default", "archive"):
            raise ValueError(f"no database {alias!r}")


def q() -> Any:
    return Slacker(int)("1")


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_as_usual() -> None:
    """A recipe has no options of its own."""
    assert chain_of(q()).options is AS_USUAL


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, Options()),
        ({"timeout": 2}, Options(timeout=2.0)),
        ({"timeout": 0.001}, Options(timeout=0.001)),
        ({"atomic": True}, Options(atomic="default")),
        ({"atomic": "archive"}, Options(atomic="archive")),
        ({"atomic": False}, Options()),
        ({"timeout": 1, "atomic": True}, Options(1.0, "default")),
    ],
)
@pytest.mark.parametrize(
    "make", [q, lambda: batch(q(), q()), lambda: Slacker(abs)(q())], ids=["chain", "batch", "nested"]
)
def test_options(make: Any, given: dict[str, Any], kept: Options) -> None:
    """Options are those of the whole run, whatever the recipe is; the recipe is otherwise as it was."""
    recipe = make()
    chain, before = chain_of(options(recipe, Databases(), **given)), chain_of(recipe)
    assert chain == Chain(before.root, before.steps, before.nested, kept)


def test_what_is_none_stays() -> None:
    """Of options that are given one after another each leaves the others."""
    chosen = options(options(options(q(), Databases()), timeout=1), atomic=True)
    assert chain_of(options(chosen)).options == Options(1.0, "default")


def test_no_longer_atomic() -> None:
    """False takes the transaction away again."""
    assert chain_of(options(options(q(), Databases(), atomic=True), atomic=False)).options == AS_USUAL


def test_the_recipe_stays() -> None:
    """The recipe that was given has no options afterwards."""
    given = q()
    options(given, timeout=1)
    assert chain_of(given).options is AS_USUAL


def test_more_steps() -> None:
    """Steps recorded later belong to the same run."""
    assert chain_of(options(q(), timeout=1).real[0]).options == Options(timeout=1.0)


async def test_the_worker_gets_them() -> None:
    """A worker gets the options with the chain."""
    assert await options(q(), Databases(), timeout=1) == Options(timeout=1.0)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -0.5, -math.inf, math.nan])
def test_timeouts_that_are_none(timeout: float) -> None:
    """A timeout is above 0."""
    with pytest.raises(ValueError, match=rf"^timeout must be a number of seconds above 0, got {timeout}$"):
        options(q(), timeout=timeout)


@pytest.mark.parametrize("timeout", [math.inf, 1e300, 10**400])
def test_timeouts_beyond_what_timers_take(timeout: float) -> None:
    """A timeout that no timer takes is refused, and the error names the longest."""
    with pytest.raises(ValueError, match=r"^timeout must be at most \d+ seconds, got ") as caught:
        options(q(), timeout=timeout)
    (longest,) = re.findall(r"at most (\d+)", str(caught.value))
    assert chain_of(options(q(), timeout=int(longest))).options.timeout == float(longest)


@pytest.mark.parametrize("timeout", ["1", True, False, Decimal(1), 1j, [1], q()])
def test_timeouts_of_other_types(timeout: Any) -> None:
    """A timeout is an int or a float."""
    with pytest.raises(TypeError, match="timeout must be a number of seconds, got "):
        options(q(), timeout=timeout)


@pytest.mark.parametrize("atomic", [1, 0, b"default", ["default"], q()])
def test_atomic_of_other_types(atomic: Any) -> None:
    """What is atomic is told by True, False or an alias."""
    with pytest.raises(TypeError, match="atomic must be True, False or the alias of a database, got "):
        options(q(), atomic=atomic)


@pytest.mark.parametrize("atomic", [True, "default", ""])
@pytest.mark.parametrize("make", [DummyWorker, lambda: DummyWorker(pickled=True), lambda: ThreadWorker(1)])
def test_atomic_without_a_database(make: Any, atomic: bool | str) -> None:
    """A worker that has no database refuses at once, naming those that have."""
    with pytest.raises(ValueError, match=r"atomic='\w*' needs a worker that replays in Django, such as DjangoThread"):
        options(q(), make(), atomic=atomic)


def test_another_worker_without_a_database() -> None:
    """So does one that is chosen after the transaction was."""
    with pytest.raises(ValueError, match="needs a worker that replays in Django"):
        options(options(q(), Databases(), atomic=True), DummyWorker())


def test_unknown_alias() -> None:
    """The worker knows its databases."""
    with pytest.raises(ValueError, match="no database 'other'"):
        options(q(), Databases(), atomic="other")


@pytest.mark.parametrize("use", [lambda recipe: recipe.fetch(), lambda recipe: recipe.__await__()])
async def test_atomic_without_a_worker(use: Any) -> None:
    """A transaction may be asked for before there is a worker; to run it without one is refused."""
    recipe = options(q(), atomic=True)
    assert state_of(recipe)[2] is None
    with pytest.raises(ValueError, match=r"DummyWorker\(\) has none"):
        use(recipe)


async def test_a_nested_one_finds_its_worker() -> None:
    """It may find one by the recipe of another worker among its arguments."""
    recipe = options(Slacker(abs), atomic=True)(options(q(), Databases()))
    assert await recipe == Options(atomic="default")


@pytest.mark.parametrize(("worker", "alias"), [(Databases(), "other"), (DummyWorker(), "default")])
def test_a_nested_one_finds_a_worker_without_the_database(worker: Worker, alias: str) -> None:
    """If that has not the database it is refused when recorded."""
    recipe = options(Slacker(abs), atomic=alias)
    with pytest.raises(ValueError, match=r"no database 'other'|needs a worker that replays in Django"):
        recipe(options(q(), worker))
