"""Recipes in recipes, as arguments and in batches: what is run when, how often, and what a failure tells."""

from __future__ import annotations

import asyncio
import copy
import gc
import operator
import pickle
import subprocess
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import slacker
from slacker import RemoteError, Slacker, Worker, batch, chain_of, options
from slacker.chain import MAX_DEPTH, Batch, Call, Chain, Item, Options, Ref, Replay, capture
from slacker.outcome import Error, Outcome, Several, Value
from slacker.recipe import chain_to_nest, state_of
from slacker.workers import DummyWorker


class OtherWorker(Worker):
    """A worker that is equal to any of its kind and name, as Django's are."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    async def run(self, chain: Chain) -> Any:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OtherWorker) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"OtherWorker({self.name!r})"


class Counted:
    """Work that notes what it was called with, and fails for what it was told to."""

    def __init__(self, *failing: object) -> None:
        self.calls: list[Any] = []
        self.failing = failing

    def __call__(self, value: Any) -> Any:
        self.calls.append(value)
        if value in self.failing:
            raise LookupError(value)
        return value

    def find(self, value: Any) -> Any:
        return self(value)


class Failure(Exception):
    """An ordinary exception that can be referred to weakly."""


def echo(*args: Any, **kwargs: Any) -> Any:
    return (args, kwargs) if kwargs else args


def add(one: Any, other: Any) -> Any:
    return one + other


def throw(error: BaseException) -> Any:
    raise error


def replayed(q: Slacker) -> Any:
    return chain_of(q).replay()


def captured(q: Slacker) -> Any:
    chain = chain_of(q)
    return capture(chain).unwrap(chain)


def notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def note_of(q: Slacker) -> list[str]:
    with pytest.raises(Exception) as caught:  # noqa: PT011 (any)
        captured(q)
    return notes(caught.value)


# --- as arguments: recorded ------------------------------------------------------------------------------------------


def test_a_ref_stands_for_a_nested_chain() -> None:
    """A recipe as an argument is a nested chain, and a Ref with its number stands in its place."""
    q = Slacker(echo)(1, Slacker(int)("2"))
    assert chain_of(q) == Chain(echo, (Call((1, Ref(0)), {}),), (Chain(int, (Call(("2",), {}),)),))


def test_each_recipe_is_nested_once() -> None:
    """One recipe in several places, of one step or of several, is one nested chain; an equal one is another."""
    one, other = Slacker(int)("1"), Slacker(int)("1")
    chain = chain_of(Slacker(echo)(one, [one], a=other)[one])
    assert chain.nested == (chain_of(one), chain_of(other))
    assert chain.steps == (Call((Ref(0), [Ref(0)]), {"a": Ref(1)}), Item(Ref(0)))


def test_prefixes_stay_as_they_are() -> None:
    """Nesting makes a new recipe, as each step does: the prefix has nothing nested."""
    prefix = Slacker(echo)
    prefix(Slacker(int)("1"))
    assert chain_of(prefix) == Chain(echo)


def test_branches_of_a_prefix() -> None:
    """Two recipes that grow from one prefix with something nested have each their own besides."""
    one, two, three = Slacker(int)("1"), Slacker(int)("2"), Slacker(int)("3")
    prefix = Slacker(echo)(one)
    nested = [chain_of(q).nested for q in (prefix[two], prefix[three])]
    assert nested == [(chain_of(one), chain_of(two)), (chain_of(one), chain_of(three))]


def test_a_recipe_gives_one_chain_to_nest() -> None:
    """Wherever a recipe is nested it is the same chain object: by that it is run once."""
    q = Slacker(int)("1")
    assert chain_to_nest(q) is chain_to_nest(q)
    assert chain_of(q) is not chain_of(q)


def test_recipes_are_nested_in_a_forked_child() -> None:
    """A child of a fork nests recipes, though another thread of the parent was doing so at that moment."""
    script = """if True:
        import os, signal, threading, warnings
        from slacker import Slacker, recipe
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process that has threads
        nesting, may_end = threading.Event(), threading.Event()

        def nest():
            with recipe._nesting:
                nesting.set()
                may_end.wait()

        threading.Thread(target=nest).start()
        nesting.wait()
        child = os.fork()
        if not child:
            signal.alarm(30)  # liveness bound
            Slacker(abs)(Slacker(abs)(2))
            os._exit(0)
        may_end.set()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_modules_and_classes_may_be_roots_of_nested() -> None:
    """A nested recipe may start from whatever a recipe may."""
    q = Slacker(echo)(Slacker(operator).add(1, 2), Slacker(str), Slacker([5])[0])
    assert replayed(q) == (3, str, 5)


