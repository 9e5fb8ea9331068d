"""Looking through arguments: what is found, what is put in its place, what stays; no code of the user's runs."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime as dt
import functools
import gc
import sys
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slacker import Slacker, chain_of
from slacker.chain import Call, Ref
from slacker.nesting import find, parts_of, rebuilt, replace, surveyed

from .untouchable import UNTOUCHABLE, everything_untouchable, ran


class Sought:
    """What is looked for."""


def is_sought(kind: type) -> bool:
    return kind is Sought


SOUGHT = Sought()


def found_in(value: object) -> Any:
    return find((value,), is_sought)


def put(value: Any, new: Any = "put") -> Any:
    return replace(value, is_sought, lambda found: new)


@dataclass
class Order:
    item: Any = None
    total: Any = field(init=False)
    latest: ClassVar[Any] = SOUGHT


@dataclass(frozen=True)
class FrozenOrder:
    item: Any = None
    total: Any = field(default=0, init=False)


@dataclass(slots=True)
class SlottedOrder:
    item: Any = None
    total: Any = field(init=False)


@dataclass(frozen=True, slots=True)
class FrozenSlottedOrder:
    item: Any = None


class LargeOrder(Order):
    """A dataclass's subclass with an attribute that is no field."""

    def __init__(self, item: Any) -> None:
        super().__init__(item)
        self.note = "large"


@dataclass(eq=False)
class Failure(Exception):
    """A dataclass that is an exception besides."""

    item: Any = None


class Pair(NamedTuple):
    first: Any
    second: Any = 2


class Rows(list[Any]):
    """A list that would fetch its items when read."""

    __iter__ = __len__ = __getitem__ = ran  # type: ignore[assignment]


class Table(dict[Any, Any]):
    __iter__ = keys = values = items = ran  # type: ignore[assignment]


class Shelf(list[Any]):
    """A list with something of its own."""

    label = ""


class Tags(set[Any]):
    """A set of a class of its own."""


class LazyOrder(Order):
    """An instance that would fetch what it lacks."""

    def __getattr__(self, name: str) -> Any:
        ran()


def deep(depth: int, innermost: object) -> object:
    return functools.reduce(lambda inner, _: [inner], range(depth), innermost)


def self_containing(*others: object) -> list[Any]:
    held: list[Any] = [*others]
    held.append(held)
    return held


def mutual(*others: object) -> dict[str, Any]:
    held: dict[str, Any] = {"others": others}
    held["order"] = Order(held)
    return held


# --- what is found ---------------------------------------------------------------------------------------------------

HOLDING: dict[str, Callable[[Any], Any]] = {
    "nothing else": lambda held: held,
    "list": lambda held: [1, held],
    "tuple": lambda held: (held, 1),
    "dict value": lambda held: {1: held},
    "dict key": lambda held: {held: 1},
    "set": lambda held: {held},
    "frozenset": lambda held: frozenset({held}),
    "slice start": lambda held: slice(held, None),
    "slice stop": lambda held: slice(held),
    "slice step": lambda held: slice(None, None, held),
    "dataclass": Order,
    "frozen dataclass": FrozenOrder,
    "dataclass with slots": SlottedOrder,
    "frozen dataclass with slots": FrozenSlottedOrder,
    "exception as a dataclass": Failure,
    "dataclass of no fields at first": lambda held: dataclasses.make_dataclass("Made", [("a", Any)])(held),
    "named tuple": Pair,
    "subclass of list": lambda held: Shelf([held]),
    "subclass of set": lambda held: Tags([held]),
    "ordered dict": lambda held: collections.OrderedDict(b=1, a=held),
    "default dict": lambda held: collections.defaultdict(list, a=held),
    "counter": lambda held: collections.Counter({"a": held}),
    "deque": lambda held: collections.deque([held, 2], maxlen=2),
    "mixture": lambda held: [1, "a", None, [2, {"b": (3, held)}], b"c"],
    "second of a kind": lambda held: [Order(1), Order(held)],
    "depth": lambda held: deep(50, held),
}

every_holder = pytest.mark.parametrize("where", HOLDING)


