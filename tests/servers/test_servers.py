"""Calls through the hook of real servers: each kind of server, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest

from slacker import Slacker
from slacker.wire import Answers, Kind, RemoteTraceback
from slacker.workers import DjangoHttpWorker

from .project import work


async def test_get(library: DjangoHttpWorker) -> None:
    """An instance comes back with its fields."""
    from .project.models import Book

    book = await Slacker(Book, library).objects.get(title="Bread")
    assert (Book, "Bread", 600) == (type(book), book.title, book.pages)


async def test_filter(library: DjangoHttpWorker) -> None:
    """A QuerySet comes back as a list, with what was selected along."""
    from .project.models import Book

    books = await Slacker(Book, library).objects.select_related("author").filter(pages__lt=500).order_by("title")
    assert [(book.title, book.author.name) for book in books] == [("Ashes", "Ann"), ("Clouds", "Bob")]


async def test_create(library: DjangoHttpWorker) -> None:
    """What one call creates, another one finds."""
    from .project.models import Author

    created = await Slacker(Author, library).objects.create(name="Cid")
    assert created == await Slacker(Author, library).objects.get(name="Cid")


async def test_values(library: DjangoHttpWorker) -> None:
    """Rows as dicts come back as a list of dicts."""
    from .project.models import Author

    rows = await Slacker(Author, library).objects.order_by("name").values("name")
    assert rows == [{"name": "Ann"}, {"name": "Bob"}]


async def test_exception(library: DjangoHttpWorker) -> None:
    """An exception of the work comes back as itself, with a note that names the step and the server's traceback."""
    from .project.models import Author

    with pytest.raises(Author.DoesNotExist, match="Author matching query does not exist") as caught:
        await Slacker(Author, library).objects.get(name="Zoe")
    assert caught.value.__notes__ == ["slacker: at step 3, .get, of Author.objects.get(...)"]
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "django/db/models/query.py" in str(caught.value.__cause__)


async def test_long_result(worker: DjangoHttpWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long list comes back whole, in frames that are decoded one by one."""
    kinds = []
    take = Answers.take

    def spy(self: Answers, kind: int, chain: int, payload: bytes) -> None:
        kinds.append(kind & ~Kind.LAST)
        take(self, kind, chain, payload)

    monkeypatch.setattr(Answers, "take", spy)
    rows = [(number, "x" * 100) for number in range(5_000)]
    assert rows == await Slacker(work.echo, worker)(rows)
    assert kinds.count(Kind.CHUNK) == 10


async def test_large_argument(worker: DjangoHttpWorker) -> None:
    """An argument of 5 MB, twice what Django takes of a form, goes through."""
    assert await Slacker(work.size, worker)(b"x" * 5_000_000) == 5_000_000


async def test_many_calls_at_once(library: DjangoHttpWorker) -> None:
    """Fifty calls at once each get their own answer."""
    from .project.models import Book

    titles = ["Ashes", "Bread", "Clouds"] * 17
    books = await asyncio.gather(*[Slacker(Book, library).objects.get(title=title).fetch() for title in titles])
    assert titles == [book.title for book in books]