# --- as arguments: run -----------------------------------------------------------------------------------------------

PLACES: dict[str, tuple[Callable[[Any, Any], Slacker], Any]] = {
    "positional": (lambda f, q: f(q, 1), (7, 1)),
    "keyword": (lambda f, q: f(a=q), ((), {"a": 7})),
    "list": (lambda f, q: f([q, 1]), ([7, 1],)),
    "tuple": (lambda f, q: f((q,)), ((7,),)),
    "dict": (lambda f, q: f({q: q}), ({7: 7},)),
    "set": (lambda f, q: f({q}), ({7},)),
    "slice": (lambda f, q: f(slice(q, None, q)), (slice(7, None, 7),)),
    "index": (lambda f, q: f(*range(10))[q], 7),
    "bounds": (lambda f, q: f(*range(10))[q:], (7, 8, 9)),
    "deep": (lambda f, q: f({"a": [({"b": q},)]}), ({"a": [({"b": 7},)]},)),
}


@pytest.mark.parametrize("place", PLACES)
def test_nested_results(place: str) -> None:
    """The result of a nested recipe stands where the recipe stood."""
    record, result = PLACES[place]
    assert replayed(record(Slacker(echo), Slacker(int)("7"))) == result


def test_results_are_not_copied() -> None:
    """What a nested recipe gives is used as it is, the same object in each place."""
    (first, [second]) = replayed(Slacker(echo)(q := Slacker(list)(), [q]))
    assert first is second


def test_arguments_stay_as_recorded() -> None:
    """To run a recipe changes nothing of its arguments: the next run has the recipes in their places."""
    counted = Counted()
    q = Slacker(echo)([Slacker(counted)(1)])
    assert [replayed(q), replayed(q)] == [([1],), ([1],)]
    assert counted.calls == [1, 1]


def test_runs_once_in_three_places() -> None:
    """One recipe in three places of one run, two levels deep, runs once."""
    counted = Counted()
    one = Slacker(counted)(1)
    assert replayed(Slacker(echo)(one, Slacker(add)(one, 1))[one]) == 2
    assert counted.calls == [1]


def test_equal_recipes_run_each() -> None:
    """Two recipes that are equal are two: who wants one run uses one object."""
    counted = Counted()
    replayed(Slacker(echo)(Slacker(counted)(1), Slacker(counted)(1)))
    assert counted.calls == [1, 1]


def test_runs_at_the_step_that_uses_it() -> None:
    """A nested recipe is replayed when its step is reached, and not at all if no step reaches it."""
    counted = Counted()
    q = Slacker(Counted("outer").find)("outer")(Slacker(counted)(1))
    with pytest.raises(LookupError):
        replayed(q)
    assert counted.calls == []


def test_runs_in_the_order_of_steps() -> None:
    """Nested recipes run before the step that uses them, and after the steps before it."""
    counted = Counted()
    q = Slacker(lambda value: (counted(value), echo)[1])(Slacker(counted)("first"))(Slacker(counted)("third"))
    replayed(q)
    assert counted.calls == ["first", "first", "third"]


def test_another_base() -> None:
    """Replayed on another base, a chain has its nested results all the same."""
    assert chain_of(Slacker([1, 2])[Slacker(int)("1")]).replay(["a", "b"]) == "b"


# --- as arguments: which may be --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outer", "inner"), [(None, "a"), ("a", None), ("a", "a")])
def test_workers_join(outer: str | None, inner: str | None) -> None:
    """A recipe without a worker joins the other one, either way; equal workers are one."""
    workers = [None if name is None else OtherWorker(name) for name in (outer, inner)]
    q = Slacker(echo, workers[0])(Slacker(int, workers[1])("1"))
    assert state_of(q)[2] == OtherWorker("a")


def test_no_worker() -> None:
    """Recipes without workers make one without."""
    assert state_of(Slacker(echo)(Slacker(int)("1")))[2] is None


