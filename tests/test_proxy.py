"""The recording proxy: what is recorded, what never is, and what happens to whoever takes a recipe for its result."""

from __future__ import annotations

import asyncio
import collections.abc
import copy
import dataclasses
import functools
import gc
import inspect
import json
import operator
import pickle
import pprint
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
from django.db.models import F, Value

from slacker import Slacker, Worker, attr, batch, chain_of, options, run
from slacker.chain import Attr, Call, Chain, Item
from slacker.recipe import state_of
from slacker.workers import DummyWorker, ThreadWorker


class User:
    """What the recipes below start from."""

    objects: Any = None


class OtherWorker(Worker):
    async def run(self, chain: Chain) -> Any:
        raise NotImplementedError


def recipe() -> Any:
    return Slacker(User).objects.filter(name="a")


def steps(q: Slacker) -> tuple[Any, ...]:
    return chain_of(q).steps


async def coroutine_function() -> None: ...


async def asynchronous_generator() -> AsyncIterator[None]:
    yield


def generator() -> Iterator[int]:
    yield 1


class AsynchronousCallable:
    async def __call__(self) -> None: ...


class WithMethods:
    async def asynchronous(self) -> None: ...

    def blocking(self) -> None: ...


# --- recording -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "recorded"),
    [
        (lambda q: q, ()),
        (lambda q: q.objects, (Attr("objects"),)),
        (lambda q: q(), (Call((), {}),)),
        (lambda q: q(1, b=2), (Call((1,), {"b": 2}),)),
        (lambda q: q[0], (Item(0),)),
        (lambda q: q["a", 1], (Item(("a", 1)),)),
        (lambda q: q[:5], (Item(slice(None, 5)),)),
        (lambda q: q[1:2, ::3], (Item((slice(1, 2), slice(None, None, 3))),)),
        (lambda q: q.a(1)()[0](2), (Attr("a"), Call((1,), {}), Call((), {}), Item(0), Call((2,), {}))),
    ],
    ids=["nothing", "attribute", "call", "arguments", "index", "indices", "slice", "slices", "all"],
)
def test_records(record: Callable[[Any], Slacker], recorded: tuple[object, ...]) -> None:
    """Each attribute, call, index and slice is one step."""
    assert steps(record(Slacker(User))) == recorded


def test_records_and_does_nothing() -> None:
    """Recording does nothing to the object."""
    target = mock.Mock()
    Slacker(target).method(1).attribute[0]
    assert target.mock_calls == []


def test_steps_make_new_recipes() -> None:
    """A step gives a new recipe and leaves the old one as it was."""
    prefix = Slacker(User).objects
    prefix.filter(name="a")
    assert steps(prefix) == (Attr("objects"),)


def test_prefixes_are_shared() -> None:
    """Two recipes may grow from one prefix and know nothing of each other."""
    prefix = Slacker(User).objects
    first, second = prefix.filter(a=1), prefix.exclude(b=2)
    assert [str(chain_of(q))[4:] for q in (first, second)] == [".objects.filter(a=1)", ".objects.exclude(b=2)"]


def test_arguments_of_calls_in_a_row() -> None:
    """A call of a call leaves the first call's arguments alone."""
    q = Slacker(User)(1)
    q(2)
    assert steps(q) == (Call((1,), {}),)


@pytest.mark.parametrize(
    "name", ["self", "args", "kwargs", "worker", "name", "timeout", "chain", "step", "root", "obj", "key", "callback"]
)
def test_no_keyword_is_taken(name: str) -> None:
    """A keyword argument may have any name, also those of slacker's own parameters."""
    assert steps(Slacker(User)(**{name: 1})) == (Call((), {name: 1}),)


@pytest.mark.parametrize("name", ["self", "run", "attr", "options", "worker", "steps", "replay", "root", "keys", "é"])
def test_no_attribute_is_taken(name: str) -> None:
    """Any attribute is recorded, also those that are named like parts of slacker."""
    assert steps(getattr(Slacker(User), name)) == (Attr(name),)


def test_two_methods() -> None:
    """All that a recipe has of its own by a plain name is `fetch` and `proceed`."""
    assert [name for name in dir(recipe()) if not name.startswith("_")] == ["fetch", "proceed"]