@every_holder
def test_finds(where: str) -> None:
    """What is sought is found in every kind of container, at any depth."""
    assert found_in(HOLDING[where](SOUGHT)) is SOUGHT


@pytest.mark.parametrize(
    "held",
    [Rows([SOUGHT]), Table({1: SOUGHT}), Table({SOUGHT: 1}), LazyOrder(SOUGHT)],
    ids=lambda value: type(value).__name__,
)
def test_finds_past_what_a_class_makes_of_reading(held: object) -> None:
    """It is found without any code of the class that holds it."""
    assert found_in(held) is SOUGHT


def test_finds_however_deep() -> None:
    """To look has no limit of depth."""
    assert found_in(deep(100_000, SOUGHT)) is SOUGHT


WITHOUT: dict[str, object] = {
    "plain values": [1, "a", None, [2, {"b": (3,)}]],
    "empty containers": ([], (), {}, set(), frozenset(), slice(None)),
    "unset fields": [Order(), SlottedOrder()],
    "a class attribute": Order(),
    "classes": [Sought, Order],
    "cyclic containers": [self_containing(), (self_containing(), {1: self_containing()}), mutual()],
    "other types": [types.SimpleNamespace(a=SOUGHT), collections.ChainMap({1: SOUGHT}), iter([SOUGHT])],
}


@pytest.mark.parametrize("what", WITHOUT)
def test_finds_nothing(what: str) -> None:
    """Nothing is found where there is none, and other objects are not looked into: that may never end."""
    assert found_in(WITHOUT[what]) is None


@everything_untouchable
def test_looking_runs_nothing(where: str) -> None:
    """No code of a value's own runs when it is looked through: it may be a query."""
    assert found_in(UNTOUCHABLE[where]) is None


@everything_untouchable
def test_recording_runs_nothing(where: str) -> None:
    """Nor does any when it is recorded as an argument, and it stays the very same object."""
    value = UNTOUCHABLE[where]
    q = Slacker(print)(value, key=[value])[value][:value]
    call = chain_of(q).steps[0]
    assert isinstance(call, Call)
    assert call.args[0] is value


def test_cycles_end() -> None:
    """In containers that contain themselves what is sought is found."""
    assert [found_in(self_containing(SOUGHT)), found_in(mutual(SOUGHT))] == [SOUGHT, SOUGHT]


# --- what is put in its place ----------------------------------------------------------------------------------------

PUT: dict[str, object] = {
    "nothing else": "put",
    "list": [1, "put"],
    "tuple": ("put", 1),
    "dict value": {1: "put"},
    "dict key": {"put": 1},
    "set": {"put"},
    "frozenset": frozenset({"put"}),
    "slice start": slice("put", None),
    "slice stop": slice("put"),
    "slice step": slice(None, None, "put"),
    "frozen dataclass": FrozenOrder("put"),
    "frozen dataclass with slots": FrozenSlottedOrder("put"),
    "named tuple": Pair("put"),
    "subclass of list": Shelf(["put"]),
    "subclass of set": Tags(["put"]),
    "ordered dict": collections.OrderedDict(b=1, a="put"),
    "default dict": collections.defaultdict(list, a="put"),
    "counter": collections.Counter({"a": "put"}),  # type: ignore[dict-item]
    "deque": collections.deque(["put", 2], maxlen=2),
    "mixture": [1, "a", None, [2, {"b": (3, "put")}], b"c"],
    "depth": deep(50, "put"),
}


@pytest.mark.parametrize("where", PUT)
def test_puts(where: str) -> None:
    """The like of what held it is of the same class, and holds what was put in its place."""
    new = put(HOLDING[where](SOUGHT))
    assert (type(new), new) == (type(PUT[where]), PUT[where])


def test_a_deque_stays_as_long() -> None:
    """The like of a bounded deque is bounded as well."""
    assert put(collections.deque([SOUGHT], maxlen=3)).maxlen == 3


@every_holder
def test_leaves_the_original(where: str) -> None:
    """What held it holds it still."""
    held = HOLDING[where](SOUGHT)
    put(held)
    assert found_in(held) is SOUGHT