@pytest.mark.parametrize(
    "record",
    [lambda a, b: a.find(b), lambda a, b: a.find(x=[b]), lambda a, b: a.find[b]],
    ids=["argument", "in a keyword", "key"],
)
def test_two_workers(record: Callable[[Any, Any], Slacker]) -> None:
    """A recipe of another worker is refused when recorded: both are named, and what to do."""
    with pytest.raises(
        TypeError,
        match=r"int\(\.\.\.\) is for OtherWorker\('b'\) and stands inside of echo\.find, .* OtherWorker\('a'\)",
    ):
        record(Slacker(echo, OtherWorker("a")), Slacker(int, OtherWorker("b"))("1"))


def test_two_workers_of_nested() -> None:
    """So are two nested recipes of different workers in one without."""
    one, other = (Slacker(int, OtherWorker(name))("1") for name in "ab")
    with pytest.raises(TypeError, match="one trip goes to one worker"):
        Slacker(echo)(one, other)


@pytest.mark.parametrize("given", [{"timeout": 1}, {"atomic": True}])
@pytest.mark.parametrize("record", [lambda q: Slacker(echo)(q), batch], ids=["argument", "batch"])
def test_options_inside(record: Callable[[Slacker], Slacker], given: dict[str, Any]) -> None:
    """A recipe with options of its own is refused inside of another: one run has one time limit, one transaction."""
    with pytest.raises(TypeError, match=r"int\(\.\.\.\) has options of its own and stands inside of (echo|batch)"):
        record(options(Slacker(int)("1"), **given))


def test_options_outside() -> None:
    """Options may be given to what has recipes inside, and stay when more steps are recorded."""
    inner = Slacker(int)("1")
    q = options(Slacker(echo)(inner), timeout=1)[0][inner]
    assert chain_of(q).options == Options(timeout=1.0)


def test_arguments_are_not_named() -> None:
    """The errors name recipes without the values of their arguments."""
    with pytest.raises(TypeError) as caught:
        Slacker(echo)("hunter2")(options(Slacker(int)("hunter2"), timeout=1))
    assert "hunter2" not in str(caught.value)


def nested_to(depth: int) -> Any:
    q: Any = Slacker(add)(0, 0)
    for _ in range(depth):
        q = Slacker(add)(1, q)
    return q


def test_as_deep_as_may_be() -> None:
    """Recipes may be nested 32 deep, and are run."""
    q = nested_to(MAX_DEPTH)
    assert (MAX_DEPTH, chain_of(q).depth, replayed(q)) == (32, 32, 32)


@pytest.mark.parametrize("record", [lambda q: Slacker(add)(1, q), batch], ids=["argument", "batch"])
def test_too_deep(record: Callable[[Slacker], Slacker]) -> None:
    """One level more is refused when recorded."""
    q = nested_to(MAX_DEPTH)
    with pytest.raises(ValueError, match="recipes can be nested 32 deep, not more; await one of them first"):
        record(q)


# --- batches ---------------------------------------------------------------------------------------------------------


def test_batch() -> None:
    """A batch gives the list of what its recipes give, in order."""
    assert replayed(batch(Slacker(int)("1"), Slacker(str)(2), Slacker([3])[0])) == [1, "2", 3]


def test_batch_is_a_root() -> None:
    """A batch is a chain from a root of its own, with its items nested."""
    one, two = Slacker(int)("1"), Slacker(int)("2")
    assert chain_of(batch(one, two)) == Chain(Batch(2), (), (chain_of(one), chain_of(two)))


def test_empty_batch() -> None:
    """A batch of no recipe gives an empty list, alone, with options or inside of another."""
    assert [replayed(batch()), replayed(batch(return_exceptions=True)), replayed(Slacker(echo)(batch()))] == [
        [],
        [],
        ([],),
    ]


async def test_empty_batch_takes_no_trip() -> None:
    """An empty batch belongs to no worker: it is run in place."""
    assert (state_of(batch())[2], await batch()) == (None, [])


def test_batch_of_one_twice() -> None:
    """One recipe twice in a batch runs once, and its result is there twice."""
    counted = Counted()
    q = Slacker(counted)(1)
    assert (replayed(batch(q, q)), counted.calls) == ([1, 1], [1])


def test_results_of_items_as_arguments() -> None:
    """An item may be an argument of another, before it or after it, and runs once."""
    counted = Counted()
    one = Slacker(counted)(1)
    assert replayed(batch(Slacker(add)(one, 1), one, Slacker(add)(one, one))) == [2, 1, 2]
    assert counted.calls == [1]


def test_batch_in_a_batch() -> None:
    """A batch may be an item of another, and an argument."""
    one, two = Slacker(int)("1"), Slacker(int)("2")
    assert replayed(batch(batch(one, two), two, Slacker(sum)(batch(one, one)))) == [[1, 2], 2, 2]


