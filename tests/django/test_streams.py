"""Streams of rows on Django's workers: what they give, and what the database has to do with it meanwhile and after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import pytest
from django.core.paginator import Paginator
from django.db import IntegrityError, connection, transaction
from django.db.models import Prefetch
from django.test import override_settings
from django.utils import translation

from slacker import Slacker, Worker, batch, options, stream
from slacker.django_backend.testing import InlineWorker
from slacker.workers import DjangoHttpWorker, DjangoThreadWorker
from tests.django.app.models import Author, Book, Tag
from tests.django.helpers import Backends, away_only, postgresql_only
from tests.waiting import eventually

ROWS = 1200

committed: list[str] = []
"""What on_commit hooks were called with, whichever thread ran them."""


@pytest.fixture(autouse=True)
def _no_commits() -> None:
    committed.clear()


@pytest.fixture
def many(database: Any) -> list[str]:
    """Fill the database with tags, and return their names, in order."""
    names = [f"{number:05}" for number in range(ROWS)]
    Tag.objects.bulk_create([Tag(name=name) for name in names])
    return names


@pytest.fixture
def tags(any_worker: Worker, many: list[str]) -> Any:
    """Return the recipe for `many` tags."""
    return Slacker(Tag, any_worker).objects.order_by("name")


def create_each(*names: str) -> Iterator[str]:
    for name in names:
        transaction.on_commit(lambda name=name: committed.append(name))
        yield Author.objects.create(name=name).name


def open_cursors() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_cursors WHERE name LIKE '_django_curs%'")
        return cursor.fetchone()[0]


async def stored() -> list[str]:
    """Return the names of authors that the database has, over the test's own connection."""
    return await Slacker(Author, InlineWorker()).objects.values_list("name", flat=True)


# --- rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 300, 500, ROWS, 5000])
async def test_rows_in_chunks(tags: Any, many: list[str], size: int) -> None:
    """A QuerySet gives its rows in their order, whatever the size of the chunks."""
    few = tags[:7] if size < 3 else tags

    assert [tag.name async for tag in stream(few, chunk_size=size)] == many[: 7 if size < 3 else ROWS]


async def test_rows_that_were_read(any_worker: Worker, many: list[str]) -> None:
    """A QuerySet that the work has read, and perhaps changed the rows of, is not read again."""
    names = [tag.name async for tag in stream(Slacker(in_capitals, any_worker)("0000"), chunk_size=3)]

    assert names == [f"TAG {number:05}" for number in range(10)]


def in_capitals(prefix: str) -> Any:
    tags = Tag.objects.filter(name__startswith=prefix).order_by("name")
    for tag in tags:
        tag.name = f"TAG {tag.name}"
    return tags


async def test_no_rows(any_worker: Worker, database: Any) -> None:
    """A QuerySet without rows gives none."""
    assert [tag async for tag in Slacker(Tag, any_worker).objects.all()] == []


async def test_values(tags: Any, many: list[str]) -> None:
    """So do values, and a raw query."""
    assert [name async for name in tags.values_list("name", flat=True)] == many
    assert [tag.name async for tag in tags.raw("SELECT * FROM app_tag ORDER BY name")] == many


async def test_prefetched_rows_come_along(
    any_worker: Worker, library: dict[str, Author], statements: list[str]
) -> None:
    """What was asked to be prefetched is, for each chunk."""
    statements.clear()
    authors = Slacker(Author, any_worker).objects.prefetch_related("books__tags")
    books = Slacker(Prefetch, any_worker)("books", queryset=Slacker(Book).objects.filter(pages=600), to_attr="long")
    found = [author async for author in stream(authors.prefetch_related(books), chunk_size=1)]
    asked = len([sql for sql in statements if sql.startswith("SELECT") and "app_author" in sql.split("WHERE")[0]])

    assert asked <= 1  # or it went through a cursor
    assert [[book.title for book in author.books.all()] for author in found] == [["Ashes", "Bread"], ["Clouds"]]
    assert [len(author.long) for author in found] == [1, 0]


async def test_members_are_settled(any_worker: Worker, library: dict[str, Author]) -> None:
    """A QuerySet among the items is a list when it arrives; so are those of a page."""
    authors = Slacker(Author, any_worker).objects
    both = [item async for item in batch(authors.all(), authors.filter(name="Bob"))]
    page = Slacker(Paginator, any_worker)(authors.all(), 5).page(1)

    assert both == [[library["Ann"], library["Bob"]], [library["Bob"]]]
    assert [author.name async for author in page] == ["Ann", "Bob"]


@pytest.mark.parametrize("attribute", ["objects", "objects.acount"])
async def test_what_cannot_be_streamed(any_worker: Worker, database: Any, attribute: str) -> None:
    """A manager and an awaitable are refused as when they are awaited."""
    recipe = Slacker(Author, any_worker).objects
    with pytest.raises(TypeError, match=r"add \.all\(\)|use the blocking method"):
        [item async for item in (recipe if attribute == "objects" else recipe.acount())]


async def test_one_row(any_worker: Worker, library: dict[str, Author]) -> None:
    """A model instance is not iterable: a TypeError names its class."""
    with pytest.raises(TypeError, match="Author objects cannot be streamed, for they are not iterable"):
        [item async for item in Slacker(Author, any_worker).objects.get(name="Ann")]


async def test_the_language_goes_along(any_worker: Worker, database: Any) -> None:
    """The caller's language is active in all of the work of a stream, and stays there."""
    with translation.override("de"):
        assert [letter async for letter in Slacker(translation.get_language, any_worker)()] == ["d", "e"]


async def test_with_debug_on(tags: Any, many: list[str]) -> None:
    """With DEBUG, when Django notes each query, a stream gives what it gives."""
    with override_settings(DEBUG=True):
        assert [tag.name async for tag in tags] == many