def test_repr() -> None:
    """A recipe reads like the code that made it."""
    q = Slacker(User).objects.filter(is_staff=True)[:5]
    assert repr(q) == "<Slacker User.objects.filter(is_staff=True)[:5]>"


def test_chain_of() -> None:
    """`chain_of` gives what was recorded as plain data."""
    assert chain_of(Slacker(User).objects[0]) == Chain(User, (Attr("objects"), Item(0)))


def test_chain_of_is_picklable() -> None:
    """What `chain_of` gives can be pickled, where a recipe cannot."""
    assert pickle.loads(pickle.dumps(chain_of(recipe()))) == chain_of(recipe())


# --- names that are not recorded -------------------------------------------------------------------------------------

PRIVATE = ["_", "_meta", "_default_manager", "__secret", "add_done_callback", "resolve_expression"]
METHODS = ["fetch", "proceed"]
DUNDERS = ["__wrapped__", "__array__", "__len__x__", "__enter__", "____"]


@pytest.mark.parametrize("name", [*PRIVATE, *DUNDERS])
def test_never_recorded(name: str) -> None:
    """Private names, and those by which libraries tell what an object is, look missing on a recipe."""
    assert not hasattr(recipe(), name)


@pytest.mark.parametrize("name", PRIVATE)
def test_private_names_say_what_to_do(name: str) -> None:
    """The error for a private name shows how it is recorded."""
    with pytest.raises(AttributeError, match=rf"'{name}' is not recorded .*[;,] use slacker\.attr\(q, '{name}'\)"):
        getattr(recipe(), name)


async def test_asyncio_wait_of_a_recipe() -> None:
    """`asyncio.wait`, which takes Futures only, fails with an error that says how to get one."""
    with pytest.raises(AttributeError, match=r"a recipe is no Future, pass q\.fetch\(\)"):
        await asyncio.wait([recipe()])  # type: ignore[type-var]


@pytest.mark.parametrize("name", DUNDERS)
def test_dunders_say_what_to_do(name: str) -> None:
    """The error for a double underscore name, which `attr` refuses as well, shows another way."""
    with pytest.raises(AttributeError, match=rf"'{name}' is not recorded .*; wrap what needs it in a function"):
        getattr(recipe(), name)


@pytest.mark.parametrize("name", [*PRIVATE, *METHODS, "plain"])
def test_attr(name: str) -> None:
    """`attr` records any name but double underscore ones."""
    assert steps(attr(Slacker(User), name)) == (Attr(name),)


@pytest.mark.parametrize("name", DUNDERS)
def test_attr_refuses_dunders(name: str) -> None:
    """`attr` refuses double underscore names and says what to do instead."""
    with pytest.raises(ValueError, match=r"never recorded.*wrap what needs it in a function"):
        attr(recipe(), name)


@pytest.mark.parametrize("name", ["", "a.b", "1a", "a b", "a()"])
def test_attr_takes_one_identifier(name: str) -> None:
    """`attr` refuses what is no single name."""
    with pytest.raises(ValueError, match="one identifier"):
        attr(recipe(), name)


@pytest.mark.parametrize("name", [None, 1, b"name"])
def test_attr_takes_a_str(name: Any) -> None:
    """`attr` refuses names that are no str."""
    with pytest.raises(TypeError, match="must be a str, got"):
        attr(recipe(), name)


@pytest.mark.parametrize(
    "function",
    [lambda q: attr(q, "name"), options, run, chain_of, batch, lambda q: batch(recipe(), q)],
    ids=["attr", "options", "run", "chain_of", "batch", "batch of others"],
)
@pytest.mark.parametrize("given", [User, None, chain_of(recipe())], ids=["class", "None", "chain"])
def test_functions_take_recipes(function: Callable[[Any], object], given: object) -> None:
    """The functions that work on recipes refuse anything else."""
    with pytest.raises(TypeError, match=f"expected a Slacker, got {type(given).__name__}"):
        function(given)


# --- options ---------------------------------------------------------------------------------------------------------


def worker_of(q: Slacker) -> Worker | None:
    return state_of(q)[2]