@pytest.mark.parametrize("kind", [Order, SlottedOrder, Failure, LargeOrder])
def test_puts_into_fields(kind: Callable[[Any], Any]) -> None:
    """A field gets what is put in its place."""
    assert put(kind(SOUGHT)).item == "put"


@pytest.mark.parametrize("kind", [Order, SlottedOrder])
def test_fields_that_are_not_set_stay_so(kind: Callable[[Any], Any]) -> None:
    """A field that was not set is not set in the like either."""
    assert not hasattr(put(kind(SOUGHT)), "total")


def test_attributes_that_are_no_fields_stay() -> None:
    """What a dataclass or a list has besides its fields or items goes along."""
    shelf = Shelf([SOUGHT])
    shelf.label = "new"
    assert (put(shelf).label, put(LargeOrder(SOUGHT)).note) == ("new", "large")


def test_what_a_default_dict_makes_stays() -> None:
    """A defaultdict goes on making what it made."""
    assert put(collections.defaultdict(list, a=SOUGHT))["b"] == []


def test_order_stays() -> None:
    """A dict keeps its order."""
    assert list(put(collections.OrderedDict([("b", SOUGHT), ("a", 1)]))) == ["b", "a"]


def test_what_holds_none_stays() -> None:
    """A container without what is sought is the very same object afterwards."""
    inner: dict[str, Any] = {"a": [1]}
    value = [SOUGHT, inner]
    assert put(value)[1] is inner
    assert put(inner) is inner


def test_what_is_shared_stays_shared() -> None:
    """A container that is held twice is one object afterwards, as it was before."""
    inner = [SOUGHT]
    first, second = put([inner, inner])
    assert first is second


def test_many_shared_containers() -> None:
    """Each container is looked through once, in however many places it is: 2 ** 60 here."""
    value: object = [SOUGHT]
    for _ in range(60):
        value = [value, value]
    puts: list[Any] = []
    replace(value, is_sought, puts.append)
    assert puts == [SOUGHT]


@pytest.mark.parametrize(
    "cyclic", [self_containing(SOUGHT), mutual(SOUGHT), [self_containing(Order(SOUGHT))]], ids=type
)
def test_a_cycle_that_holds_it(cyclic: object) -> None:
    """What contains itself and what is sought cannot be rebuilt, and is refused by name."""
    with pytest.raises(TypeError, match=r"a (list|dict|Order) that holds a recipe contains itself"):
        put(cyclic)


def test_a_cycle_that_does_not_hold_it() -> None:
    """What contains itself may stand beside what is sought."""
    cycle = self_containing()
    assert put([SOUGHT, cycle])[1] is cycle


# --- types of one's own ----------------------------------------------------------------------------------------------


class Basket:
    """A type that knows nothing of slacker."""

    def __init__(self, *fruits: object) -> None:
        self.fruits = list(fruits)


@pytest.fixture
def _registered() -> Iterable[None]:
    """Register Basket, for one test: single dispatch has no way back but the cache and the registry's own dict."""
    parts_of.register(Basket, lambda basket: (basket.fruits,))
    rebuilt.register(Basket, lambda basket, replace: Basket(*map(replace, basket.fruits)))
    yield
    for function in (parts_of, rebuilt):
        function.register(Basket, function.dispatch(object))


@pytest.mark.usefixtures("_registered")
def test_registered_types() -> None:
    """A type that is registered is looked through, and rebuilt, as its functions say."""
    q = Slacker(len)
    recorded = chain_of(Slacker(print)([Basket("apple", q("pear"))])).steps[0]
    assert isinstance(recorded, Call)
    assert recorded.args[0][0].fruits == ["apple", Ref(0)]


# --- recipes where they are not replayed -----------------------------------------------------------------------------


class Filter:
    """Somebody's own class, which nobody registered."""

    def __init__(self, value: object) -> None:
        self.value = value


class SlottedFilter:
    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


recipe = Slacker(len)("abc")


