"""Results are settled where the work ran: nothing that would query the database where it is looked at."""

from __future__ import annotations

import pickle
from collections import defaultdict, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.db.models.manager import BaseManager
from django.utils.datastructures import MultiValueDict

from slacker import Slacker
from slacker.django_backend.results import settle
from slacker.workers import DjangoThreadWorker
from tests.django.app.models import Author, AuthorQuerySet, Book

Shelf = namedtuple("Shelf", ["label", "books"])


class Rows(dict):
    pass


@dataclass
class Held:
    value: Any


@pytest.fixture
def names(library: dict[str, Author]) -> QuerySet[Any]:
    return Author.objects.values_list("name", flat=True)


NAMES = ["Ann", "Bob"]


# --- what becomes a list -------------------------------------------------------------------------------------------


def test_a_queryset(names: QuerySet[Any]) -> None:
    """A QuerySet becomes a list."""
    assert_same(NAMES, settle(names))


def test_a_raw_queryset(library: dict[str, Author]) -> None:
    """A RawQuerySet becomes a list."""
    assert_same([library["Ann"]], settle(Author.objects.raw("SELECT * FROM app_author WHERE name = 'Ann'")))


def test_a_page_gets_its_rows(names: QuerySet[Any]) -> None:
    """A Page gets its rows as a list."""
    assert_same(["Ann"], settle(Paginator(names, 1).page(1)).object_list)


async def test_a_page_can_be_rendered_on_the_loop(worker: DjangoThreadWorker, library: dict[str, Author]) -> None:
    """All that a template asks a page for is there without another query."""
    page = await Slacker(Paginator, worker)(Author.objects.all(), 1).page(1)

    assert ([library["Ann"]], True, False, 2, 2, [1, 2]) == (
        list(page),
        page.has_next(),
        page.has_previous(),
        page.paginator.num_pages,
        page.paginator.count,
        list(page.paginator.page_range),
    )


def test_a_page_leaves_the_other_rows(names: QuerySet[Any]) -> None:
    """The paginator of a page knows how many rows there are, and says that it has none; the work's own stays usable."""
    paginator = Paginator(names, 1)
    page = pickle.loads(pickle.dumps(settle(paginator.page(1))))

    assert (list(page), page.paginator.count, page.next_page_number()) == (["Ann"], 2, 2)
    with pytest.raises(TypeError, match="brought no other rows"):
        page.paginator.page(2)
    assert list(paginator.page(2)) == ["Bob"]


@pytest.mark.parametrize("hold", [lambda page: {"page": page, "title": "Authors"}, lambda page: ("Authors", page)])
def test_a_page_among_others(names: QuerySet[Any], hold: Callable[[Any], Any]) -> None:
    """A page in a view's context, or in a tuple, gets its rows as one by itself does, and leaves the others."""
    held = settle(hold(Paginator(names, 1).page(1)))

    page = held["page"] if isinstance(held, dict) else held[1]
    assert_same(["Ann"], page.object_list)
    with pytest.raises(TypeError, match="brought no other rows"):
        page.paginator.page(2)


def test_a_page_of_a_list_keeps_its_paginator() -> None:
    """Where there is nothing to query, all is as it was."""
    assert list(settle(Paginator(["a", "b"], 1).page(1)).paginator.page(2)) == ["b"]


def test_a_list_of_querysets(names: QuerySet[Any]) -> None:
    """QuerySets in a list become lists, the rest stays."""
    assert_same([1, NAMES], settle([1, names]))


def test_a_tuple_of_querysets(names: QuerySet[Any]) -> None:
    """QuerySets in a tuple become lists, the rest stays."""
    assert_same((1, NAMES), settle((1, names)))


def test_a_named_tuple_of_querysets(names: QuerySet[Any]) -> None:
    """A named tuple keeps its class and names."""
    assert_same(Shelf("A", NAMES), settle(Shelf("A", names)))


def test_a_dict_of_querysets(names: QuerySet[Any]) -> None:
    """QuerySets among a dict's values become lists, the rest stays."""
    assert_same({"one": 1, "names": NAMES}, settle({"one": 1, "names": names}))


def test_a_dict_subclass_of_querysets(names: QuerySet[Any]) -> None:
    """A subclass of dict keeps its class and attributes."""
    rows = Rows(names=names)
    rows.total = 2

    settled = settle(rows)

    assert_same(Rows(names=NAMES), settled)
    assert settled.total == 2


def test_a_dict_that_keeps_lists(names: QuerySet[Any]) -> None:
    """A MultiValueDict keeps its form, whatever its update() makes of things; what is in its lists is deeper down."""
    settled = settle(MultiValueDict({"names": [names], "others": [1, 2]}))

    assert {"names": [names], "others": [1, 2]} == dict(settled.lists())
    assert_same(NAMES, names._result_cache)


def test_a_dict_that_adds_up(names: QuerySet[Any]) -> None:
    """Nothing of what a subclass makes of update() is asked for."""

    class Sum(dict):
        def update(self, *_: object) -> None:
            raise AssertionError

    assert settle(Sum(names=names)) == {"names": NAMES}


