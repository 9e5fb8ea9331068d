"""Chains: plain data that replays, travels, and can be read without running anything."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import keyword
import operator
import pathlib
import pickle
import string
import types
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slacker import Slacker, chain_of
from slacker.chain import Attr, Call, Chain, Item, Replay, Step
from slacker.outcome import Error

from .untouchable import UNTOUCHABLE, everything_untouchable


@dataclass
class Shelf:
    """What the chains below start from."""

    books: list[str] = field(default_factory=lambda: ["Emma", "Ulysses", "Walden"])

    @classmethod
    def of(cls, *books: str) -> Shelf:
        return cls(list(books))

    def first(self, count: int = 1, *, upper: bool = False) -> list[str]:
        return [book.upper() if upper else book for book in self.books[:count]]


def shelf(*books: str) -> Shelf:
    return Shelf.of(*books)


def call(*args: Any, **kwargs: Any) -> Call:
    return Call(args, kwargs)


def chain(*steps: Step, root: Any = Shelf) -> Chain:
    return Chain(root, steps)


# --- plain data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: Attr("name"),
        lambda: call(1, a=2),
        lambda: Item(slice(1, 2)),
        lambda: chain(call(), Attr("books"), Item(0)),
        lambda: Chain(Shelf),
    ],
)
def test_equal_parts_equal_whole(make: Callable[[], Any]) -> None:
    """Steps and chains made of equal parts are equal."""
    assert make() == make()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Attr("a"), Attr("b")),
        (call(1), call(2)),
        (call(1), call(a=1)),
        (Item(1), Item(2)),
        (Item("a"), Attr("a")),
        (chain(Attr("a")), chain(Attr("a"), root=shelf)),
        (chain(Attr("a")), chain(Attr("a"), Attr("b"))),
        (chain(Attr("a")), (Shelf, (Attr("a"),))),
    ],
)
def test_unequal_parts(one: object, other: object) -> None:
    """Steps and chains that differ in kind or in any part are not equal."""
    assert one != other


@pytest.mark.parametrize("value", [Attr("a"), Item(0), chain(Attr("a"), Item(0))])
def test_hashable(value: object) -> None:
    """Steps and chains of hashable parts can be keys."""
    assert {value: 1}[value] == 1


@pytest.mark.parametrize("value", [call(), Item([]), chain(call()), Chain([])])
def test_not_hashable(value: object) -> None:
    """Calls hold a dict, so like whatever else holds something mutable they cannot be keys."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(value)