def test_steps_on_a_batch() -> None:
    """Steps may be taken on the results of a batch."""
    assert replayed(batch(Slacker(int)("1"), Slacker(int)("2"))[1:]) == [2]


def test_arguments_of_steps_on_a_batch() -> None:
    """What is nested in a step on a batch is no item of it."""
    one, two = Slacker(int)("1"), Slacker(int)("2")
    q = batch(one, two)
    assert [replayed(q[one]), replayed(q.index(Slacker(int)("2"))), replayed(q.count(one))] == [2, 1, 1]


def test_workers_of_a_batch() -> None:
    """A batch has the worker of its items."""
    worker = OtherWorker()
    assert state_of(batch(Slacker(int)("1"), Slacker(int, worker)("2")))[2] is worker


def test_batch_of_two_workers() -> None:
    """Items of two workers are refused when the batch is made."""
    with pytest.raises(TypeError, match=r"is for OtherWorker\('b'\) and stands inside of batch\(\.\.\.\)"):
        batch(Slacker(int, OtherWorker("a"))("1"), Slacker(int, OtherWorker("b"))("2"))


@pytest.mark.parametrize("given", [[Slacker(int)], 1, None, chain_of(Slacker(int)), int])
def test_batch_of_something_else(given: Any) -> None:
    """What is no recipe is refused in a batch, wherever it stands."""
    with pytest.raises(TypeError, match="expected a Slacker, got"):
        batch(Slacker(int)("1"), given)


@pytest.mark.parametrize("given", [[Slacker(int)()], (), {Slacker(int)()}, (Slacker(int)() for _ in "a")], ids=type)
def test_batch_of_a_list(given: Any) -> None:
    """Whoever passes the recipes as a list, as to `asyncio.wait`, is told of the star."""
    kind = type(given).__name__
    with pytest.raises(TypeError, match=rf"^expected a Slacker, got {kind}; write batch\(\*qs\)$"):
        batch(given)


# --- batches that fail -----------------------------------------------------------------------------------------------


def test_first_failure() -> None:
    """The first failure of a batch is raised, and later items are not run."""
    counted = Counted(2)
    with pytest.raises(LookupError, match="2"):
        captured(batch(*[Slacker(counted)(n) for n in range(5)]))
    assert counted.calls == [0, 1, 2]


def test_returned_exceptions() -> None:
    """With `return_exceptions` the exception stands in the list, and the others run."""
    counted = Counted(1)
    first, error, last = captured(batch(*[Slacker(counted)(n) for n in range(3)], return_exceptions=True))
    assert (first, repr(error), last) == (0, "LookupError(1)", 2)


def test_failed_recipes_run_once_too() -> None:
    """A recipe that failed is not run again by the next item that has it as an argument: that fails alike."""
    counted = Counted(1)
    q = Slacker(counted)(1)
    inside = Slacker(echo)(q)
    results = captured(batch(q, inside, Slacker(echo)(inside), q, return_exceptions=True))
    assert (counted.calls, len({id(error) for error in results}), type(results[0])) == ([1], 1, LookupError)


@pytest.mark.parametrize(
    "error", [SystemExit(3), GeneratorExit(), asyncio.CancelledError(), StopIteration(3)], ids=repr
)
def test_returned_exceptions_are_fit_for_a_loop(error: BaseException) -> None:
    """Of what must not be raised on a loop a RemoteError stands in the list, as it would be raised alone."""
    (result,) = captured(batch(Slacker(throw)(error), return_exceptions=True))
    assert (type(result), result.__cause__) == (RemoteError, error)


def test_the_users_interrupt_passes() -> None:
    """A KeyboardInterrupt in the main thread is the user's: it ends a batch that returns exceptions, too."""
    counted = Counted()
    interrupted = batch(Slacker(throw)(KeyboardInterrupt()), Slacker(counted)(1), return_exceptions=True)
    with pytest.raises(KeyboardInterrupt):
        captured(interrupted)
    assert counted.calls == []


def test_exceptions_in_the_middle_of_a_recipe() -> None:
    """A batch that returns exceptions may be an argument, or have steps: its exceptions are values there."""
    failing = batch(Slacker(throw)(Failure("a")), Slacker(int)("1"), return_exceptions=True)
    assert [repr(captured(failing[0])), captured(Slacker(len)(failing)), captured(batch(failing))[0][1]] == [
        "Failure('a')",
        2,
        1,
    ]