def test_options_keep_the_recipe() -> None:
    """`options` gives the same steps from the same root."""
    q = recipe()
    assert chain_of(options(q, OtherWorker())) == chain_of(q)


def test_options_change_the_worker() -> None:
    """`options` gives the recipe another worker."""
    worker = OtherWorker()
    assert worker_of(options(recipe(), worker)) is worker


def test_options_leave_the_original() -> None:
    """The recipe that `options` was given keeps its worker."""
    worker = OtherWorker()
    q = Slacker(User, worker)
    options(q, OtherWorker())
    assert worker_of(q) is worker


def test_options_without_worker() -> None:
    """Without a worker `options` leaves it as it is."""
    worker = OtherWorker()
    assert worker_of(options(Slacker(User, worker))) is worker


def test_steps_keep_the_worker() -> None:
    """Every step of a recipe keeps its worker."""
    worker = OtherWorker()
    assert {worker} == {
        worker_of(q) for q in (Slacker(User, worker).a, Slacker(User, worker)(), Slacker(User, worker)[0])
    }


@pytest.mark.parametrize("make", [lambda worker: Slacker(User, worker), lambda worker: options(recipe(), worker)])
@pytest.mark.parametrize("worker", [1, "ThreadWorker", threading.Thread, object(), recipe()])
def test_worker_must_be_a_worker(make: Callable[[Any], object], worker: object) -> None:
    """Anything but a Worker or None is refused as worker."""
    with pytest.raises(TypeError, match=r"worker must be a slacker Worker such as .*, or None, got [^;]*$"):
        make(worker)


@pytest.mark.parametrize("worker", [DummyWorker, ThreadWorker])
def test_worker_class(worker: Any) -> None:
    """Whoever gives a worker's class is asked whether an instance was meant."""
    with pytest.raises(TypeError, match=rf"did you mean {worker.__name__}\(\)\?"):
        Slacker(User, worker)


# --- roots -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "root",
    [
        coroutine_function,
        asynchronous_generator,
        functools.partial(coroutine_function),
        functools.partial(functools.partial(asynchronous_generator)),
        functools.partial(AsynchronousCallable()),
        AsynchronousCallable(),
        WithMethods().asynchronous,
        WithMethods.asynchronous,
    ],
    ids=lambda root: type(root).__name__,
)
def test_asynchronous_roots(root: object) -> None:
    """Asynchronous callables are refused: there is nothing to take off the loop."""
    with pytest.raises(TypeError, match=r"is asynchronous.*await it directly"):
        Slacker(root)


def test_coroutine_as_root() -> None:
    """A coroutine is refused: it is a result to come."""
    coroutine = coroutine_function()
    with pytest.raises(TypeError, match="got an awaitable of type coroutine: await it first"):
        Slacker(coroutine)
    coroutine.close()


async def test_future_as_root() -> None:
    """A Future is refused: it is a result to come."""
    with pytest.raises(TypeError, match="got an awaitable of type Future: await it first"):
        Slacker(asyncio.get_running_loop().create_future())


def test_recipe_as_root() -> None:
    """A recipe of a recipe is refused, pointing to `options`."""
    with pytest.raises(TypeError, match=r"use slacker\.options"):
        Slacker(recipe())


@pytest.mark.parametrize(
    "root",
    [
        *[User, User(), operator, len, generator, functools.partial(generator), functools.cache(generator)],
        *[WithMethods, WithMethods(), WithMethods().blocking, AsynchronousCallable, asyncio.Future, None, "text", []],
    ],
    ids=lambda root: type(root).__name__,
)
def test_other_roots(root: object) -> None:
    """Any other object can be the root."""
    assert chain_of(Slacker(root)).root is root


class LazyObject:
    """Finds out what it is when asked, as Django's `request.user` does."""

    def evaluate(self) -> Any:
        raise AssertionError("recording evaluated a lazy object")

    __class__ = property(evaluate)  # type: ignore[assignment]
    __getattr__ = __eq__ = __hash__ = __repr__ = __str__ = __iter__ = __len__ = __bool__ = evaluate  # type: ignore