@pytest.mark.parametrize("value", [Attr("a"), call(), Item(0), Chain(Shelf)])
def test_frozen(value: Any) -> None:
    """Steps and chains cannot be changed."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, "other")


@pytest.mark.parametrize("value", [Attr("a"), call(), Item(0), Chain(Shelf)])
def test_nothing_added(value: Any) -> None:
    """Steps and chains have no room for more attributes."""
    assert not hasattr(value, "__dict__")


# --- replay ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "result"),
    [
        ((), Shelf),
        ((call(["Emma"]),), Shelf(["Emma"])),
        ((call(), Attr("books")), ["Emma", "Ulysses", "Walden"]),
        ((call(), Attr("books"), Item(1)), "Ulysses"),
        ((call(), Attr("books"), Item(slice(None, 2))), ["Emma", "Ulysses"]),
        ((call(), Attr("books"), Item(slice(None, None, -2)), Item(0)), "Walden"),
        ((call(), Attr("first"), call(2, upper=True)), ["EMMA", "ULYSSES"]),
        ((Attr("of"), call("Emma"), Attr("first"), call()), ["Emma"]),
    ],
    ids=str,
)
def test_replay(steps: tuple[Step, ...], result: object) -> None:
    """Replaying takes every step in turn and returns what the last one gives."""
    assert chain(*steps).replay() == result


def test_replay_on_another_base() -> None:
    """The steps can be taken from another object than the root."""
    assert chain(Attr("books"), Item(0), root=Shelf()).replay(Shelf(["Persuasion"])) == "Persuasion"


def test_replay_again() -> None:
    """A chain can be replayed as often as one likes; each time the steps are taken anew."""
    counted = chain(Attr("__next__"), call(), root=iter(range(9)))
    assert [counted.replay(), counted.replay()] == [0, 1]


def test_replay_raises_what_a_step_raises() -> None:
    """An exception of a step leaves replay as it is, with nothing added."""
    error = LookupError("no such shelf")

    def fail() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        chain(call(), root=fail).replay()
    assert (caught.value, hasattr(error, "__notes__")) == (error, False)


@pytest.mark.parametrize(
    ("steps", "reached"),
    [((), 0), ((call(),), 1), ((call(), Attr("lost"), call()), 2), ((call(), Attr("books"), Item(9), Item(0)), 3)],
)
def test_replay_knows_its_step(steps: tuple[Step, ...], reached: int) -> None:
    """A Replay counts the steps begun, so that after a failure it tells the one that failed."""
    replay, error = Replay(chain(*steps)), LookupError()
    with contextlib.suppress(AttributeError, IndexError):
        replay.run()
    assert replay.failed(error) == Error(error, reached)


@pytest.mark.parametrize(
    ("number", "label"), [(1, "Shelf"), (2, ".books"), (3, "[...]"), (4, ".count"), (5, ".count"), (6, "()")]
)
def test_label(number: int, label: str) -> None:
    """A step is called by its name, a call by the name of what it calls, anything else by its form."""
    steps = (call(["Emma"]), Attr("books"), Item(0), Attr("count"), call("m"), call())
    assert chain(*steps).label(number) == label


# --- pickling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "root",
    [Shelf, shelf, operator, Shelf(), functools.partial(shelf, "Emma"), Shelf.of, len, Shelf().first],
    ids=["class", "function", "module", "instance", "partial", "bound classmethod", "builtin", "bound method"],
)
def test_plain_pickle_of_roots(root: object) -> None:
    """Plain pickle carries a chain, whatever kind of object it starts from."""
    made = Chain(root, (Attr("first"), call(1, upper=True), Item(slice(1))))
    loaded = pickle.loads(pickle.dumps(made))
    assert (type(loaded.root), loaded.steps, str(loaded)) == (type(root), made.steps, str(made))


def test_modules_travel_by_name() -> None:
    """A module as root arrives as the module of that name."""
    assert pickle.loads(pickle.dumps(Chain(string))).root is string


def test_pickled_chain_replays() -> None:
    """A chain that crossed a process border replays as before."""
    loaded = pickle.loads(pickle.dumps(chain(Attr("of"), call("Emma", "Walden"), Attr("books"), Item(slice(1, None)))))
    assert loaded.replay() == ["Walden"]


# --- reading ---------------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int


def self_containing() -> list[Any]:
    held: list[Any] = []
    held.append(held)
    return held


@pytest.mark.parametrize(
    ("root", "text"),
    [
        (Shelf, "Shelf"),
        (shelf, "shelf"),
        (operator, "operator"),
        (Shelf(), "Shelf(...)"),
        (Shelf.of, "Shelf.of"),
        (Shelf().first, "Shelf.first"),
        (len, "len"),
        (functools.partial(shelf), "partial(...)"),
        (functools.cache(shelf), "shelf"),
        ("a password", "str(...)"),
        (None, "NoneType(...)"),
        (types.MethodType(functools.partial(shelf), 1), "method(...)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "root",
)
def test_roots_read_by_name(root: object, text: str) -> None:
    """A chain begins with its root's qualified name, or with its type for a root that has none."""
    assert str(Chain(root)) == text


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Attr("objects"), ".objects"),
        (call(), "()"),
        (call(1, "b", c=None), "(1, 'b', c=None)"),
        (call(True, 1.5, 2j, b"x", ...), "(True, 1.5, 2j, b'x', Ellipsis)"),
        (call([1, (2,), {3: {4}}], ()), "([1, (2,), {3: {4}}], ())"),
        (call(frozenset({1}), frozenset(), set(), {}, []), "(frozenset({1}), frozenset(), set(), {}, [])"),
        (call({"b": 1, "a": 2}), "({'b': 1, 'a': 2})"),
        (call({3, 1, 2}), "({1, 2, 3})"),
        (call(slice(1, None)), "(slice(1, None, None))"),
        (call(range(3)), "(range(0, 3))"),
        (call(bytearray(b"x")), "(bytearray(b'x'))"),
        (call([1, 2, 3, 4, 5, 6, 7]), "([1, 2, 3, 4, 5, 6, ...])"),
        (call([[[[[1]]]]]), "([[[[[...]]]]])"),
        (call(self_containing()), "([[[[[...]]]]])"),
        (call(("a" * 1000,)), "(('" + "a" * 79 + "...,))"),
        (call(b"a" * 81), "(b'" + "a" * 78 + "...)"),
        (call("a" * 80), "('" + "a" * 80 + "')"),
        (call(10**5000), "(int(...))"),
        (call(Colour.RED, Access.READ | Access.WRITE), "(Colour.RED, Access.READ|WRITE)"),
        (call(Access(0)), "(Access(...))"),
        (call(dt.date(2011, 2, 3)), "(datetime.date(2011, 2, 3))"),
        (call(dt.time(1, tzinfo=dt.UTC)), "(datetime.time(1, 0, tzinfo=datetime.timezone.utc))"),
        (call(decimal.Decimal("1.5"), Fraction(1, 2)), "(Decimal('1.5'), Fraction(1, 2))"),
        (call(uuid.UUID(int=1)), "(UUID('00000000-0000-0000-0000-000000000001'))"),
        (call(pathlib.PurePosixPath("a")), "(PurePosixPath('a'))"),
        (call(Shelf, shelf, len, Shelf.of, operator), "(Shelf, shelf, len, Shelf.of, operator)"),
        (call(Shelf(), Point(1), object()), "(Shelf(...), Point(...), object(...))"),
        (call(Chain(Shelf)), "(Chain(...))"),
        (Item(0), "[0]"),
        (Item("a"), "['a']"),
        (Item(slice(None)), "[:]"),
        (Item(slice(1, None)), "[1:]"),
        (Item(slice(None, 5)), "[:5]"),
        (Item(slice(None, None, -1)), "[::-1]"),
        (Item(slice(1, 9, 2)), "[1:9:2]"),
        (Item((slice(1, 2), 3)), "[1:2, 3]"),
        (Item((1,)), "[1,]"),
        (Item(()), "[()]"),
        (Item(((1, 2), 3)), "[(1, 2), 3]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "step",
)
def test_steps_read_like_code(step: Step, text: str) -> None:
    """A step reads like the code that recorded it, long and deep values cut short, foreign objects by their type."""
    assert repr(step) == text


