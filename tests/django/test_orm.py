"""Django's ORM off the loop: what one does with models, managers and QuerySets, done in a thread or a process."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import SynchronousOnlyOperation
from django.db import IntegrityError
from django.db.models import Count, F, Prefetch, Q, QuerySet, Sum

from slacker import Slacker, Worker, attr
from slacker.workers import DummyWorker
from tests.django.app.models import Author, Book


@pytest.fixture(params=["four_threads", "processes"])
def worker(request: pytest.FixtureRequest, database: dict[str, Any]) -> Worker:
    """Return a worker with threads, and one with processes."""
    return request.getfixturevalue(request.param)


in_threads = pytest.mark.parametrize("worker", ["four_threads"], indirect=True)
"""For what is handed over as it is, where processes would have to pickle it."""


# --- reading -------------------------------------------------------------------------------------------------------


async def test_filter_and_slice_give_instances(authors: Any, library: dict[str, Author]) -> None:
    """A filtered and sliced query comes back as a list of instances."""
    assert [library["Ann"]] == await authors.filter(name__startswith="A")[:5]


async def test_get_gives_an_instance(authors: Any, library: dict[str, Author]) -> None:
    """get() brings one instance."""
    assert library["Bob"] == await authors.get(name="Bob")


async def test_an_index_gives_an_instance(authors: Any, library: dict[str, Author]) -> None:
    """Indexing a query brings one instance."""
    assert library["Bob"] == await authors.order_by("-name")[0]


async def test_values(authors: Any) -> None:
    """values() comes as a list of dicts."""
    assert await authors.values("name") == [{"name": "Ann"}, {"name": "Bob"}]


async def test_values_list_flat(authors: Any) -> None:
    """A flat values_list() comes as a list of values."""
    assert await authors.values_list("name", flat=True) == ["Ann", "Bob"]


async def test_values_list_named(authors: Any) -> None:
    """A named values_list() comes as a list of named tuples."""
    rows = await authors.order_by("name", "books__title").values_list("name", "books__title", named=True)

    assert (rows[0].name, rows[0].books__title) == ("Ann", "Ashes")


async def test_aggregate(authors: Any) -> None:
    """aggregate() brings its dict."""
    assert await authors.aggregate(pages=Sum("books__pages")) == {"pages": 800}


async def test_q_f_and_annotations_are_arguments(authors: Any) -> None:
    """Q, F and aggregates go along as arguments."""
    counted = (
        authors.annotate(count=Count("books"), more=F("count") + 1).filter(Q(count=1) | Q(more=3)).order_by("name")
    )

    assert await counted.values_list("name", "more") == [("Ann", 3), ("Bob", 2)]


@in_threads
async def test_a_queryset_as_an_argument_becomes_a_subquery(authors: Any, worker: Worker) -> None:
    """A lazy QuerySet may be an argument: building it queries nothing."""
    titles = Slacker(Book, worker).objects.filter(author__in=Author.objects.filter(name="Bob"))

    assert await titles.values_list("title", flat=True) == ["Clouds"]


async def test_a_queryset_method_of_ones_own(authors: Any, library: dict[str, Author]) -> None:
    """Methods of a custom QuerySet can be called."""
    assert [library["Ann"]] == await authors.prolific(books=2)


async def test_a_manager_of_ones_own(worker: Worker, library: dict[str, Author]) -> None:
    """A custom manager can be used."""
    assert [book.title for book in await Slacker(Book, worker).long.all()] == ["Bread"]


async def test_the_default_manager(worker: Worker, library: dict[str, Author]) -> None:
    """attr() reaches a manager whose name starts with an underscore."""
    assert await attr(Slacker(Author, worker), "_default_manager").count() == 2


async def test_raw(authors: Any) -> None:
    """A raw query comes as a list of instances."""
    rows = await authors.raw("SELECT id, name FROM app_author ORDER BY name")

    assert [author.name for author in rows] == ["Ann", "Bob"]


async def test_in_bulk(authors: Any, library: dict[str, Author]) -> None:
    """in_bulk() brings its dict of instances."""
    assert library == await authors.in_bulk(field_name="name")


async def test_exists(authors: Any) -> None:
    """exists() brings a bool."""
    assert await authors.filter(name="Ann").exists() is True


async def test_count(authors: Any) -> None:
    """count() brings a number."""
    assert await authors.count() == 2


# --- relations -----------------------------------------------------------------------------------------------------


async def test_select_related_can_be_read_on_the_loop(worker: Worker, library: dict[str, Author]) -> None:
    """What select_related() fetched is there without another query."""
    book = await Slacker(Book, worker).objects.select_related("author").get(title="Clouds")

    assert library["Bob"] == book.author


async def test_prefetched_rows_can_be_read_on_the_loop(authors: Any) -> None:
    """What prefetch_related() fetched is there without another query."""
    ann = await authors.prefetch_related("books__tags").get(name="Ann")

    assert {book.title: sorted(tag.name for tag in book.tags.all()) for book in ann.books.all()} == {
        "Ashes": ["sea", "war"],
        "Bread": [],
    }


async def test_a_prefetch_with_to_attr(authors: Any) -> None:
    """Prefetch(..., to_attr=...) brings its lists."""
    long_ones = Prefetch("books", queryset=Book.long.all(), to_attr="long_books")
    ann, bob = await authors.prefetch_related(long_ones)

    assert ([book.title for book in ann.long_books], bob.long_books) == (["Bread"], [])


async def test_a_related_manager_is_a_step_on_the_way(authors: Any) -> None:
    """A chain may go from an instance over its related manager to rows."""
    assert await authors.get(name="Ann").books.values_list("title", flat=True) == ["Ashes", "Bread"]


async def test_deferred_fields_stay_deferred(authors: Any) -> None:
    """only() brings instances with the other fields deferred."""
    ann = await authors.only("name").get(name="Ann")

    assert {"born"} == ann.get_deferred_fields()


@pytest.mark.parametrize("attribute", ["author", "pages"])
async def test_what_was_not_fetched_cannot_be_loaded_on_the_loop(
    worker: Worker, library: dict[str, Author], attribute: str
) -> None:
    """A relation or deferred field that was not fetched raises Django's own error, instead of blocking the loop."""
    book = await Slacker(Book, worker).objects.defer("pages").get(title="Clouds")

    with pytest.raises(SynchronousOnlyOperation):
        getattr(book, attribute)