def test_outcome_of_a_batch() -> None:
    """A batch is captured as a Value, one that returns exceptions as Several outcomes: who arrives is told there."""
    error = Failure()
    q, failing = Slacker(int)("1"), Slacker(throw)(error)
    made: list[Outcome] = [
        capture(chain_of(batch(q))),
        capture(chain_of(batch(q, failing))),
        capture(chain_of(batch(q, failing, return_exceptions=True))),
    ]
    assert made == [Value([1]), Error(error, 1, 2), Several([Value(1), Error(error, 1, 2)])]


def test_another_base_in_place_of_a_batch() -> None:
    """On another base the steps are taken from that, and no item is run."""
    counted = Counted()
    q = batch(Slacker(counted)(1), return_exceptions=True)
    assert (chain_of(q[0]).replay("abc"), chain_of(q).replay("abc"), counted.calls) == ("a", "abc", [])


# --- what finishes items ---------------------------------------------------------------------------------------------


def finished(q: Slacker, finish: Callable[[Any], Any]) -> Outcome:
    def within(replay: Replay) -> Any:
        replay.finish = finish
        return replay.run()

    return capture(chain_of(q), within)


def test_finish() -> None:
    """What finishes results is given those of a batch's items, and not those that are used as arguments."""
    q = Slacker(list)("ab")
    assert finished(batch(q, Slacker(echo)(q)), lambda result: [result]) == Value([[["a", "b"]], [(["a", "b"],)]])


def test_start() -> None:
    """What makes of roots the objects to start from is given each, nested or not, and no batch."""

    def within(replay: Replay) -> Any:
        replay.start = lambda root: root[:]
        replay.base = replay.chain.root
        return replay.run()

    shared = [3, 1, 2]
    chain = chain_of(batch(Slacker(shared).sort(), Slacker(shared), Slacker([0]).count(0)))
    assert (capture(chain, within), shared) == (Value([None, shared, 1]), [3, 1, 2])


def test_failure_to_finish() -> None:
    """A failure to finish an item is put down to its last step, whatever ran last, and is returned if wanted."""
    one, two = Slacker(list)("a"), Slacker(str)("b")
    for return_exceptions in (False, True):
        q = batch(Slacker(echo)(one, two).count(9), one, return_exceptions=return_exceptions)
        outcome = finished(q, lambda result: throw(Failure()) if result == ["a"] else result)
        error = outcome.outcomes[1] if isinstance(outcome, Several) else outcome
        assert isinstance(error, Error)
        assert (type(error.exception), error.step, chain_of(q).parts()[error.place]) == (Failure, 1, chain_of(one))


def test_has_failures() -> None:
    """A Replay knows whether anything failed, also if the exception is part of the result."""
    known: list[bool] = []

    def within(replay: Replay) -> Any:
        result = replay.run()
        known.append(replay.has_failures)
        return result

    one, failing = Slacker(int)("1"), Slacker(throw)(Failure())
    for q in (batch(one), batch(one, failing, return_exceptions=True)):
        capture(chain_of(q), within)
    assert known == [False, True]


# --- notes -----------------------------------------------------------------------------------------------------------


def failing(name: str = "x") -> Any:
    return Slacker(Counted(name)).find(name)


FAILS = "slacker: at step 2, .find, of Counted(...).find(...)"