def test_chains_read_like_code() -> None:
    """The str of a chain is the code that recorded it."""
    made = chain(call(), Attr("first"), call(2, upper=True), Item(slice(None, 5)))
    assert str(made) == "Shelf().first(2, upper=True)[:5]"


def test_repr_says_chain() -> None:
    """The repr of a chain puts that code in brackets."""
    assert repr(chain(Attr("of"), call("Emma"))) == "<Chain Shelf.of('Emma')>"


@pytest.mark.parametrize(
    ("steps", "outline"),
    [
        ((), "Shelf"),
        ((call(),), "Shelf()"),
        ((call(["Emma"]), Attr("books"), Item(0)), "Shelf(...).books[...]"),
        ((call(books=[]), Attr("books"), Item(slice(1))), "Shelf(...).books[...]"),
    ],
)
def test_outline(steps: tuple[Step, ...], outline: str) -> None:
    """An outline keeps the names and leaves out the values."""
    assert chain(*steps).outline() == outline


@pytest.mark.parametrize(
    "made",
    [
        Chain("hunter2"),
        Chain(Shelf(["hunter2"])),
        Chain(functools.partial(shelf, "hunter2")),
        chain(call("hunter2", password="hunter2", a={"hunter2": "hunter2"})),
        chain(Item("hunter2"), Item(slice("hunter2", "hunter2"))),
    ],
)
def test_outline_has_no_values(made: Chain) -> None:
    """Outlines go to logs, and a value may be a password: none is in them."""
    assert "hunter2" not in made.outline()


