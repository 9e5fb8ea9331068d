"""Several recipes in one trip on Django's workers, and all of them in one transaction."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.paginator import Page, Paginator
from django.db import IntegrityError, connection, transaction

from slacker import Slacker, Worker, batch, options, wire
from slacker.chain import Chain, Options
from slacker.django_backend.caller import Caller
from slacker.django_backend.scope import perform
from slacker.django_backend.testing import InlineWorker
from slacker.outcome import Error
from slacker.wire import replies
from slacker.workers import DjangoHttpWorker, DjangoThreadWorker, ThreadWorker
from tests.django.app.models import Author, Book, Tag
from tests.django.helpers import HookServer, away_only

committed: list[str] = []
"""What on_commit hooks were called with, whichever thread ran them."""


class Pause:
    """Where work waits until the test lets it go on."""

    def __init__(self) -> None:
        self.reached, self._may_go_on = threading.Event(), threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self._may_go_on.wait(30)  # liveness bound

    def end(self) -> None:
        self._may_go_on.set()


pause = Pause()


@pytest.fixture(autouse=True)
def _afresh() -> None:
    committed.clear()
    pause.__init__()  # type: ignore[misc]  # the work knows this very object


def wait() -> None:
    pause.wait()


def create_with_hook(name: str) -> Author:
    transaction.on_commit(lambda: committed.append(name))
    return Author.objects.create(name=name)


def commits() -> list[str]:
    return [*committed]


def depth() -> tuple[bool, int]:
    """Return whether the work is in a transaction, and how deep."""
    return connection.in_atomic_block, len(connection.savepoint_ids)


def create_in_transaction_that_fails(name: str) -> str:
    try:
        with transaction.atomic():
            Author.objects.create(name=name)
            raise ZeroDivisionError
    except ZeroDivisionError:
        return "rolled back"


def authors_of(worker: Worker) -> Any:
    return Slacker(Author, worker).objects


async def stored() -> list[str]:
    """Return the names that the database has, over the test's own connection."""
    return await authors_of(InlineWorker()).values_list("name", flat=True)


# --- results -------------------------------------------------------------------------------------------------------


async def test_items_are_settled(any_worker: Worker, library: dict[str, Author]) -> None:
    """QuerySets among the items become lists, and pages get theirs, as when they are asked for alone."""
    authors = authors_of(any_worker)
    page = Slacker(Paginator, any_worker)(authors.all(), 1).page(2)
    every, names, count, second = await batch(authors.all(), authors.values_list("name"), authors.count(), page)

    assert (every, names, count) == ([library["Ann"], library["Bob"]], [("Ann",), ("Bob",)], 2)
    assert (type(every), type(second), type(second.object_list)) == (list, Page, list)
    assert second.object_list == [library["Bob"]]


async def test_is_one_request(hook: HookServer, http_worker: DjangoHttpWorker, library: dict[str, Author]) -> None:
    """A batch is one request, however many items it has."""
    authors = authors_of(http_worker)

    assert await batch(*[authors.get(name=name) for name in ("Ann", "Bob") * 10]) == [*library.values()] * 10
    assert hook.requests == 1


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (lambda authors: authors, "add .all()"),
        (lambda authors: authors.acount(), "use the blocking method"),
        (lambda authors: authors.iterator(), "a generator"),
    ],
    ids=["manager", "awaitable", "generator"],
)
async def test_what_is_no_result(
    any_worker: Worker, library: dict[str, Author], record: Callable[[Any], Any], message: str
) -> None:
    """An item that gives no result is refused, and the note tells which it is."""
    authors = authors_of(any_worker)
    with pytest.raises(TypeError, match=message) as caught:
        await batch(authors.count(), record(authors), authors.count())

    (note,) = caught.value.__notes__
    assert note.endswith("; it is item 2 of 3: 1 ran before it, 1 did not run")


async def test_an_argument_that_is_no_result(any_worker: Worker, library: dict[str, Author]) -> None:
    """An item that was an argument before, where it was of use, is named as what it is when it is refused."""
    manager = Slacker(Author, any_worker).objects
    with pytest.raises(TypeError, match=r"add \.all\(\)") as caught:
        await batch(Slacker(str, any_worker)(manager), manager)

    (note,) = caught.value.__notes__
    assert note.startswith("slacker: at step 1, .objects, of Author.objects, in batch(")


async def test_results_are_arguments(any_worker: Worker, library: dict[str, Author], statements: list[str]) -> None:
    """The result of one item is an argument of others, and was asked for once."""
    ann = authors_of(any_worker).get(name="Ann")
    books = Slacker(Book, any_worker).objects
    statements.clear()
    author, titles, count = await batch(
        ann, books.filter(author=ann).values_list("title", flat=True), books.exclude(author=ann).count()
    )

    assert (author, titles, count) == (library["Ann"], ["Ashes", "Bread"], 1)
    assert len([sql for sql in statements if "SELECT" in sql]) == 3