NOTES: dict[str, tuple[Callable[[], Slacker], str]] = {
    "alone": (failing, FAILS),
    "nested": (lambda: Slacker(echo)(1)(failing()), f"{FAILS}, in echo(...)(...)"),
    "nested twice": (lambda: Slacker(echo)(Slacker(str)(failing())), f"{FAILS}, in echo(...)"),
    "outer, after a nested": (
        lambda: Slacker(echo)(Slacker(int)("1")).lost,
        "slacker: at step 2, .lost, of echo(...).lost",
    ),
    "the step that has the nested": (
        lambda: Slacker(len)(Slacker(int)("1")),
        "slacker: at step 1, len, of len(...)",
    ),
    "nested, after one nested in it": (
        lambda: Slacker(echo)(Slacker(len)(Slacker(int)("1"))),
        "slacker: at step 1, len, of len(...), in echo(...)",
    ),
    "first of a batch": (
        lambda: batch(failing(), Slacker(int)("1")),
        f"{FAILS}, in batch(Counted(...).find(...), int(...)); it is item 1 of 2: 0 ran before it, 1 did not run",
    ),
    "in the middle of a batch": (
        lambda: batch(Slacker(int)("1"), failing(), Slacker(int)("1"), Slacker(str)("1")),
        f"{FAILS}, in batch(int(...), Counted(...).find(...), int(...), str(...)); "
        "it is item 2 of 4: 1 ran before it, 2 did not run",
    ),
    "nested in an item": (
        lambda: batch(Slacker(int)("1"), Slacker(echo)(failing())),
        f"{FAILS}, in batch(int(...), echo(...)); it is item 2 of 2: 1 ran before it, 0 did not run",
    ),
    "equal items": (
        lambda: batch(Slacker(next)(it := iter([1])), Slacker(next)(it)),
        "slacker: at step 1, next, of next(...), in batch(next(...), next(...)); "
        "it is item 2 of 2: 1 ran before it, 0 did not run",
    ),
    "step on a batch": (
        lambda: batch(Slacker(int)("1"))[7],
        "slacker: at step 1, [...], of batch(int(...))[...]",
    ),
    "argument of a step on a batch": (
        lambda: batch(Slacker(int)("1")).index(failing()),
        f"{FAILS}, in batch(int(...)).index(...)",
    ),
    "batch in a batch": (
        lambda: batch(Slacker(int)("1"), batch(Slacker(int)("1"), failing())),
        f"{FAILS}, in batch(int(...), batch(int(...), Counted(...).find(...))); "
        "it is item 2 of 2: 1 ran before it, 0 did not run",
    ),
    "call of a batch": (
        lambda: batch(Slacker(int)("1"))(),
        "slacker: at step 1, batch(int(...)), of batch(int(...))()",
    ),
}


@pytest.mark.parametrize("where", NOTES)
def test_notes(where: str) -> None:
    """The note on an exception names the chain and the step that failed, what it was in, and what of a batch ran."""
    make, note = NOTES[where]
    assert note_of(make()) == [note]


def test_notes_of_returned_exceptions() -> None:
    """An exception in a list has a note as well; that all others ran goes without saying."""
    (_one, error) = captured(batch(Slacker(int)("1"), failing(), return_exceptions=True))
    assert notes(error) == [f"{FAILS}, in batch(int(...), Counted(...).find(...), return_exceptions=True)"]


def test_notes_of_what_failed_before() -> None:
    """A failure that a later item meets again is put down to where it happened."""
    q = failing()
    results = captured(batch(q, Slacker(echo)(q), return_exceptions=True))
    assert results[1].__notes__ == [f"{FAILS}, in batch(Counted(...).find(...), echo(...), return_exceptions=True)"]


@pytest.mark.parametrize(("step", "place"), [(1, 7), (9, 1), (0, 1)])
def test_notes_of_nonsense(step: int, place: int) -> None:
    """A far side may say anything of where it failed: what makes no sense is left out."""
    assert notes(Error(Failure(), step, place).arrive(chain_of(Slacker(echo)(Slacker(int)("1"))))) == []


def test_comparing_runs_nothing() -> None:
    """To tell where it failed, arguments are not compared: that would be code of the user's."""

    @dataclass
    class Touchy:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

    q = batch(Slacker(echo)(Touchy()), Slacker(echo)(Touchy())[7])
    assert note_of(q)[0].startswith("slacker: at step 2, [...], of echo(...)[...], in batch(")


# --- what exceptions keep alive --------------------------------------------------------------------------------------


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def fails() -> Any:
    raise Failure


FAILING: dict[str, Callable[[], Slacker]] = {
    "nested": lambda: Slacker(echo)(Slacker(fails)()),
    "nested twice": lambda: Slacker(echo)(Slacker(echo)(Slacker(fails)())),
    "batch": lambda: batch(Slacker(int)("1"), Slacker(fails)()),
    "batch in a batch": lambda: batch(batch(Slacker(fails)())),
    "used twice": lambda: Slacker(echo)(batch(q := Slacker(fails)(), q)),
}


@pytest.mark.parametrize("run", [replayed, captured])
@pytest.mark.parametrize("where", FAILING)
def test_exceptions_die_when_released(where: str, run: Callable[[Slacker], Any]) -> None:
    """No cycle of an exception, its traceback and the results beside it is made: it dies with its last user."""
    q = FAILING[where]()
    with no_collector():
        try:
            run(q)
        except Failure as error:
            alive = weakref.ref(error)
        assert alive() is None