# --- reading runs nothing --------------------------------------------------------------------------------------------


@everything_untouchable
def test_reading_an_argument_runs_nothing(where: str) -> None:
    """No method of an argument's own runs when a chain is read, wherever the argument hides: it may be a query."""
    value = UNTOUCHABLE[where]
    read = chain(call(value, key=value), Item(value), Item((value, slice(value))))
    assert all(isinstance(text, str) for text in (str(read), repr(read), read.outline()))


@everything_untouchable
def test_reading_a_root_runs_nothing(where: str) -> None:
    """No method of a root's own runs when a chain is read: Django's `request.user` is such a root."""
    root = Chain(UNTOUCHABLE[where])
    assert str(root) == root.outline()


# --- any chain -------------------------------------------------------------------------------------------------------

names = st.text(string.ascii_letters, min_size=1, max_size=8).filter(
    lambda name: not keyword.iskeyword(name) and name not in {"fetch", "proceed"}
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.binary(max_size=8),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.sets(st.integers(), max_size=3),
        st.builds(slice, leaves, leaves, leaves),
    ),
    max_leaves=4,
)
slices = st.builds(slice, leaves, leaves, leaves)
steps = st.one_of(
    names.map(Attr),
    st.builds(Call, st.lists(values, max_size=3).map(tuple), st.dictionaries(names, values, max_size=3)),
    st.builds(Item, values | slices | st.lists(values | slices, max_size=3).map(tuple)),
)


@settings(deadline=None)
@given(st.lists(steps, max_size=6))
def test_any_chain_reads_as_code(taken: list[Step]) -> None:
    """What a chain reads as, run on a Slacker, records an equal chain."""
    made = chain(*taken)
    assert chain_of(eval(str(made), {"Shelf": Slacker(Shelf)})) == made


@settings(deadline=None)
@given(st.lists(steps, max_size=6))
def test_any_chain_survives_pickling(taken: list[Step]) -> None:
    """Plain pickle gives an equal chain back."""
    assert pickle.loads(pickle.dumps(chain(*taken))) == chain(*taken)


indices = st.none() | st.integers(-5, 5)
operations = st.one_of(
    st.just(lambda text: text.upper()),
    st.builds(lambda a, b, c: lambda text: text[a:b:c], indices, indices, st.sampled_from([None, 1, -1, 2])),
    st.builds(lambda a, b: lambda text: text.replace(a, b), st.text(max_size=2), st.text(max_size=2)),
    st.builds(lambda separator: lambda text: text.partition(separator)[0], st.text(min_size=1, max_size=2)),
    st.builds(lambda part: lambda text: text.join(part), st.lists(st.text(max_size=2), max_size=3)),
)


@settings(deadline=None)
@given(st.text(max_size=20), st.lists(operations, max_size=6))
def test_recording_and_replaying_is_doing(text: str, done: list[Callable[[Any], Any]]) -> None:
    """Whatever is done to a Slacker of an object gives, replayed, what doing it to the object gives."""
    direct = functools.reduce(lambda target, operation: operation(target), done, text)
    recorded: Any = functools.reduce(lambda target, operation: operation(target), done, Slacker(text))
    assert chain_of(recorded).replay() == direct