def test_lazy_objects_stay_lazy() -> None:
    """No lazy object is evaluated when it is made the root or recorded as an argument: it would query, on the loop."""
    q = Slacker(LazyObject()).filter(LazyObject(), user=[LazyObject()])[LazyObject()]
    assert repr(q) == "<Slacker LazyObject(...).filter(LazyObject(...), user=[LazyObject(...)])[LazyObject(...)]>"


# --- arguments -------------------------------------------------------------------------------------------------------


@dataclass
class Order:
    item: Any


PLACES: dict[str, Callable[[Any, Any], object]] = {
    "positional": lambda q, found: q(1, found),
    "keyword": lambda q, found: q(1, pk=found),
    "keyword of our own": lambda q, found: q(1, self=found),
    "index": lambda q, found: q[found],
    "slice": lambda q, found: q[:found],
    "in a list": lambda q, found: q([1, found]),
    "deep": lambda q, found: q(pk={"a": (1, Order([{found}]))}),
}


@pytest.mark.parametrize("place", PLACES)
def test_recipes_as_arguments(place: str) -> None:
    """A recipe among the arguments, at any depth, is nested, and a Ref stands in its place."""
    inner: Any = recipe()
    chain = chain_of(PLACES[place](Slacker(User).a, inner))  # type: ignore[arg-type]
    assert (chain.nested, "Ref(number=0)" in repr(vars_of(chain.steps[-1]))) == ((chain_of(inner),), True)


def vars_of(step: Any) -> list[Any]:
    return [getattr(step, field.name) for field in dataclasses.fields(step)]


@pytest.mark.parametrize("place", PLACES)
async def test_futures_as_arguments(place: str) -> None:
    """A Future is refused, `fetch()`'s for example, at any depth."""
    with pytest.raises(TypeError, match=r"an argument of User\.a is or holds a Future.*pass the recipe, not its fetch"):
        PLACES[place](Slacker(User).a, asyncio.get_running_loop().create_future())


def test_coroutines_as_arguments() -> None:
    """So is a coroutine."""
    coroutine = coroutine_function()
    with pytest.raises(TypeError, match=r"is or holds a coroutine, which is no result yet"):
        Slacker(User)(coroutine)
    coroutine.close()


# --- a recipe is not its result --------------------------------------------------------------------------------------


def unpack(q: Any) -> None:
    _a, _b = q


def enter(q: Any) -> None:
    with q:
        pass


def keywords(**kwargs: Any) -> None: ...


MISUSES: dict[str, tuple[Callable[[Any], object], str]] = {
    "bool(q)": (bool, "no truth value"),
    "not q": (operator.not_, "no truth value"),
    "q or r": (lambda q: q or 1, "no truth value"),
    "len(q)": (len, "no length"),
    "reversed(q)": (reversed, "no length"),
    "iter(q)": (iter, "not iterable"),
    "for x in q": (lambda q: [x.a for x in q], "not iterable"),
    "list(q)": (list, "not iterable"),
    "[*q]": (lambda q: [*q], "not iterable"),
    "f(*q)": (lambda q: print(*q), "not iterable"),
    "a, b = q": (unpack, "not iterable"),
    "sum(q)": (sum, "not iterable"),
    "next(q)": (next, "not an iterator"),
    "x in q": (lambda q: 1 in q, "'in' cannot look into it"),
    "dict(q)": (dict, "no mapping"),
    "{**q}": (lambda q: {**q}, "no mapping"),
    "f(**q)": (lambda q: keywords(**q), "no mapping"),
    "list(q.keys())": (lambda q: list(q.keys()), "no mapping"),
    "q.x = 1": (lambda q: setattr(q, "x", 1), "attributes cannot be set"),
    "q._x = 1": (lambda q: setattr(q, "_slacker_root", 1), "attributes cannot be set"),
    "del q.x": (lambda q: delattr(q, "x"), "attributes cannot be deleted"),
    "q[0] = 1": (lambda q: operator.setitem(q, 0, 1), "items cannot be set"),
    "del q[0]": (lambda q: operator.delitem(q, 0), "items cannot be deleted"),
    "f'{q}'": (lambda q: f"{q}", "no part of a text"),
    "f'{q:5}'": (lambda q: f"{q:5}", "no part of a text"),
}