async def test_a_queryset_as_item_and_argument(any_worker: Worker, library: dict[str, Author]) -> None:
    """A QuerySet that is an item and an argument is a list as the one and a subquery as the other."""
    hers = authors_of(any_worker).filter(name="Ann")

    assert await batch(hers, Slacker(Book, any_worker).objects.filter(author__in=hers).count()) == [[library["Ann"]], 2]


async def test_return_exceptions(any_worker: Worker, library: dict[str, Author]) -> None:
    """With return_exceptions what an item raised stands in its place, with its note, and the others ran."""
    authors = authors_of(any_worker)
    found, failed, count = await batch(authors.all(), authors.get(name="Zoe"), authors.count(), return_exceptions=True)

    assert (found, count) == ([library["Ann"], library["Bob"]], 2)
    assert type(failed) is Author.DoesNotExist
    assert failed.__notes__[0].startswith("slacker: at step 3, .get, of Author.objects.get(...), in batch(")


async def test_exceptions_are_settled_too(any_worker: Worker, library: dict[str, Author]) -> None:
    """With return_exceptions an item that gives no result is such an exception."""
    authors = authors_of(any_worker)
    refused, names = await batch(authors, authors.values_list("name", flat=True), return_exceptions=True)

    assert (type(refused), names) == (TypeError, ["Ann", "Bob"])


async def test_steps_on_a_batch(any_worker: Worker, library: dict[str, Author]) -> None:
    """A batch is a recipe like others: steps on it find the list of what the items give."""
    authors = authors_of(any_worker)

    assert await batch(authors.count(), authors.filter(name="Bob"))[1] == [library["Bob"]]


@pytest.fixture
def many_tags(database: Any) -> None:
    """Fill the database with 5 000 rows."""
    Tag.objects.bulk_create([Tag(name=f"{number:080}") for number in range(5000)])