RETURNING: list[Callable[[Any], list[Any]]] = [
    lambda q: [q, q],
    lambda q: [q, Slacker(echo)(q)],
    lambda q: [batch(q), q],
]


@pytest.mark.parametrize("items", RETURNING)
def test_returned_exceptions_die_when_released(items: Callable[[Any], list[Any]]) -> None:
    """Nor is one with a list of exceptions."""
    chain = chain_of(batch(*items(Slacker(fails)()), return_exceptions=True))
    with no_collector():
        results = capture(chain).unwrap(chain)
        alive = weakref.ref(results[0])
        del results
        assert alive() is None


def test_tracebacks_of_constants_do_not_grow() -> None:
    """The traceback of one object that is raised in batch after batch does not get longer for ever."""
    constant = Failure()
    chain = chain_of(batch(Slacker(throw)(constant), return_exceptions=True))
    lengths = []
    for _ in range(100):
        capture(chain)
        lengths.append(len(traceback.extract_tb(constant.__traceback__)))
    assert lengths[99] == lengths[20]


def test_tracebacks_lead_to_the_work() -> None:
    """The traceback of an exception in a list shows where it was raised, however deep."""
    q: Any = Slacker(fails)()
    for _ in range(MAX_DEPTH - 1):
        q = batch(q)
    (error,) = captured(batch(q, return_exceptions=True))
    assert traceback.extract_tb(error.__traceback__)[-1].name == "fails"


# --- reading ---------------------------------------------------------------------------------------------------------

TEXTS: list[tuple[Callable[[], Slacker], str, str]] = [
    (lambda: Slacker(echo)(Slacker(int)("1"), a=[Slacker(str)(2)]), "echo(int('1'), a=[str(2)])", "echo(...)"),
    (lambda: Slacker(echo)[Slacker(int)("1") :], "echo[int('1'):]", "echo[...]"),
    (lambda: Slacker(echo)[Slacker(int)("1"), 2], "echo[int('1'), 2]", "echo[...]"),
    (lambda: Slacker(echo)({"a": (Slacker(int),)}), "echo({'a': (int,)})", "echo(...)"),
    (lambda: Slacker(echo)(slice(Slacker(int)("1"))), "echo(slice(None, int('1'), None))", "echo(...)"),
    (
        lambda: batch(Slacker(int)("1"), Slacker(str)(2))[0],
        "batch(int('1'), str(2))[0]",
        "batch(int(...), str(...))[...]",
    ),
    (
        lambda: batch(Slacker(int), return_exceptions=True),
        "batch(int, return_exceptions=True)",
        "batch(int, return_exceptions=True)",
    ),
    (
        lambda: batch(*[Slacker(int)(n) for n in range(9)]),
        "batch(int(0), int(1), int(2), int(3), int(4), int(5), ...)",
        "batch(int(...), int(...), int(...), int(...), int(...), int(...), ...)",
    ),
    (lambda: Slacker(echo)(batch(Slacker(int)(1))), "echo(batch(int(1)))", "echo(...)"),
]


@pytest.mark.parametrize(("make", "text", "outline"), TEXTS, ids=[text for _make, text, _outline in TEXTS])
def test_reads_like_code(make: Callable[[], Slacker], text: str, outline: str) -> None:
    """A recipe with others inside reads like the code that made it; its outline has no values."""
    q = make()
    assert (repr(q), chain_of(q).outline()) == (f"<Slacker {text}>", outline)


def test_repr_of_a_batch_is_bounded() -> None:
    """However often recipes occur inside of one another, the text is short: here it would be 2 ** 30 of them."""
    doubled: Any = Slacker(int)("1")
    for _ in range(30):
        doubled = Slacker(add)(doubled, doubled)
    batched: Any = Slacker(int)("1")
    for _ in range(30):
        batched = batch(batched, batched)
    texts = [repr(doubled), repr(batched), chain_of(batched).outline()]
    assert max(map(len, texts)) < 1000
    assert min(map(len, texts)) > 100


def test_doubled_recipes_run_once() -> None:
    """And it runs 31 of them."""
    doubled: Any = Slacker(int)("1")
    for _ in range(30):
        doubled = Slacker(add)(doubled, doubled)
    assert (len(chain_of(doubled).parts()), replayed(doubled)) == (31, 2**30)