@pytest.mark.parametrize("use", MISUSES)
def test_misuse(use: str) -> None:
    """To use a recipe as if it were its result raises TypeError at once."""
    misuse, reason = MISUSES[use]
    with pytest.raises(TypeError, match=reason):
        misuse(recipe())


@pytest.mark.parametrize("use", MISUSES)
def test_misuse_says_what_to_do(use: str) -> None:
    """The error names the recipe, without its values, and says to await it."""
    misuse, _reason = MISUSES[use]
    with pytest.raises(TypeError, match=r"User\.objects\.filter\(\.\.\.\).* is a recipe .* await it first"):
        misuse(recipe())


@pytest.mark.parametrize(
    "misuse",
    [
        *[enter, int, float, operator.index, operator.neg, json.dumps],
        *[lambda q: q + 1, lambda q: 1 + q, lambda q: q < 1, lambda q: q | q, lambda q: "a" + q, lambda q: "abc"[q]],
        *[lambda q: isinstance(1, q), lambda q: issubclass(q, int)],
    ],
)
def test_what_python_refuses(misuse: Callable[[Any], object]) -> None:
    """What a recipe has no method for is refused by Python itself."""
    with pytest.raises(TypeError):
        misuse(recipe())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_recipes_are_not_pickled(protocol: int) -> None:
    """To pickle a recipe is refused, pointing to the result and to `chain_of`."""
    with pytest.raises(TypeError, match=r"cannot be pickled; await it first .* slacker\.chain_of\(q\)"):
        pickle.dumps([recipe()], protocol)


# --- identity --------------------------------------------------------------------------------------------------------


def test_equality_is_identity() -> None:
    """A recipe equals itself and nothing else: what it would give is not known."""
    q = recipe()
    assert [q == q, q == recipe(), q == 5] == [True, False, False]


def test_hash_is_identity() -> None:
    """Recipes can be keys."""
    q, other = recipe(), recipe()
    assert {q: 1, other: 2}[q] == 1


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda q: copy.deepcopy([q])[0]])
def test_copies_are_the_same(copied: Callable[[Any], object]) -> None:
    """A copy of a recipe is the recipe: it cannot change."""
    q = recipe()
    assert copied(q) is q


def test_weak_references() -> None:
    """A recipe can be referred to weakly, and dies with its last user."""
    q = recipe()
    alive = weakref.ref(q)
    del q
    gc.collect()
    assert alive() is None


def test_as_class_attribute() -> None:
    """A recipe as a class attribute is no descriptor: instances have the same one."""

    class Repository:
        users = recipe()

    assert Repository().users is Repository.users


def test_as_method() -> None:
    """Called through an instance, a recipe gets the arguments and no self."""

    class Repository:
        find = Slacker(User)

    assert steps(Repository().find(1)) == (Call((1,), {}),)


# --- libraries that look closer --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question",
    [
        *[inspect.isclass, inspect.isfunction, inspect.ismethod, inspect.isbuiltin, inspect.isroutine],
        *[inspect.iscoroutine, inspect.iscoroutinefunction, inspect.isgenerator, inspect.isgeneratorfunction],
        *[inspect.isasyncgen, inspect.isasyncgenfunction, inspect.isabstract, inspect.ismodule],
        *[inspect.isdatadescriptor, inspect.ismethoddescriptor],
        *[asyncio.isfuture, asyncio.iscoroutine, dataclasses.is_dataclass],
    ],
)
def test_is_none_of_these(question: Callable[[object], bool]) -> None:
    """Whoever asks what kind of object a recipe is hears that it is no special one."""
    assert question(recipe()) is False


