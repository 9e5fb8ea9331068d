"""Rows come out of their packing as they went in, whatever they are; what is unusual is left to Django's pickling."""

from __future__ import annotations

import datetime as dt
import gc
import os
import pickle
import subprocess
import sys
import uuid
import zoneinfo
from collections import namedtuple
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import django
import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.db.models import Count, F, Model, Prefetch, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from slacker.django_backend.rows import LEAST, Packed, pack
from tests.django.alike import assert_alike
from tests.django.shapes import models
from tests.django.shapes.models import (
    Category,
    Document,
    Item,
    ItemProxy,
    Label,
    Owner,
    Place,
    Price,
    Restaurant,
    Seat,
    WithDescriptor,
    WithSetattr,
)

CHECKOUT = Path(__file__).parents[2]
MANY = LEAST + 2


def send(value: Any) -> Any:
    """Return what the other side gets of `value`; without the database, which is not there."""
    data = pickle.dumps(pack(value), 5)
    with connection.execute_wrapper(_refuse):
        return pickle.loads(data)


def _refuse(*_: object) -> None:
    raise AssertionError("the database was queried")


def categories(model: type[Model] = Category, **attributes: Any) -> list[Any]:
    """Return unsaved rows."""
    return [model(name=f"name {i}", **attributes) for i in range(MANY)]