def test_a_defaultdict_of_querysets(names: QuerySet[Any]) -> None:
    """A defaultdict keeps its factory."""
    assert list is settle(defaultdict(list, names=names)).default_factory


@pytest.mark.parametrize("kind", [dict, Rows])
def test_a_settled_dict_is_a_new_one(names: QuerySet[Any], kind: type) -> None:
    """The dict that the work returned, which may be a module's constant, is not changed."""
    kept = kind(names=names)
    settle(kept)

    assert kept["names"] is names


@pytest.mark.parametrize("kind", [set, frozenset])
def test_a_set_of_querysets(names: QuerySet[Any], kind: type) -> None:
    """A set with QuerySets becomes a list itself, since lists cannot be members of a set."""
    assert_same([NAMES], settle(kind([names])))


# --- what stays what it is -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [None, 1, "text", [1, [2]], (1,), Shelf("A", ()), {"a": 1}, Rows(a=1), {1, 2}, frozenset([1]), Author, Author()],
    ids=repr,
)
def test_other_results_are_not_copied(result: object) -> None:
    """Without a query in it a result is returned as the very object it is."""
    assert result is settle(result)


@pytest.mark.parametrize(
    ("hold", "find"),
    [
        (lambda names: {"shelf": {"names": names}}, lambda result: result["shelf"]["names"]),
        (lambda names: [1, ("a", [names, 2])], lambda result: result[1][1][0]),
        (Held, lambda result: result.value),
        (lambda names: Held([names]), lambda result: result.value[0]),
    ],
)
def test_querysets_deep_down_stay(names: QuerySet[Any], hold: Callable[[Any], Any], find: Callable[[Any], Any]) -> None:
    """A query deeper down stays one, and its rows are read: pickling would read them where nobody looks after it."""
    inner = find(settle(hold(names)))

    assert inner is names
    assert_same(NAMES, inner._result_cache)


def test_raw_querysets_deep_down_stay(library: dict[str, Author]) -> None:
    """So it is with a RawQuerySet."""
    raw = Author.objects.raw("SELECT * FROM app_author ORDER BY name")

    assert settle({"shelf": {"raw": raw}}) == {"shelf": {"raw": raw}}
    assert [library["Ann"], library["Bob"]] == raw._result_cache


async def test_prefetch_caches_stay_querysets(authors: Any) -> None:
    """A prefetched relation is a QuerySet with its rows, as everywhere in Django."""
    ann = await authors.prefetch_related("books").get(name="Ann")

    assert isinstance(ann._prefetched_objects_cache["books"], QuerySet)


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "manager",
    [Author.objects, Book.long, BaseManager.from_queryset(AuthorQuerySet)(), Author(pk=1).books, Book(pk=1).tags],
    ids=["manager", "custom", "base", "related", "many-to-many"],
)
def test_a_manager_is_refused(manager: object) -> None:
    """A manager is no result; the message says what is missing."""
    with pytest.raises(TypeError, match=r"a manager of (Author|Book|Tag|a model), .* add \.all\(\)"):
        settle(manager)


async def test_a_forgotten_all_is_reported_to_the_caller(authors: Any) -> None:
    """A chain that ends in a manager fails where it is awaited, with a note that names it."""
    with pytest.raises(TypeError, match=r"manager of Book.*add \.all\(\)") as caught:
        await authors.get(name="Ann").books

    assert caught.value.__notes__ == ["slacker: at step 4, .books, of Author.objects.get(...).books"]


@pytest.mark.parametrize(
    "wrap", [lambda it: [it], lambda it: (it,), lambda it: {"a": it}], ids=["list", "tuple", "dict"]
)
def test_what_is_refused_is_refused_inside_containers(wrap: Any) -> None:
    """Containers are searched one level deep for what is no result."""
    with pytest.raises(TypeError, match=r"add \.all\(\)"):
        settle(wrap(Author.objects))


async def test_an_asynchronous_method_is_refused(authors: Any) -> None:
    """A coroutine that nobody awaits is closed and refused, with the blocking method as the way out."""
    with pytest.raises(TypeError, match=r"use the blocking method, \.count\(\) and not \.acount\(\)"):
        await authors.acount()


def test_an_awaitable_that_is_no_coroutine_is_refused() -> None:
    """So is any other awaitable."""

    class Later:
        def __await__(self) -> Iterator[None]:
            yield

    with pytest.raises(TypeError, match=r"an awaitable \(Later\)"):
        settle(Later())


def test_a_generator_is_closed_and_refused(names: QuerySet[Any]) -> None:
    """A generator that has begun is ended, and with it the query it reads from; the way out is a list."""
    rows = (name for name in names.iterator())
    next(rows)

    with pytest.raises(TypeError, match="return a list instead"):
        settle(rows)
    assert rows.gi_frame is None


@pytest.mark.parametrize("method", ["iterator", "aiterator"])
async def test_iterators_of_a_query_are_refused(authors: Any, method: str) -> None:
    """iterator() and aiterator() would query where they are read, so they are refused."""
    with pytest.raises(TypeError, match="return a list instead"):
        await getattr(authors, method)()


def assert_same(expected: object, result: object) -> None:
    assert (type(expected), expected) == (type(result), result)
