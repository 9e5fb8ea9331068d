"""Transactions: ATOMIC_REQUESTS holds for chains, and whatever a chain leaves open ends with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction

from slacker import RemoteError, Slacker, Worker, batch, options
from slacker.workers import DjangoThreadWorker
from tests.django.app.models import Author
from tests.django.helpers import postgresql_only, session


@pytest.fixture
def atomic_requests(database: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(database, "ATOMIC_REQUESTS", True)


@pytest.fixture
def names(one_thread: DjangoThreadWorker) -> Any:
    """Return the recipe for the names of all authors, asked for in the thread that other chains used."""
    return Slacker(Author, one_thread).objects.values_list("name", flat=True)


# --- ATOMIC_REQUESTS -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("atomic_requests")
async def test_a_chain_that_fails_is_rolled_back(one_thread: DjangoThreadWorker, names: Any) -> None:
    """With ATOMIC_REQUESTS a chain that fails leaves nothing of what it wrote."""
    with pytest.raises(ZeroDivisionError):
        await Slacker(create_and_fail, one_thread)("Ann")

    assert await names == []


@pytest.mark.usefixtures("atomic_requests")
async def test_a_chain_that_ends_well_is_committed(one_thread: DjangoThreadWorker, names: Any) -> None:
    """With ATOMIC_REQUESTS what a chain wrote is there for others when its result arrives."""
    await Slacker(Author, one_thread).objects.create(name="Ann")

    async with DjangoThreadWorker(max_workers=1) as other:
        assert await Slacker(Author, other).objects.count() == 1


@pytest.mark.usefixtures("atomic_requests")
async def test_rows_are_read_inside_of_the_transaction(authors: Any, library: dict[str, Author]) -> None:
    """A QuerySet that needs a transaction to be read in finds it open: settling belongs to the chain."""
    assert [library["Ann"]] == await authors.select_for_update().filter(name="Ann")


@pytest.mark.usefixtures("atomic_requests")
async def test_items_that_fail_leave_the_others(one_thread: DjangoThreadWorker, names: Any) -> None:
    """With ATOMIC_REQUESTS a batch that returns exceptions keeps what its other items wrote: each has a savepoint."""
    create = Slacker(Author, one_thread).objects.create
    first, second, third = await batch(
        create(name="Ann"), create(name="Ann"), create(name="Bob"), return_exceptions=True
    )

    assert (first.name, type(second), third.name) == ("Ann", IntegrityError, "Bob")
    assert await names.order_by("name") == ["Ann", "Bob"]


async def test_without_it_each_statement_stands_for_itself(one_thread: DjangoThreadWorker, names: Any) -> None:
    """Without ATOMIC_REQUESTS what a chain wrote before it failed stays, as in a view."""
    with pytest.raises(ZeroDivisionError):
        await Slacker(create_and_fail, one_thread)("Ann")

    assert await names == ["Ann"]


@pytest.mark.usefixtures("atomic_requests")
async def test_callbacks_run_when_the_chain_is_committed(one_thread: DjangoThreadWorker) -> None:
    """on_commit callbacks run at the end of the chain that ends well."""
    called: list[str] = []
    await Slacker(create_and_call, one_thread)("Ann", called.append)

    assert called == ["Ann"]


@pytest.mark.usefixtures("atomic_requests")
async def test_callbacks_of_a_chain_that_fails_never_run(one_thread: DjangoThreadWorker) -> None:
    """on_commit callbacks of a chain that failed do not run at its end, nor with the next one."""
    called: list[str] = []
    with pytest.raises(IntegrityError):
        await Slacker(create_twice_and_call, one_thread)("Ann", called.append)
    await Slacker(Author, one_thread).objects.create(name="Bob")

    assert called == []


# --- errors in the work --------------------------------------------------------------------------------------------


async def test_the_work_may_catch_a_database_error(one_thread: DjangoThreadWorker) -> None:
    """An IntegrityError caught around an inner atomic() leaves the rest of the work able to query."""
    assert await Slacker(create_twice_and_catch, one_thread)("Ann") == (1, "caught")


async def test_an_integrity_error_does_not_cost_the_connection(one_thread: DjangoThreadWorker, names: Any) -> None:
    """After a violated constraint the next chain goes on with the same connection."""
    before = await Slacker(session, one_thread)()
    with pytest.raises(IntegrityError):
        await Slacker(create_twice_and_call, one_thread)("Ann", print)

    assert (before, ["Ann"]) == (await Slacker(session, one_thread)(), await names)


# --- left behind ---------------------------------------------------------------------------------------------------


async def test_a_transaction_left_open_is_rolled_back(
    one_thread: DjangoThreadWorker, names: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A transaction that a chain leaves open ends with the chain, and a warning says so."""
    await Slacker(create_in_open_transaction, one_thread)("Ann")

    assert await names == []
    assert caplog.messages == ["a chain left a transaction open on database 'default'; it was rolled back"]