def test_reading_rebuilds_nothing() -> None:
    """To read what holds a recipe runs no code of its class."""

    @dataclass
    class Touchy:
        held: Any

        def __copy__(self) -> Any:
            raise AssertionError("copied")

        __repr__ = __reduce_ex__ = __copy__  # type: ignore[assignment]

    q, name = Slacker(echo), Touchy.__qualname__
    chain = Chain(echo, (Call((Touchy(Ref(0)), [Ref(0)]), {}),), (chain_of(q),))
    assert str(chain) == f"echo({name}(...), [echo])"


def test_a_ref_alone() -> None:
    """A step by itself does not know what a Ref refers to."""
    assert repr(Call((Ref(0),), {})) == "(Ref(...))"


# --- plain data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [make for make, _text, _outline in TEXTS], ids=[text for _make, text, _outline in TEXTS]
)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda chain: pickle.loads(pickle.dumps(chain))])
def test_copies_are_equal(make: Callable[[], Slacker], copied: Callable[[Chain], Chain]) -> None:
    """A chain with others inside can be copied and pickled, and is equal to its copy."""
    chain = chain_of(make())
    assert copied(chain) == chain


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda chain: pickle.loads(pickle.dumps(chain))])
def test_copies_run_once_what_the_original_does(copied: Callable[[Chain], Chain]) -> None:
    """What is one nested chain in two places is one in a copy as well."""
    one = Slacker(int)("1")
    chain = copied(chain_of(batch(one, Slacker(echo)(one))))
    assert chain.nested[0] is chain.nested[1].nested[0]


def test_options_are_pickled() -> None:
    """The options of a chain go along, and so does a module with something nested."""
    chain = chain_of(options(Slacker(operator).add(1, Slacker(int)("1")), timeout=2))
    assert pickle.loads(pickle.dumps(chain)) == chain


def test_parts() -> None:
    """The parts of a chain are all chains in it, each object once, none before one that it is nested in."""
    one = Slacker(int)("1")
    inner = Slacker(echo)(one)
    chain = chain_of(Slacker(echo)(inner, one))
    assert chain.parts() == [chain, chain_of(inner), chain_of(one)]


# --- any recipe ------------------------------------------------------------------------------------------------------


def recipes(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return recipes that have others, or batches, inside, and give lists."""
    return (
        st.builds(lambda held: Slacker(list)(held), st.lists(inner, max_size=3))
        | st.builds(lambda one, other: Slacker(add)(one, other), inner, inner)
        | st.builds(
            lambda one, other: Slacker({"a": [], "b": [1]}).get("a", one).__class__(add)(one, other), inner, inner
        )
        | st.builds(
            lambda items, caught: batch(*items, return_exceptions=caught), st.lists(inner, max_size=3), st.booleans()
        )
        | st.builds(lambda one: batch(one, one)[0], inner)
        | st.builds(lambda one: batch(one)[:], inner)
    )


any_recipe = st.recursive(
    st.builds(lambda items: Slacker(list)(items), st.lists(st.integers(0, 9), max_size=2))
    | st.sampled_from([Slacker(list)("shared")]),
    recipes,
    max_leaves=8,
)


@settings(deadline=None)
@given(any_recipe)
def test_any_recipe_survives_pickling(q: Any) -> None:
    """Plain pickle gives an equal chain back, which gives an equal result."""
    chain = pickle.loads(pickle.dumps(chain_of(q)))
    assert chain == chain_of(q)
    assert chain.replay() == replayed(q)


@settings(deadline=None)
@given(any_recipe)
def test_any_recipe_reads_as_code(q: Any) -> None:
    """What a recipe reads as, unless it is cut short, records one that gives the same."""
    text = str(chain_of(q))
    if "..." not in text:
        names = {"list": Slacker(list), "add": Slacker(add), "batch": batch}
        assert replayed(eval(text, names)) == replayed(q)


@settings(deadline=None)
@given(any_recipe)
def test_any_recipe_gives_the_same_through_the_wire(q: Any) -> None:
    """In place and through the wire format a recipe gives the same."""

    async def both() -> list[Any]:
        return [await options(q, worker) for worker in (DummyWorker(), DummyWorker(pickled=True))]

    here, there = asyncio.run(both())
    assert here == there == replayed(q)


def test_run_is_a_coroutine() -> None:
    """A recipe with others inside is run as any other."""
    assert asyncio.run(slacker.run(batch(Slacker(int)("1")))) == [1]