@pytest.mark.usefixtures("many_tags")
async def test_long_items_come_in_chunks(http_worker: DjangoHttpWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of several long items crosses in frames of bounded size."""
    frames: list[tuple[int, int]] = []
    take = wire.Answers.take

    def spy(self: wire.Answers, kind: int, answer: int, payload: bytes) -> None:
        frames.append((answer, len(payload)))
        take(self, kind, answer, payload)

    monkeypatch.setattr(wire.Answers, "take", spy)
    tags = Slacker(Tag, http_worker).objects.order_by("pk")
    rows, count, values = await batch(tags, tags.count(), tags.values_list("name", flat=True))

    assert ([tag.name for tag in rows], count) == (values, 5000)
    assert max(size for _, size in frames) <= replies.CHUNK_BYTES
    assert [[answer for answer, _ in frames].count(number) for number in range(3)] == [10, 1, 10]


# --- in one transaction --------------------------------------------------------------------------------------------


async def test_all_or_nothing(any_worker: Worker, database: Any) -> None:
    """A batch whose third item fails in a transaction leaves no row behind."""
    create = authors_of(any_worker).create
    with pytest.raises(IntegrityError) as caught:
        await options(
            batch(create(name="Ann"), create(name="Bob"), create(name="Ann"), create(name="Zoe")), atomic=True
        )

    assert await stored() == []
    assert caught.value.__notes__[-1].endswith("; it is item 3 of 4: 2 ran before it, 1 did not run")


async def test_all(any_worker: Worker, database: Any) -> None:
    """A batch that ends well is committed as a whole."""
    create = authors_of(any_worker).create
    await options(batch(create(name="Ann"), create(name="Bob")), atomic=True)

    assert await stored() == ["Ann", "Bob"]


async def test_without_it_what_ran_stays(any_worker: Worker, database: Any) -> None:
    """Without a transaction what ran before the failure stays."""
    create = authors_of(any_worker).create
    with pytest.raises(IntegrityError):
        await batch(create(name="Ann"), create(name="Ann"))

    assert await stored() == ["Ann"]


async def test_any_recipe_may_have_one(any_worker: Worker, database: Any) -> None:
    """A recipe that is no batch has its nested recipes and its own steps in one transaction."""
    create = authors_of(any_worker).create
    inner = create(name="Ann")
    with pytest.raises(IntegrityError):
        await options(
            Slacker(Book, any_worker).objects.create(author=inner, title=create(name="Ann").name), atomic=True
        )

    assert await stored() == []


@pytest.mark.parametrize(("atomic", "inside"), [(True, True), ("default", True), (False, False)])
async def test_which_database(any_worker: Worker, database: Any, atomic: bool | str, inside: bool) -> None:
    """True is the default database, an alias that one; False takes the option back."""
    recipe = options(Slacker(depth, any_worker)(), atomic=True)

    assert await options(recipe, atomic=atomic) == (inside, 0)


async def test_an_unknown_alias(any_worker: Worker) -> None:
    """An alias that there is not is a ValueError when it is written down, and names those there are."""
    with pytest.raises(ValueError, match="a database 'defautl', which there is not; there are 'default'"):
        options(authors_of(any_worker).count(), atomic="defautl")


async def test_an_alias_that_the_far_side_does_not_know(database: Any) -> None:
    """A caller whose databases differ gets the same ValueError from the far side, and nothing ran."""
    chain = Chain(committed, (), options=Options(atomic="other"))
    outcome = perform(chain, Caller.current(), own_thread=False)

    assert isinstance(outcome, Error)
    assert (type(outcome.exception), outcome.step) == (ValueError, 0)


def test_workers_without_databases() -> None:
    """A worker that knows no Django refuses a transaction at once."""
    with pytest.raises(ValueError, match="needs a worker that replays in Django"):
        options(Slacker(len, ThreadWorker(max_workers=1))(()), atomic=True)


async def test_nobody_named_a_worker() -> None:
    """Without a worker it may be written down, and fails when it is run."""
    recipe = options(Slacker(len)(()), atomic=True)
    with pytest.raises(ValueError, match="needs a worker that replays in Django"):
        await recipe


async def test_hooks_run_there_when_all_is_committed(any_worker: Worker, database: Any) -> None:
    """on_commit hooks run on the far side when the whole batch is committed, not before."""
    create = Slacker(create_with_hook, any_worker)
    *_, before = await options(batch(create("Ann"), create("Bob"), Slacker(commits, any_worker)()), atomic=True)

    assert (before, committed) == ([], ["Ann", "Bob"])


async def test_hooks_of_what_failed_never_run(any_worker: Worker, database: Any) -> None:
    """on_commit hooks of a batch that failed do not run, nor with the next one."""
    create = Slacker(create_with_hook, any_worker)
    with pytest.raises(IntegrityError):
        await options(batch(create("Ann"), create("Ann")), atomic=True)
    await options(batch(create("Bob")), atomic=True)

    assert committed == ["Bob"]


async def test_a_returned_exception_rolls_back_too(any_worker: Worker, database: Any) -> None:
    """With return_exceptions all items are answered for, and one that failed takes back what all of them wrote."""
    create = Slacker(create_with_hook, any_worker)
    results = await options(
        batch(create("Ann"), Slacker(int, any_worker)("x"), create("Bob"), return_exceptions=True), atomic=True
    )

    assert [type(result) for result in results] == [Author, ValueError, Author]
    assert (await stored(), committed) == ([], [])


async def test_returned_exceptions_that_there_are_not(any_worker: Worker, database: Any) -> None:
    """With return_exceptions and none to return the batch is committed."""
    create = authors_of(any_worker).create
    await options(batch(create(name="Ann"), create(name="Bob"), return_exceptions=True), atomic=True)

    assert await stored() == ["Ann", "Bob"]


async def test_results_are_settled_inside_of_it(any_worker: Worker, library: dict[str, Author]) -> None:
    """A QuerySet that has to be read in a transaction is."""
    assert await options(authors_of(any_worker).select_for_update(), atomic=True) == [*library.values()]


async def test_inner_transactions_are_savepoints(any_worker: Worker, database: Any) -> None:
    """What the work rolls back itself is gone, and the rest of the batch is committed."""
    create, fail = authors_of(any_worker).create, Slacker(create_in_transaction_that_fails, any_worker)
    await options(batch(create(name="Ann"), fail("Bob"), create(name="Zoe")), atomic=True)

    assert await stored() == ["Ann", "Zoe"]


async def test_with_atomic_requests(
    any_worker: Worker, database: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where ATOMIC_REQUESTS holds already there is the one transaction."""
    monkeypatch.setitem(database, "ATOMIC_REQUESTS", True)
    create = authors_of(any_worker).create
    with pytest.raises(IntegrityError):
        await options(batch(create(name="Ann"), create(name="Ann")), atomic=True)

    assert await stored() == []
    assert await options(Slacker(depth, any_worker)(), atomic=True) == (True, 0)


@away_only
async def test_nothing_comes_in_between(any_worker: Worker, database: Any) -> None:
    """While a batch runs in its transaction nobody sees what it has written; afterwards all of it is there."""
    create = authors_of(any_worker).create
    whole = options(batch(create(name="Ann"), Slacker(wait, any_worker)(), create(name="Bob")), atomic=True).fetch()
    await asyncio.to_thread(pause.reached.wait, 30)  # liveness bound
    async with DjangoThreadWorker(max_workers=1) as other:
        count = authors_of(other).count()
        meanwhile = await count
        pause.end()
        await whole

        assert (meanwhile, await count) == (0, 2)


async def test_nothing_comes_in_between_in_its_thread(one_thread: DjangoThreadWorker, database: Any) -> None:
    """What the same thread is asked for meanwhile follows after the end of the batch."""
    create = Slacker(create_with_hook, one_thread)
    whole = options(batch(create("Ann"), Slacker(wait, one_thread)(), create("Bob")), atomic=True).fetch()
    await asyncio.to_thread(pause.reached.wait, 30)  # liveness bound
    following = Slacker(commits, one_thread)().fetch()
    pause.end()

    await whole
    assert await following == ["Ann", "Bob"]