@pytest.mark.parametrize(
    "argument",
    [Filter(recipe), [Filter(1), Filter(recipe)], {"a": (Filter(recipe),)}, types.SimpleNamespace(a=recipe)],
    ids=["itself", "second of a list", "deep", "namespace"],
)
def test_hidden_recipes(argument: object) -> None:
    """A recipe that is an attribute of what is not looked through is refused, naming the holder and what to do."""
    with pytest.raises(TypeError, match=r"an argument of print is or holds a \w+, .*pass the recipe as an argument of"):
        Slacker(print)(argument)


@pytest.mark.parametrize("where", ["call", "keyword", "key"])
def test_hidden_recipes_anywhere(where: str) -> None:
    """It is so wherever an argument may stand."""
    record = {
        "call": lambda q: q(1, Filter(recipe)),
        "keyword": lambda q: q(pk=Filter(recipe)),
        "key": lambda q: q[Filter(recipe)],
    }
    with pytest.raises(TypeError, match="which has a recipe as an attribute"):
        record[where](Slacker(print))


def function_with_a_recipe() -> None: ...


function_with_a_recipe.q = recipe  # type: ignore[attr-defined]


class ClassWithARecipe:
    q = recipe


@pytest.mark.parametrize(
    "argument",
    [ClassWithARecipe, function_with_a_recipe, sys.modules[__name__], ClassWithARecipe(), Filter(Filter(recipe))],
    ids=["class", "function", "module", "instance of the class", "one level deeper"],
)
def test_where_recipes_may_be(argument: object) -> None:
    """What goes by its name may have recipes, and no object is looked into for more than its own attributes."""
    assert chain_of(Slacker(print)(argument)).nested == ()


# --- what it costs ---------------------------------------------------------------------------------------------------


def calls_during(function: Callable[..., object], *args: object) -> int:
    """Return how many Python functions are called."""
    calls = 0

    def count(frame: types.FrameType, event: str, arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    gc.collect()
    gc.disable()  # what it frees calls back
    sys.setprofile(count)
    try:
        function(*args)
    finally:
        sys.setprofile(before)
        gc.enable()
    return calls


@pytest.mark.parametrize(
    "item",
    [1, "a", dt.date(2011, 2, 3), object(), Filter(1), SlottedFilter(1)],
    ids=["int", "str", "date", "object", "object with attributes", "object with slots"],
)
def test_long_lists_cost_no_more_calls(item: object) -> None:
    """To record a list of 10 000 takes as many Python calls as one of two: it does not stall the loop."""
    record = Slacker(print)
    record([item])  # the first of a type is looked up
    assert calls_during(record, [item] * 10_000) == calls_during(record, [item] * 2)


def test_many_different_objects_cost_no_more_calls() -> None:
    """It is so for different objects of one type, each with attributes, as for one."""
    record = Slacker(print)
    record([Filter(1)])
    assert calls_during(record, [Filter(n) for n in range(10_000)]) == calls_during(record, [Filter(1)])


def test_long_rows_of_ints_are_not_looked_at_one_by_one() -> None:
    """Of 100 000 ints what there is to look at are one list and no type."""
    assert [kind for kind, _part, _opens in surveyed(([0] * 100_000,))] == [list]


# --- any value -------------------------------------------------------------------------------------------------------

leaves = st.none() | st.integers() | st.text(max_size=3) | st.just(SOUGHT)
containers = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
        | st.builds(FrozenOrder, inner)
        | st.builds(Pair, inner, inner)
        | st.builds(slice, inner, inner)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(containers)
def test_putting_the_same_gives_an_equal(value: Any) -> None:
    """To put what is sought in its own place gives an equal of any value; none is left if something else is put."""
    assert replace(value, is_sought, lambda found: found) == value
    assert found_in(put(value)) is None


@settings(deadline=None)
@given(containers)
def test_counts_what_is_put(value: Any) -> None:
    """What is sought is put in exactly the places where `repr` shows it."""
    puts: list[Any] = []
    replace(value, is_sought, puts.append)
    unique = len(puts)
    assert (unique == 0) == (found_in(value) is None)
    assert unique <= repr(value).count("Sought")


def test_awaitables_are_found() -> None:
    """What is awaited first is found by the type's own ``__await__``, not by a class among the values."""
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    assert find(([asyncio.Future, future],), lambda kind: hasattr(kind, "__await__")) is future