# --- writing -------------------------------------------------------------------------------------------------------


async def test_create_and_save(worker: Worker) -> None:
    """create() brings the new instance, which as a root can be changed and saved again."""
    author = await Slacker(Author, worker).objects.create(name="Zoe")
    author.name = "Zoé"
    await Slacker(author, worker).save()

    assert author == await Slacker(Author, worker).objects.get(name="Zoé")


async def test_get_or_create(authors: Any, library: dict[str, Author]) -> None:
    """get_or_create() brings its tuple."""
    assert (library["Ann"], False) == await authors.get_or_create(name="Ann")


async def test_bulk_create(worker: Worker) -> None:
    """bulk_create() brings the list of instances."""
    created = await Slacker(Author, worker).objects.bulk_create([Author(name="Yan"), Author(name="Zoe")])

    assert created == await Slacker(Author, worker).objects.order_by("name")


async def test_update(authors: Any) -> None:
    """update() brings the number of rows."""
    assert await authors.filter(name="Bob").update(name="Rob") == 1


async def test_delete(authors: Any) -> None:
    """delete() brings what it deleted, cascades included."""
    assert await authors.filter(name="Bob").delete() == (2, {"app.Author": 1, "app.Book": 1})


async def test_create_superuser(worker: Worker) -> None:
    """Managers' own methods work, as the README of 2011 has it."""
    await Slacker(User, worker).objects.create_superuser("foo", password="secret")

    assert (await Slacker(User, worker).objects.get(username="foo")).check_password("secret")


# --- roots and steps other than managers ---------------------------------------------------------------------------


async def test_a_class_method_of_a_model(worker: Worker) -> None:
    """A model's class method can be called."""
    author = await Slacker(Author, worker).register("Zoe")

    assert [author] == await Slacker(Author, worker).objects.all()


async def test_a_bound_class_method_as_root(worker: Worker) -> None:
    """A bound class method can be the root."""
    assert (await Slacker(Author.register, worker)("Zoe")).name == "Zoe"


async def test_a_method_of_an_instance(authors: Any) -> None:
    """A chain may end in a model's method, which may query."""
    assert await authors.get(name="Ann").titles(suffix="!") == ["Ashes!", "Bread!"]