@pytest.mark.usefixtures("atomic_requests")
async def test_so_is_one_inside_of_atomic_requests(
    one_thread: DjangoThreadWorker, names: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A transaction left open inside of that of ATOMIC_REQUESTS takes both down, and says so."""
    await Slacker(create_in_open_transaction, one_thread)("Ann")

    assert await names == []
    assert "left a transaction open" in caplog.text


async def test_autocommit_left_off_is_rolled_back(one_thread: DjangoThreadWorker, names: Any) -> None:
    """What a chain wrote with autocommit off and did not commit is gone."""
    await Slacker(create_without_autocommit, one_thread)("Ann")

    assert await names == []


async def test_with_autocommit_off_nothing_is_left_for_the_next(
    one_thread: DjangoThreadWorker, names: Any, database: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the setting AUTOCOMMIT off, what a chain has not committed is rolled back when it ends."""
    monkeypatch.setitem(database, "AUTOCOMMIT", False)
    with pytest.raises(ZeroDivisionError):
        await Slacker(create_and_fail, one_thread)("Ann")
    await Slacker(transaction, one_thread).commit()
    assert await names == []

    await Slacker(create_and_commit, one_thread)("Bob")
    assert await names == ["Bob"]


@postgresql_only
async def test_with_autocommit_off_a_connection_that_broke_is_replaced(
    one_thread: DjangoThreadWorker, names: Any, database: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be rolled back, as the connection is gone, is no failure of the next chain."""
    monkeypatch.setitem(database, "AUTOCOMMIT", False)
    with pytest.raises(OperationalError):
        await Slacker(end_session, one_thread)()

    assert await names == []


def end_session() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def create_and_commit(name: str) -> None:
    Author.objects.create(name=name)
    transaction.commit()


def create_in_open_transaction(name: str) -> None:
    transaction.atomic().__enter__()
    Author.objects.create(name=name)


def create_without_autocommit(name: str) -> None:
    transaction.set_autocommit(False)
    Author.objects.create(name=name)


LEAVINGS = pytest.mark.parametrize("leave", [create_in_open_transaction, create_without_autocommit])


@LEAVINGS
async def test_what_is_left_holds_up_nobody(one_thread: DjangoThreadWorker, leave: Callable[[str], None]) -> None:
    """An open transaction ends with its chain, not with the thread's next one: its locks are free."""
    await Slacker(leave, one_thread)("Ann")

    async with DjangoThreadWorker(max_workers=1) as other:
        assert (await Slacker(Author, other).objects.create(name="Ann")).name == "Ann"


@LEAVINGS
async def test_the_thread_is_not_poisoned(
    one_thread: DjangoThreadWorker, names: Any, leave: Callable[[str], None]
) -> None:
    """After a chain that left a transaction open the same thread commits what the next chain writes."""
    await Slacker(leave, one_thread)("Ann")
    await Slacker(Author, one_thread).objects.create(name="Bob")

    async with DjangoThreadWorker(max_workers=1) as other:
        assert await Slacker(Author, other).objects.filter(name="Bob").count() == 1


@postgresql_only
@pytest.mark.usefixtures("pooled")
@LEAVINGS
async def test_the_pool_is_not_poisoned(
    one_thread: DjangoThreadWorker, names: Any, leave: Callable[[str], None]
) -> None:
    """A connection that goes back to psycopg's pool in a transaction comes from there without it."""
    await Slacker(leave, one_thread)("Ann")
    await Slacker(Author, one_thread).objects.create(name="Bob")

    assert await names == ["Bob"]


# --- work ----------------------------------------------------------------------------------------------------------


def create_and_fail(name: str) -> None:
    Author.objects.create(name=name)
    raise ZeroDivisionError


def create_and_call(name: str, callback: Callable[[str], None]) -> None:
    transaction.on_commit(lambda: callback(name))
    Author.objects.create(name=name)


def create_twice_and_call(name: str, callback: Callable[[str], None]) -> None:
    Author.objects.create(name=name)
    transaction.on_commit(lambda: callback(name))
    Author.objects.create(name=name)


def create_twice_and_catch(name: str) -> tuple[int, str]:
    with transaction.atomic():
        Author.objects.create(name=name)
        try:
            with transaction.atomic():
                Author.objects.create(name=name)
        except IntegrityError:
            return Author.objects.count(), "caught"
    raise AssertionError("the name is unique")


# --- results that cannot leave -------------------------------------------------------------------------------------


remote = pytest.mark.parametrize("any_worker", ["http", "processes"], indirect=True)


@remote
async def test_a_result_that_cannot_leave_undoes_the_work(any_worker: Worker) -> None:
    """All or nothing: what a transaction wrote whose result cannot be pickled is rolled back."""
    create = Slacker(Author, any_worker).objects.create(name="Ann")
    with pytest.raises(RemoteError, match="the result, a lock, cannot be pickled"):
        await options(batch(create, Slacker(threading.Lock, any_worker)()), atomic=True)

    assert await Slacker(Author, any_worker).objects.count() == 0


@remote
async def test_so_it_does_where_exceptions_are_returned(any_worker: Worker) -> None:
    """An item whose result cannot be pickled has failed, which undoes a transaction; and without one only itself."""
    items = Slacker(Author, any_worker).objects.create(name="Ann"), Slacker(threading.Lock, any_worker)()
    ann, failure = await options(batch(*items, return_exceptions=True), atomic=True)

    assert (ann.name, type(failure)) == ("Ann", RemoteError)
    assert await Slacker(Author, any_worker).objects.count() == 0

    await batch(*items, return_exceptions=True)

    assert await Slacker(Author, any_worker).objects.count() == 1


@remote
@pytest.mark.usefixtures("database")
async def test_rows_that_are_read_on_the_way_out_are_read_inside(any_worker: Worker) -> None:
    """What pickling reads, a QuerySet that hangs on an object, it reads inside of the transaction."""
    held = await options(Slacker(hold_locked_rows, any_worker)(), atomic=True)

    assert list(held.rows) == []


class Held:
    rows: Any = None


def hold_locked_rows() -> Held:
    held = Held()
    held.rows = Author.objects.select_for_update()  # which needs a transaction
    return held


# --- what has no transaction ---------------------------------------------------------------------------------------


@transaction.non_atomic_requests
def in_no_transaction() -> bool:
    return connection.in_atomic_block


@pytest.mark.usefixtures("atomic_requests")
async def test_functions_are_spared_as_views_are(one_thread: DjangoThreadWorker) -> None:
    """With ATOMIC_REQUESTS a function that is marked for it runs in no transaction, as a view would."""
    assert await Slacker(in_no_transaction, one_thread)() is False


async def test_a_database_without_autocommit_is_refused(
    database: dict[str, Any], one_thread: DjangoThreadWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Django's own atomic() would commit nothing, no transaction can be asked for."""
    monkeypatch.setitem(database, "AUTOCOMMIT", False)
    with pytest.raises(ValueError, match="AUTOCOMMIT off"):
        options(Slacker(Author, one_thread).objects.create(name="Ann"), atomic=True)