# --- cursors and sessions --------------------------------------------------------------------------------------------


@postgresql_only
async def test_a_cursor_of_the_server(tags: Any, many: list[str], statements: list[str]) -> None:
    """On PostgreSQL the rows are read through a cursor of the server, a chunk at a time."""
    statements.clear()
    async with aclosing(stream(tags, chunk_size=10)) as rows:
        assert (await rows.next_chunk())[0].name == many[0]

    assert len([sql for sql in statements if sql.startswith("SELECT")]) == 1


@postgresql_only
@away_only
async def test_the_cursor_is_open_and_then_is_not(any_worker: Worker, many: list[str], backends: Backends) -> None:
    """While a stream is read its session has the cursor, outside of a transaction; once it is left, it is idle."""
    tags = Slacker(Tag, any_worker).objects.order_by("name")
    async with aclosing(stream(tags.values_list("name", flat=True), chunk_size=1)) as rows:
        await rows.next_chunk()
        await eventually(lambda: backends.pids("idle"))
        assert "_django_curs_" in backends.last_statement()
    # The thread of the server ends with the connection that its client gave up, and its session with it.
    await eventually(lambda: not (last := backends.last_statement()) or "CLOSE" in last)

    await eventually(lambda: backends.pids() == backends.pids("idle"))


@postgresql_only
async def test_no_cursor_is_left(one_thread: DjangoThreadWorker, many: list[str]) -> None:
    """The thread of a stream that was left serves the next call, and its session has no cursor."""
    async for _ in Slacker(Tag, one_thread).objects.all():
        break

    assert await Slacker(open_cursors, one_thread)() == 0


@postgresql_only
async def test_without_cursors_of_the_server(
    tags: Any, many: list[str], database: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DISABLE_SERVER_SIDE_CURSORS is obeyed, and the rows are the same."""
    monkeypatch.setitem(database, "DISABLE_SERVER_SIDE_CURSORS", True)

    assert [tag.name async for tag in tags] == many


# --- transactions ----------------------------------------------------------------------------------------------------


async def test_a_stream_that_writes(any_worker: Worker, database: Any) -> None:
    """A stream in a transaction is committed at its end, and then its hooks run."""
    seen = [name async for name in options(Slacker(create_each, any_worker)("Ann", "Bob"), atomic=True)]
    assert seen == ["Ann", "Bob"]
    await eventually(lambda: committed)

    assert (committed, await stored()) == (["Ann", "Bob"], ["Ann", "Bob"])


async def test_one_that_fails_is_rolled_back(any_worker: Worker, database: Any) -> None:
    """One that fails in a transaction gives the items before the failure, and leaves nothing behind."""
    seen = []
    with pytest.raises(IntegrityError):
        async for name in options(Slacker(create_each, any_worker)("Ann", "Bob", "Ann"), atomic=True):
            seen.append(name)

    assert (seen, committed, await stored()) == (["Ann", "Bob"], [], [])


async def test_one_that_is_left_is_rolled_back(any_worker: Worker, database: Any) -> None:
    """One that is left before its end is rolled back, and its hooks do not run."""
    recipe = options(Slacker(create_each, any_worker)(*[f"{number:080}" for number in range(100_000)]), atomic=True)
    async with aclosing(stream(recipe, chunk_size=1)) as names:
        await names.next_chunk()
    await Slacker(Author, any_worker).objects.count()

    assert (committed, await stored()) == ([], [])


async def test_without_a_transaction_what_was_written_stays(any_worker: Worker, database: Any) -> None:
    """Without a transaction each statement stands for itself."""
    with pytest.raises(IntegrityError):
        [name async for name in Slacker(create_each, any_worker)("Ann", "Ann")]

    assert await stored() == ["Ann"]


@postgresql_only
@away_only
async def test_a_transaction_that_is_left_is_over(any_worker: Worker, many: list[str], backends: Backends) -> None:
    """While a stream in a transaction is read its session is in one, and no longer when it was left."""
    tags = options(Slacker(Tag, any_worker).objects.order_by("name"), atomic=True)
    async with aclosing(stream(tags, chunk_size=1)) as rows:
        await rows.next_chunk()
        if not isinstance(any_worker, DjangoHttpWorker):  # there all of it may have left already
            await eventually(lambda: backends.pids("idle in transaction"))
    await eventually(lambda: backends.pids() == backends.pids("idle"))


async def test_with_atomic_requests(
    tags: Any, many: list[str], database: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ATOMIC_REQUESTS holds for streams as for calls."""
    monkeypatch.setitem(database, "ATOMIC_REQUESTS", True)

    assert len([tag async for tag in tags.select_for_update()]) == ROWS


async def test_a_streamed_batch_in_a_transaction(any_worker: Worker, database: Any) -> None:
    """One that returns exceptions is rolled back if anything failed, as where it is awaited, and else committed."""
    create = Slacker(Author, any_worker).objects.create

    def recipe(name: str, number: str) -> Any:
        both = batch(create(name=name), Slacker(int, any_worker)(number), return_exceptions=True)
        return options(both, atomic=True)

    for name, number, types in (("Fay", "x", [Author, ValueError]), ("Gus", "1", [Author, int])):
        assert [type(item) async for item in stream(recipe(name, number))] == types
    assert {"Fay", "Gus"}.intersection(await stored()) == {"Gus"}


async def test_a_raw_query_prefetches(any_worker: Worker, library: dict[str, Author]) -> None:
    """A raw query that prefetches does so in a stream as well."""
    rows = Slacker(Author, any_worker).objects.raw("SELECT * FROM app_author ORDER BY name").prefetch_related("books")

    async for author in stream(rows):
        assert author._prefetched_objects_cache["books"]