@pytest.fixture
def shapes(database: dict[str, Any]) -> None:
    """Fill the tables: every second item has all its fields filled, of the others most are empty."""
    root = Category.objects.create(name="root")
    nodes = [Category.objects.create(name=f"node {i}", parent=root) for i in range(MANY)]
    ContentType.objects.clear_cache()  # of those that went with the last test
    Label.objects.bulk_create(Label(text=f"of {node}", target=node) for node in nodes)
    Label.objects.bulk_create(
        Label(text=f"of {node}", target=User.objects.create(username=node.name)) for node in nodes
    )
    moment = dt.datetime(2024, 2, 29, 12, 30, 1, 123456, tzinfo=dt.UTC)
    items = [
        Item(
            title=f"full {i}",
            category=nodes[i // 3],
            text="Blåbærsyltetøy \N{SNOWMAN}",
            count=2**62 + i,
            cost=Decimal(i) / 4,
            weight=i / 3,
            done=i % 2 == 0,
            day=moment.date() + dt.timedelta(i),
            moment=moment - dt.timedelta(seconds=i * 1.000001),
            hour=dt.time(i % 24, 30),
            length=dt.timedelta(i, 3, 7),
            key=uuid.UUID(int=i),
            data={"a": [1, None, {"b": i / 7}], "c": "d"},
            blob=bytes([i]),
            address="::1",
        )
        for i in range(MANY)
    ]
    Item.objects.bulk_create(item for i in range(MANY) for item in (items[i], Item(title=f"empty {i}")))
    for i in range(MANY):
        Owner.objects.create(name=f"owner {i}", place=Restaurant.objects.create(name=f"place {i}", stars=i % 3))
    Seat.objects.bulk_create(Seat(row="A", number=i) for i in range(MANY))
    Document.objects.bulk_create(Document(file=f"{i}.txt") for i in range(MANY))
    Price.objects.bulk_create(Price(amount=models.Money(i)) for i in range(MANY))


# --- what is packed --------------------------------------------------------------------------------------------------


def _looked_at(rows: Any) -> list[Any]:
    """Have the foreign keys of rows read: what they lead to is kept in each."""
    rows = list(rows)
    for row in rows:
        row.category
    return rows


QUERIES: dict[str, Callable[[], Any]] = {
    "all": Item.objects.all,
    "users": User.objects.all,
    "full": lambda: Item.objects.filter(title__startswith="full"),
    "only": lambda: Item.objects.only("title", "moment"),
    "defer": lambda: Item.objects.defer("text", "data"),
    "annotate": lambda: Item.objects.annotate(n=Count("friends"), twice=F("count") / 2, v=Value("v")),
    "annotate oddly": lambda: Item.objects.annotate(naïve=Value(1), _underlined=Value(2)),
    "extra": lambda: Item.objects.extra(select={"one": "1"}),
    "raw": lambda: Item.objects.raw("SELECT id, title, 7 AS seven FROM shapes_item"),
    "proxy": ItemProxy.objects.all,
    "multi-table": Restaurant.objects.all,
    "multi-table, parents": lambda: Restaurant.objects.select_related("place_ptr"),
    "composite key": Seat.objects.all,
    "file, not looked at": Document.objects.all,
    "select_related": lambda: Item.objects.filter(category__isnull=False).select_related("category"),
    "select_related of some": lambda: Item.objects.select_related("category"),
    "select_related, only": lambda: Item.objects.select_related("category").only("title", "category__name"),
    "select_related of none": lambda: Item.objects.filter(category=None).select_related("category"),
    "select_related, two steps": lambda: Item.objects.filter(category__isnull=False).select_related("category__parent"),
    "select_related to the same model": lambda: Category.objects.exclude(parent=None).select_related("parent"),
    "select_related one to one": lambda: Owner.objects.select_related("place"),
    "select_related one to one, backwards": lambda: Place.objects.select_related("owner", "restaurant"),
    "foreign keys followed": lambda: _looked_at(Item.objects.filter(title__startswith="full")),
    "prefetched, one each": lambda: Item.objects.prefetch_related("category__parent"),
    "prefetched, generic": lambda: Label.objects.prefetch_related("target"),
    "prefetched to_attr": lambda: Category.objects.prefetch_related(Prefetch("items", to_attr="found")),
    "prefetched to_attr, deep": lambda: Category.objects.prefetch_related(
        Prefetch("children", to_attr="kids"), Prefetch("kids__items", to_attr="found"), Prefetch("labels", to_attr="l")
    ),
    "prefetched to_attr, many to many": lambda: Item.objects.prefetch_related(Prefetch("friends", to_attr="found")),
    "prefetched to_attr, all empty": lambda: Item.objects.prefetch_related(
        Prefetch("friends", Item.objects.none(), to_attr="found")
    ),
    "unsaved": categories,
    "unsaved, with a parent": lambda: categories(parent=Category(name="parent")),
    "of many to many": lambda: [Item.friends.through(from_item_id=i, to_item_id=i + 1) for i in range(MANY)],
}


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.usefixtures("shapes")
def test_packed(query: str) -> None:
    """Rows of every kind of query are packed and come out alike."""
    rows = list(QUERIES[query]())
    assert len(rows) >= LEAST
    assert isinstance(pack(rows), Packed)
    assert_alike(rows, send(rows))


@pytest.mark.usefixtures("shapes")
def test_rows_are_of_use() -> None:
    """What came out can be saved, and is found by what it was saved as."""
    rows = send(list(Item.objects.select_related("category")))
    for row in rows:
        row.title = row.title.upper()
        row.save()

    assert [row.title for row in Item.objects.all()] == [row.title for row in rows]


def test_a_tuple() -> None:
    """A tuple of rows is one again."""
    rows = tuple(categories())
    assert isinstance(pack(rows), Packed)
    assert_alike(rows, send(rows))


def test_several_models() -> None:
    """Rows of several models keep their order."""
    rows = [model(name=f"{i}") for i in range(MANY) for model in (Category, Place, Owner)]
    assert isinstance(pack(rows), Packed)
    assert_alike(rows, send(rows))


def test_the_same_row_twice() -> None:
    """What was one row in two places is so again."""
    rows = categories()
    rows += rows[:3]
    assert isinstance(pack(rows), Packed)
    assert_alike(rows, send(rows))


def test_a_cycle() -> None:
    """Rows that lead to one another do so again."""
    rows = categories()
    for row, parent in zip(rows, reversed(rows), strict=True):
        row.parent = parent
    assert isinstance(pack(rows), Packed)
    assert_alike(rows, send(rows))


def test_a_long_way() -> None:
    """Rows that lead to one another in a long chain need no deep stack."""
    rows = categories(parent=None)
    row = rows[0]
    for _ in range(1500):
        row.parent = Category(parent=None)
        row = row.parent
    assert isinstance(pack([*rows[1:], rows[0]]), list), "rows[0] leads on, the others do not"
    for row in rows[1:]:
        row.parent = rows[0]
    assert_alike(rows, send(rows))


def test_of_another_database() -> None:
    """Rows remember the database they came from, and that they were saved."""
    rows = categories()
    for row in rows:
        row._state.db, row._state.adding = "archive", False
    assert isinstance(pack(rows), Packed)
    assert_alike(rows, send(rows))


def test_memoryviews() -> None:
    """A memoryview, as which some databases return a BinaryField, is one again."""
    rows = [Item(blob=memoryview(bytes([i])) if i % 3 else None) for i in range(MANY)]
    assert isinstance(pack(rows), Packed)
    assert_alike(rows, send(rows))


def test_no_descriptor_hears_of_it() -> None:
    """No descriptor's `__set__` is called, as none is by Django's own unpickling."""
    rows = categories(WithDescriptor)
    for row in rows:
        row.loud = row.name
    data = pickle.dumps(pack(rows), 5)
    heard = vars(WithDescriptor)["loud"].heard
    heard.clear()
    out = pickle.loads(data)
    assert heard == []
    assert_alike(rows, out)


def test_no_setattr_hears_of_it() -> None:
    """Nor is a model's own `__setattr__`."""
    rows = categories(WithSetattr)
    data = pickle.dumps(pack(rows), 5)
    WithSetattr.heard.clear()
    out = pickle.loads(data)
    assert WithSetattr.heard == []
    assert_alike(rows, out)


def test_a_shared_value_stays_one() -> None:
    """A list that several rows hold is one list again."""
    data = [1, 2]
    rows = [Item(data=data) for _ in range(MANY)]
    assert isinstance(pack(rows), Packed)
    assert_alike(rows, send(rows))


if django.VERSION >= (6, 1):  # which brought them

    @pytest.mark.usefixtures("shapes")
    @pytest.mark.parametrize("name", ["FETCH_ONE", "FETCH_PEERS", "FETCH_RAISE"])
    def test_fetch_mode(name: str) -> None:
        """Rows keep their fetch mode, and not the peers that they were fetched with."""
        mode = getattr(django.db.models, name)
        rows = list(Item.objects.fetch_mode(mode).defer("text"))
        assert isinstance(pack(rows), Packed)
        out = send(rows)
        assert_alike(rows, out)
        assert {row._state.fetch_mode for row in out} == {mode}


def test_attributes_share_their_names() -> None:
    """Rows share the names of their attributes, which halves their memory, even if they are the model's first here."""
    code = """if True:
        import django, pickle, sys
        django.setup()
        attributes = vars(pickle.load(sys.stdin.buffer)[-1])
        print(sys.getsizeof(attributes) / sys.getsizeof(dict(attributes)))
    """
    rows = pickle.dumps(pack([Item(title=f"{i}") for i in range(MANY)]), 5)
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.django.settings"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=rows, env=environment, cwd=CHECKOUT, check=True, capture_output=True)
    assert float(done.stdout) < 0.75


# --- what is left alone ----------------------------------------------------------------------------------------------


def _prepared(prepare: Callable[[list[Any]], object]) -> Callable[[], list[Any]]:
    def make() -> list[Any]:
        rows = categories()
        prepare(rows)
        return rows

    return make


def _of_other_databases(rows: list[Any]) -> None:
    for i, row in enumerate(rows):
        row._state.db = f"number {i % 2}"


def _of_other_attributes(rows: list[Any]) -> None:
    for i, row in enumerate(rows):
        setattr(row, f"is_{'odd' if i % 2 else 'even'}", True)


def _of_attributes_in_another_order(rows: list[Any]) -> None:
    for i, row in enumerate(rows):
        for name in ("one", "other")[:: 1 if i % 2 else -1]:
            setattr(row, name, 1)


def _sharing_a_list(rows: list[Any]) -> None:
    shared = [Category()]
    for row in rows:
        row.other = shared


def _sharing_a_list_each(rows: list[Any]) -> None:
    for row in rows:
        row.other = row.another = [Category()]


class Cache(dict):
    pass


class State(type(Category()._state)):
    pass


class Name(str):
    pass


class Time(dt.datetime):
    pass


Pair = namedtuple("Pair", ["a", "b"])

LEFT_ALONE: dict[str, Callable[[], Any]] = {
    "none": list,
    "other values": lambda: list(range(MANY)),
    "some rows": lambda: [*categories(), 1],
    "None": lambda: None,
    "dict": lambda: dict(enumerate(categories())),
    "a list of a class of its own": lambda: type("Rows", (list,), {})(categories()),
    "a named tuple": lambda: Pair(*categories()[:2]),
    **{model.__name__: lambda model=model: categories(model) for model in models.Odd.__subclasses__()},
    "another attribute": _prepared(lambda rows: setattr(rows[3], "more", 1)),
    "another order": _prepared(lambda rows: rows[3].__dict__.update(name=rows[3].__dict__.pop("name"))),
    "no attributes": lambda: [Category.__new__(Category) for _ in range(MANY)],
    "an attribute that is no name": _prepared(lambda rows: [row.__dict__.update({1: 2}) for row in rows]),
    "another attribute of the state": _prepared(lambda rows: [setattr(row._state, "more", 1) for row in rows]),
    "a state of a class of its own": _prepared(lambda rows: [setattr(row, "_state", State()) for row in rows]),
    "a cache of a class of its own": _prepared(
        lambda rows: [setattr(row._state, "fields_cache", Cache()) for row in rows]
    ),
    "a cache that holds something else": _prepared(lambda rows: [row._state.fields_cache.update(x=1) for row in rows]),
    "saved and unsaved": _prepared(lambda rows: setattr(rows[3]._state, "adding", False)),
    "a database and none": _prepared(lambda rows: [setattr(row._state, "db", None) for row in rows[1:]]),
    "True and 1": _prepared(lambda rows: setattr(rows[3]._state, "adding", 1)),
    "several databases": _prepared(_of_other_databases),
    "other attributes": _prepared(_of_other_attributes),
    "another order of attributes": _prepared(_of_attributes_in_another_order),
    "a row in a column": _prepared(lambda rows: [setattr(row, "other", rows[0]) for row in rows]),
    "a row deep in a column": _prepared(lambda rows: [setattr(row, "other", {"a": [rows[0]]}) for row in rows]),
    "rows and others in a list": _prepared(lambda rows: [setattr(row, "other", [rows[0], 1]) for row in rows]),
    "a shared list of rows": _prepared(_sharing_a_list),
    "a list of rows under two names": _prepared(_sharing_a_list_each),
    "a str of a class of its own": lambda: categories(parent_id=Name("1")),
    "a datetime of a class of its own": lambda: [Item(moment=Time(2024, 1, 1)) for _ in range(MANY)],
    "an object": lambda: [Price(amount=models.Money(1)) for _ in range(MANY)],
    "a memoryview among bytes": lambda: [Item(blob=memoryview(b"a") if i else b"a") for i in range(MANY)],
}


@pytest.mark.parametrize("kind", LEFT_ALONE)
def test_left_alone(kind: str) -> None:
    """What is unusual in any way is the very object that was given."""
    value = LEFT_ALONE[kind]()
    assert pack(value) is value


QUERIES_LEFT_ALONE: dict[str, Callable[[], Any]] = {
    "prefetched": lambda: Category.objects.prefetch_related("items"),
    "prefetched, deep": lambda: Item.objects.select_related("category").prefetch_related("category__labels"),
    "custom field": Price.objects.all,
    "file, looked at": lambda: [row for row in Document.objects.all() if row.file],
    "some foreign keys followed": lambda: [row for i, row in enumerate(Item.objects.all()) if i % 4 or row.category],
    "values": lambda: Item.objects.values(),
    "values_list": lambda: Item.objects.values_list(),
    "values_list, flat": lambda: Item.objects.values_list("title", flat=True),
    "values_list, named": lambda: Item.objects.values_list("title", "moment", named=True),
}


@pytest.mark.parametrize("query", QUERIES_LEFT_ALONE)
@pytest.mark.usefixtures("shapes")
def test_query_left_alone(query: str) -> None:
    """So are the results of queries that Django's pickling knows more about."""
    rows = list(QUERIES_LEFT_ALONE[query]())
    assert len(rows) >= LEAST
    assert pack(rows) is rows


# --- a few rows, each by itself --------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [*QUERIES, "custom field", "some foreign keys followed", "values"])
@pytest.mark.usefixtures("shapes")
def test_a_few(query: str) -> None:
    """A row of any query, and some of them, come out alike."""
    few = list({**QUERIES, **QUERIES_LEFT_ALONE}[query]())[: LEAST - 1]
    for value in (few[0], few, tuple(few)):
        assert_alike(_as_by_django(value), send(value))


@pytest.mark.parametrize("kind", LEFT_ALONE)
def test_a_few_that_are_unusual(kind: str) -> None:
    """So do those that are unusual."""
    value = LEFT_ALONE[kind]()
    few = value[: LEAST - 1] if type(value) is list else value
    try:
        expected = _as_by_django(few)
    except (KeyError, pickle.PicklingError):  # nor can Django send it
        assert pack(few) is few
    else:
        assert_alike(expected, send(few))


def _as_by_django(value: Any) -> Any:
    """Return `value` if it is packed, otherwise what becomes of it without."""
    return value if pack(value) is not value else pickle.loads(pickle.dumps(value, 5))


ORDINARY: dict[str, Callable[[], Any]] = {
    **{name: QUERIES[name] for name in ("users", "only", "raw", "multi-table", "composite key", "unsaved")},
    "annotated": lambda: Category.objects.annotate(n=Count("items")),
    "foreign keys": lambda: Item.objects.filter(category__isnull=False).defer("blob"),
}


@pytest.mark.parametrize("query", ORDINARY)
@pytest.mark.usefixtures("shapes")
def test_a_few_are_packed(query: str) -> None:
    """Ordinary rows without related objects do not go Django's way: not one, nor a few."""
    few = list(ORDINARY[query]())[: LEAST - 1]
    assert isinstance(pack(few[0]), Packed)
    assert {type(packed) for packed in pack(few)} == {Packed}


def _with(**attributes: Any) -> Category:
    category = Category(name="name")
    category.__dict__.update(attributes)
    return category


FEW_LEFT_ALONE: dict[str, Callable[[], Any]] = {
    "a row twice": lambda: categories()[:2] * 2,
    "a row and something else": lambda: [Category(), 1],
    "with a related object": lambda: Category(parent=Category()),
    "with a list of rows": lambda: _with(found=[Category()]),
    "with an object": lambda: _with(money=models.Money(1)),
    "with a state of another class": lambda: _with(_state=State()),
    "without a state": lambda: Category.__new__(Category),
    "with a comma in a name": lambda: _with(**{"a,b": 1}),
    "with a space in a name": lambda: _with(**{"a b": 1}),
}


@pytest.mark.parametrize("kind", FEW_LEFT_ALONE)
def test_a_few_left_alone(kind: str) -> None:
    """What is unusual in any way is the very object that was given."""
    value = FEW_LEFT_ALONE[kind]()
    assert pack(value) is value


def test_more_in_the_state() -> None:
    """A row whose `_state` has what nobody knows is left alone."""
    category = Category()
    category._state.more = 1
    assert pack(category) is category


def test_one_of_another_database() -> None:
    """Where a row came from goes along."""
    category = _with()
    category._state.db, category._state.adding = "other", False
    assert isinstance(pack(category), Packed)
    assert_alike(category, send(category))


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("zone", [None, dt.UTC, dt.timezone(dt.timedelta(hours=1)), zoneinfo.ZoneInfo("Asia/Tokyo")])
def test_moments_of_one(zone: dt.tzinfo | None, fold: int) -> None:
    """A datetime comes out with its zone and its fold."""
    item = Item(moment=dt.datetime(2024, 10, 27, 2, 30, 0, 123456, zone, fold=fold))
    assert isinstance(pack(item), Packed)
    assert_alike(item, send(item))


def test_one_of_a_model_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose model is not known where it arrives is a LookupError that names it."""
    data = pickle.dumps(pack(Category()), 5)
    monkeypatch.delitem(apps.all_models["shapes"], "category")
    with pytest.raises(LookupError, match="Category"):
        pickle.loads(data)


# --- on the other side -----------------------------------------------------------------------------------------------


def test_a_model_that_is_not_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose name leads to another, as a test's may, is left alone."""
    rows = categories()
    monkeypatch.setitem(apps.all_models["shapes"], "category", Place)
    assert pack(rows) is rows


# --- the collector ---------------------------------------------------------------------------------------------------


@pytest.fixture
def collecting(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Return a list that tells, after rows were rebuilt, whether the garbage collector was on meanwhile."""
    seen: list[bool] = []
    get_model = apps.get_model
    monkeypatch.setattr(apps, "get_model", lambda *name: seen.append(gc.isenabled()) or get_model(*name))
    assert gc.isenabled()
    yield seen
    gc.enable()


def test_collector_rests(collecting: list[bool]) -> None:
    """The garbage collector is off while rows are rebuilt, and on again afterwards."""
    send(categories())
    assert (collecting, gc.isenabled()) == ([False], True)


def test_collector_stays_off(collecting: list[bool]) -> None:
    """A garbage collector that was off stays off."""
    gc.disable()
    send(categories())
    assert (collecting, gc.isenabled()) == ([False], False)


def test_collector_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collector is on again when rows could not be rebuilt: the model is not there on this side."""
    data = pickle.dumps(pack(categories()), 5)
    monkeypatch.delitem(apps.all_models["shapes"], "category")
    with pytest.raises(LookupError, match="Category"):
        pickle.loads(data)
    assert gc.isenabled()


# --- values ----------------------------------------------------------------------------------------------------------

ZONES = [dt.UTC, dt.timezone(dt.timedelta(hours=5, minutes=30)), *map(zoneinfo.ZoneInfo, ["UTC", "Europe/Berlin"])]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()

KINDS: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(),
    "str with surrogates": st.text(st.characters(exclude_categories=())),
    "long str": st.text(min_size=100),
    "str with zeros": st.text("a\0"),
    "int": st.integers() | st.integers(-(2**200), 2**200),
    "bool": st.booleans(),
    "float": st.floats(),
    "complex": st.complex_numbers(),
    "bytes": st.binary(),
    "decimal": st.decimals(),
    "date": st.dates(),
    "time": st.times(),
    "timedelta": st.timedeltas(),
    "naive datetime": st.datetimes(),
    "datetime in UTC": st.datetimes(timezones=st.just(dt.UTC)),
    "datetime in a zone": st.datetimes(timezones=st.just(ZONES[-1]), allow_imaginary=False),
    "datetime in any zone": st.datetimes(timezones=st.sampled_from([*ZONES, None])),
    "uuid": st.uuids(),
    "memoryview": st.binary().map(memoryview),
    "json": SCALARS | st.lists(SCALARS | st.lists(SCALARS, max_size=3)) | st.dictionaries(st.text(), SCALARS),
}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_values(kind: str, data: st.DataObject) -> None:
    """Values of any type are what they were, in a column of their own or with others and None among them."""
    strategy = KINDS[kind] | st.none() if data.draw(st.booleans()) else KINDS[kind]
    values = data.draw(st.lists(strategy, min_size=LEAST, max_size=MANY))
    rows = [Category(name=value) for value in values]
    assert isinstance(pack(rows), Packed)
    assert_alike(rows, send(rows))


def _holding_itself() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


COLUMNS: dict[str, list[Any]] = {
    "folded, naive": [dt.datetime(2024, 10, 27, 2, 30, fold=i % 2) for i in range(MANY)],
    "folded, in a zone": [dt.datetime(2024, 10, 27, 2, 30, fold=i % 2, tzinfo=ZONES[-1]) for i in range(MANY)],
    "in equal zones of other names": [
        dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(0), f"zone {i % 2}")) for i in range(MANY)
    ],
    "extremes": [dt.datetime.min, dt.datetime.max] * MANY,
    "safe UUIDs": [uuid.UUID(int=i, is_safe=uuid.SafeUUID.safe) for i in range(MANY)],
    "UUIDs, some safe": [uuid.UUID(int=i, is_safe=list(uuid.SafeUUID)[i % 3]) for i in range(MANY)],
    "signed zeros": [Decimal("-0.00"), Decimal("0"), Decimal("-0E+3")] * MANY,
    "not a number": [Decimal("sNaN12"), Decimal("-NaN"), Decimal("Infinity")] * MANY,
    "empty strings": [""] * MANY,
    "None only": [None] * MANY,
    "None first and last": [None, *["a"] * MANY, None],
    "a dict that holds itself": [_holding_itself() for _ in range(MANY)],
}


@pytest.mark.parametrize("name", COLUMNS)
def test_particular_values(name: str) -> None:
    """Values that are easily changed on the way are not."""
    rows = [Category(name=value) for value in COLUMNS[name]]
    assert isinstance(pack(rows), Packed)
    assert_alike(rows, send(rows))


@given(st.lists(st.one_of(*(KINDS[kind] for kind in KINDS if kind not in ("memoryview", "json"))), min_size=LEAST))
@settings(max_examples=100, deadline=None)
def test_mixed_values(values: list[Any]) -> None:
    """Values of several types in one column are what they were."""
    rows = [Category(name=value) for value in values]
    assert isinstance(pack(rows), Packed)
    assert_alike(rows, send(rows))