def test_is_no_coroutine_function() -> None:
    """asyncio, too, takes a recipe for no coroutine function."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the function's, from Python 3.14 on
        assert asyncio.iscoroutinefunction(recipe()) is False


@pytest.mark.parametrize(
    "kind",
    [
        *[str, bytes, int, list, tuple, dict, set, type, BaseException, asyncio.Future],
        *[collections.abc.Mapping, collections.abc.Sequence, collections.abc.Coroutine, collections.abc.AsyncIterator],
    ],
)
def test_is_no_instance(kind: type) -> None:
    """A recipe is an instance of no class that libraries treat specially."""
    assert not isinstance(recipe(), kind)


def test_is_awaitable() -> None:
    """A recipe is an awaitable, and says so."""
    assert inspect.isawaitable(recipe())


@pytest.mark.parametrize(
    "name",
    [
        *["__array__", "__array_interface__", "__array_struct__", "__array_ufunc__", "__dlpack__"],
        *["__fspath__", "__index__", "__html__", "__json__", "__getstate_manages_dict__", "__getinitargs__"],
        *["__wrapped__", "__signature__", "__isabstractmethod__", "__set_name__", "__get__", "__anext__"],
        *["_is_coroutine", "_is_coroutine_marker", "_is_coroutine_mark", "_asyncio_future_blocking", "_mock_methods"],
        *["_repr_html_", "_ipython_display_", "_ipython_canary_method_should_not_exist_", "_pytestfixturefunction"],
    ],
)
def test_has_none_of_these(name: str) -> None:
    """What numpy, IPython, pytest, asyncio and others look for in an object is not there."""
    assert not hasattr(recipe(), name)


def test_no_attributes() -> None:
    """A recipe has no ``__dict__``: recording stays cheap."""
    assert not hasattr(recipe(), "__dict__")


def test_signature() -> None:
    """A recipe takes any arguments."""
    assert list(inspect.signature(recipe()).parameters) == ["args", "kwargs"]


def test_unwrap() -> None:
    """A recipe wraps nothing: unwrapping it ends."""
    q = recipe()
    assert inspect.unwrap(q) is q


def test_members() -> None:
    """All members of a recipe can be listed."""
    assert {"fetch", "proceed"} <= {name for name, _member in inspect.getmembers(recipe())}


def test_wraps() -> None:
    """A recipe can be named as what a function wraps."""
    q = recipe()
    assert functools.wraps(q)(lambda: 1).__wrapped__ is q


def test_partial() -> None:
    """A partial of a recipe records its arguments when it is called."""
    assert steps(functools.partial(Slacker(User), 1)(2)) == (Call((1, 2), {}),)


@pytest.mark.parametrize(
    "mocked", [mock.create_autospec, lambda q: mock.Mock(spec=q), lambda q: mock.Mock(return_value=q)]
)
def test_mock(mocked: Callable[[Any], Any]) -> None:
    """A recipe can be mocked, and be what a mock gives."""
    assert isinstance(mocked(recipe()), (mock.Mock, Slacker))


def test_mock_patch() -> None:
    """A recipe can be patched away and comes back."""

    class Repository:
        users = recipe()

    before = Repository.users
    with mock.patch.object(Repository, "users", 1):
        pass
    assert Repository.users is before


def test_json() -> None:
    """`json.dumps` takes a recipe for nothing it could write."""
    with pytest.raises(TypeError, match="Object of type Slacker is not JSON serializable"):
        json.dumps({"a": [recipe()]})


def test_pprint() -> None:
    """A recipe is printed as it reads."""
    q = recipe()
    assert repr(q) == pprint.pformat(q) == f"{q!r}"


def test_str() -> None:
    """As text, which a template may write into a page, it shows no values of arguments."""
    q = Slacker(User).objects.filter(email="anna@example.com")
    assert str(q) == "%s" % q == "<Slacker User.objects.filter(...)>"  # noqa: UP031


async def test_asyncio_wait() -> None:
    """`asyncio.wait([q])` raises: it takes Futures only, and would wait for ever for one that never calls back."""
    with pytest.raises((AttributeError, TypeError)):
        await asyncio.wait([recipe()])


async def test_create_task() -> None:
    """`asyncio.create_task(q)` raises: it takes coroutines only; see `run`."""
    with pytest.raises(TypeError, match="a coroutine was expected"):
        await asyncio.create_task(recipe())


@pytest.mark.parametrize("combine", [lambda q: F("pages") + q, lambda q: F("pages") * q, lambda q: 1 - F("pages") - q])
def test_django_expressions(combine: Callable[[Any], Any]) -> None:
    """Django takes a recipe in an expression for a plain value, not for an expression."""
    q = recipe()
    assert Value(q).value is combine(q).rhs.value