async def test_an_attribute_of_an_instance(authors: Any) -> None:
    """A chain may end in an attribute: only that comes back."""
    assert await authors.get(name="Ann").initial == "A"


@in_threads
async def test_a_manager_as_root(worker: Worker, library: dict[str, Author]) -> None:
    """A manager can be the root."""
    assert await Slacker(Author.objects, worker).count() == 2


@in_threads
@pytest.mark.parametrize(
    "query", [Author.objects.filter(name__gt="A"), Author.objects.raw("SELECT * FROM app_author")], ids=["query", "raw"]
)
async def test_a_queryset_as_root_queries_on_each_run(authors: Any, worker: Worker, query: Any) -> None:
    """A recipe from a QuerySet sees new rows when it runs again, though a QuerySet keeps the rows it has read."""
    recipe = Slacker(query, worker)
    before = await recipe
    await authors.create(name="Zoe")

    assert (len(before), len(await recipe)) == (2, 3)


@pytest.fixture
def raw(library: dict[str, Author]) -> Any:
    """Return a raw query that was read already."""
    query = Author.objects.raw("SELECT * FROM app_author ORDER BY name")
    assert len(query) == 2
    return query


@in_threads
async def test_a_raw_query_as_a_root_is_fresh(worker: Worker, raw: Any) -> None:
    """A RawQuerySet that was read before is read again, each time with a cursor of its own."""
    await Slacker(Author, worker).objects.create(name="Cid")

    assert [author.name for author in await Slacker(raw, worker)] == ["Ann", "Bob", "Cid"]
    assert {len(rows) for rows in await asyncio.gather(*[Slacker(raw, worker) for _ in range(20)])} == {3}
    assert len(raw) == 2  # as it was


class Hiding(QuerySet):
    def all(self) -> Any:
        return super().all().exclude(name="Ann")


@in_threads
async def test_a_query_as_a_root_is_as_it_was_made(worker: Worker, library: dict[str, Author]) -> None:
    """Nothing is added to it, though its class adds something in its own all(), as projects do that hide rows."""
    assert await Slacker(Hiding(Author), worker).count() == 2


# --- failures ------------------------------------------------------------------------------------------------------


async def test_does_not_exist_arrives_as_its_class(authors: Any) -> None:
    """A missing row arrives as the model's DoesNotExist, with a note that names the step but no argument."""
    with pytest.raises(Author.DoesNotExist) as caught:
        await authors.get(name="Zoe")

    assert caught.value.__notes__ == ["slacker: at step 3, .get, of Author.objects.get(...)"]


async def test_integrity_error_arrives_as_its_class(authors: Any) -> None:
    """A violated constraint arrives as Django's IntegrityError."""
    with pytest.raises(IntegrityError):
        await authors.create(name="Ann")


@in_threads
async def test_integrity_error_arrives_with_its_cause(authors: Any) -> None:
    """From a thread an IntegrityError arrives with the driver's error as its cause."""
    with pytest.raises(IntegrityError) as caught:
        await authors.create(name="Ann")

    assert "IntegrityError" in {kind.__name__ for kind in type(caught.value.__cause__).__mro__}


async def test_a_query_that_fails_when_read_names_the_last_step(authors: Any) -> None:
    """A query that only fails while its rows are read is reported at the last step."""
    with pytest.raises(Exception, match="nowhere") as caught:
        await authors.extra(tables=["nowhere"])

    assert caught.value.__notes__ == ["slacker: at step 3, .extra, of Author.objects.extra(...)"]


# --- where it runs -------------------------------------------------------------------------------------------------


@in_threads
async def test_the_orm_runs_in_a_thread(worker: Worker) -> None:
    """The loop's thread is not the one that queries."""
    assert threading.current_thread() is not await Slacker(threading.current_thread, worker)()


async def test_without_a_worker_the_orm_is_refused_on_the_loop(library: dict[str, Author]) -> None:
    """On the loop itself Django refuses to query: this is what workers are for."""
    with pytest.raises(SynchronousOnlyOperation):
        Author.objects.count()


async def test_a_dummy_worker_runs_the_orm_in_place(library: dict[str, Author]) -> None:
    """DummyWorker hides the loop from the ORM, which so runs right here."""
    assert (threading.current_thread(), 2) == await Slacker(_thread_and_count, DummyWorker())()


def _thread_and_count() -> tuple[threading.Thread, int]:
    return threading.current_thread(), Author.objects.count()
