"""`options(q, timeout=...)` on Django's workers: what is late never begins, what runs holds up nobody for long."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.test import override_settings

from slacker import DeadlineExceeded, Slacker, Worker, batch, options, run, stream
from slacker.django_backend.testing import InlineWorker
from slacker.django_backend.transactions import Deadline, enter_transactions
from slacker.workers import DjangoHttpWorker, DjangoThreadWorker
from tests.django.app.models import Author
from tests.django.helpers import Backends, HookServer, away_only, postgresql_only, sqlite_only
from tests.http.servers import AUDIENCE, KEY
from tests.waiting import eventually

SHORT = 0.25
"""Seconds that pass while the test waits for them."""
LONG = 30.0
"""Seconds that never pass."""

began: list[str] = []
"""The calls that began, in whichever thread."""
gate = threading.Event()
"""Opens for work that waits."""
door = threading.Event()
"""Another one."""


@pytest.fixture(autouse=True)
def _gate() -> Iterator[None]:
    """Close the gate before the test, and open it after, before workers are closed."""
    gate.clear()
    door.clear()
    began.clear()
    yield
    gate.set()
    door.set()


def wait_and_begin(name: str) -> str:
    began.append(name)
    assert gate.wait(LONG)  # liveness bound
    return name


def wait_at_the_door() -> None:
    assert door.wait(LONG)  # liveness bound


def execute(statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def execute_each(statements: list[str]) -> None:
    for statement in statements:
        execute(statement)


def create_and_catch(name: str) -> list[Any]:
    Author.objects.create(name=name)
    within = in_transaction()
    try:
        Author.objects.create(name=name)
    except IntegrityError:
        return [within, "caught"]
    raise AssertionError("the name is unique")


def create_and_heal(name: str, other: str) -> int:
    Author.objects.create(name=name)
    with contextlib.suppress(IntegrityError), transaction.atomic():
        Author.objects.create(name=name)
    Author.objects.create(name=other)
    return Author.objects.count()


def in_transaction() -> bool:
    return connection.in_atomic_block


def now() -> int:
    return time.time_ns() // 1_000_000


async def assert_late(recipe: Any, executed: bool | None) -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        await recipe
    assert caught.value.executed is executed


# --- threads -------------------------------------------------------------------------------------------------------


async def test_what_waits_never_begins(one_thread: DjangoThreadWorker) -> None:
    """A call whose time passes while it waits for a thread fails, and never runs."""
    waiting = Slacker(wait_and_begin, one_thread)
    first = waiting("first").fetch()
    await assert_late(options(waiting("second"), timeout=SHORT), executed=False)
    gate.set()
    await first
    await waiting("third")

    assert began == ["first", "third"]


async def test_what_runs_goes_on_alone(one_thread: DjangoThreadWorker) -> None:
    """A call whose time passes while it runs frees its caller; whether it ends well nobody knows."""
    waiting = Slacker(wait_and_begin, one_thread)
    await assert_late(options(waiting("first"), timeout=SHORT), executed=None)
    gate.set()

    assert await waiting("second") == "second"
    assert began == ["first", "second"]


async def test_the_thread_is_freed_of_what_is_late_in_a_transaction(one_thread: DjangoThreadWorker) -> None:
    """One in a transaction goes on to its end, too, and the connection is usable afterwards."""
    create = Slacker(Author, one_thread).objects.create(name="Ann")
    await assert_late(
        options(batch(create, Slacker(wait_and_begin, one_thread)("x")), atomic=True, timeout=SHORT), executed=None
    )
    gate.set()

    assert await Slacker(Author, one_thread).objects.count() == 1


async def test_time_that_suffices(any_worker: Worker, library: dict[str, Author]) -> None:
    """A call that is done in time is not touched, and leaves no timer behind."""
    assert await options(Slacker(Author, any_worker).objects.count(), timeout=LONG) == 2


# --- HTTP ----------------------------------------------------------------------------------------------------------


async def test_what_waits_for_a_connection_is_never_sent(hook: HookServer) -> None:
    """A call whose time passes before there is a connection free is not sent."""
    async with DjangoHttpWorker(hook.url, key=KEY, audience=AUDIENCE, max_connections=1) as worker:
        waiting = Slacker(wait_and_begin, worker)
        first = waiting("first").fetch()
        await eventually(lambda: began)
        await assert_late(options(waiting("second"), timeout=SHORT), executed=False)
        gate.set()
        await first

    assert (began, hook.requests) == (["first"], 1)


async def test_the_workers_own_limit_is_replaced(hook: HookServer) -> None:
    """The time limit of the call stands in the place of the worker's, whichever is shorter."""
    async with DjangoHttpWorker(hook.url, key=KEY, audience=AUDIENCE, timeout=SHORT) as worker:
        recipe = Slacker(wait_and_begin, worker)("first")
        await assert_late(recipe, executed=None)
        call = options(recipe, timeout=LONG).fetch()
        gate.set()

        assert await call == "first"


@pytest.fixture
def full(hook: HookServer) -> Callable[[], int]:
    """Let the server be busy, so that requests wait there until the gate opens; return how many wait or did."""
    answer, arrived = hook.application, []

    def answer_later(environ: Any, start_response: Any) -> Any:
        arrived.append(environ)
        assert gate.wait(LONG)  # liveness bound
        return answer(environ, start_response)

    hook.application = answer_later
    return lambda: len(arrived)


async def test_what_waits_in_the_server_never_begins(
    hook: HookServer, http_worker: DjangoHttpWorker, full: Callable[[], int]
) -> None:
    """The deadline goes along: a request that waited for a full server for longer does nothing there."""
    gate.set()
    await Slacker(wait_and_begin, http_worker)("first")  # and the client is ready
    gate.clear()
    late = options(Slacker(wait_and_begin, http_worker)("late"), timeout=10 * SHORT)
    await assert_late(late, executed=None)
    assert full() == 2
    gate.set()
    await eventually(lambda: not hook.busy)

    assert await Slacker(wait_and_begin, http_worker)("in time") == "in time"
    assert began == ["first", "in time"]


async def test_what_waits_behind_others_of_its_request(hook: HookServer) -> None:
    """Of calls that share a request each has its own deadline: one that passes while others run never begins."""
    async with DjangoHttpWorker(hook.url, key=KEY, audience=AUDIENCE, max_connections=1) as worker:
        waiting, until_then = Slacker(wait_and_begin, worker), Slacker(wait_at_the_door, worker)().fetch()
        await eventually(lambda: hook.busy)
        second, third = waiting("second").fetch(), options(waiting("third"), timeout=2 * SHORT).fetch()
        door.set()
        await until_then
        await eventually(lambda: began)
        await assert_late(third, executed=None)
        gate.set()
        await second

    assert (began, hook.requests) == (["second"], 2)


@pytest.mark.parametrize("ahead", [30_000, -30_000])
async def test_clocks_that_differ(database: Any, ahead: int) -> None:
    """A server whose clock is half a minute off serves calls with a time limit shorter than that, once each."""
    with HookServer(now=lambda: now() + ahead) as hook:
        async with DjangoHttpWorker(hook.url, key=KEY, audience=AUDIENCE) as worker:
            gate.set()
            for number in range(3):
                assert await options(Slacker(wait_and_begin, worker)(f"{number}"), timeout=10) == f"{number}"

    assert began == ["0", "1", "2"]
    assert hook.requests == (4 if ahead > 0 else 3)


async def test_what_is_late_by_both_clocks(database: Any) -> None:
    """A server whose clock is ahead, and that is slow besides, does not run what is late by its caller's clock."""
    with HookServer(now=lambda: now() + 30_000) as hook:
        async with DjangoHttpWorker(hook.url, key=KEY, audience=AUDIENCE) as worker:
            gate.set()
            await options(Slacker(wait_and_begin, worker)("in time"), timeout=10)
            gate.clear()
            answer = hook.application

            def answer_later(environ: Any, start_response: Any) -> Any:
                assert gate.wait(LONG)  # liveness bound
                return answer(environ, start_response)

            hook.application = answer_later
            await assert_late(options(Slacker(wait_and_begin, worker)("late"), timeout=SHORT), executed=None)
            gate.set()
            await eventually(lambda: not hook.busy)

    assert began == ["in time"]


# --- statements ----------------------------------------------------------------------------------------------------


@pytest.fixture
def limited() -> Iterator[None]:
    """Limit statements, too."""
    with override_settings(SLACKER_STATEMENT_TIMEOUT=True):
        yield


@postgresql_only
@away_only
@pytest.mark.usefixtures("limited")
async def test_the_database_ends_the_statement(any_worker: Worker, backends: Backends) -> None:
    """With SLACKER_STATEMENT_TIMEOUT a query does not outlive its caller: PostgreSQL ends it; the next one works."""
    asleep = options(Slacker(execute, any_worker)("SELECT pg_sleep(30)"), timeout=0.5).fetch()
    await eventually(lambda: backends.pids("active"))
    with pytest.raises(DeadlineExceeded):
        await asleep
    await eventually(lambda: backends.pids() == backends.pids("idle"))  # a server's goes with the connection to it

    assert await options(Slacker(execute, any_worker)("SELECT 1"), timeout=LONG) == 1


@postgresql_only
@pytest.mark.usefixtures("limited", "database")
async def test_whoever_waits_is_told() -> None:
    """A statement that was ended at the deadline is a DeadlineExceeded of work that had begun, its cause at hand."""
    with pytest.raises(DeadlineExceeded, match="the database ended the statement") as caught:
        await options(Slacker(execute, InlineWorker())("SELECT pg_sleep(30)"), timeout=0.2)

    assert caught.value.executed is True
    assert isinstance(caught.value.__cause__, OperationalError)


def slow_items(count: int) -> Iterator[int]:
    for number in range(count):
        execute("SELECT pg_sleep(0.1)")
        yield number


@postgresql_only
@away_only
@pytest.mark.usefixtures("limited")
async def test_each_chunk_has_the_whole_time(any_worker: Worker) -> None:
    """The limit of a stream is one of each chunk: statements of the later ones have as long as those of the first."""
    recipe = options(Slacker(slow_items, any_worker)(40), timeout=3)

    assert [item async for item in stream(recipe, chunk_size=2)] == list(range(40))


@postgresql_only
@pytest.mark.usefixtures("limited", "database")
async def test_so_is_whoever_streams(caplog: pytest.LogCaptureFixture) -> None:
    """The same holds for the statement of a stream, and nothing is logged of it."""
    with pytest.raises(DeadlineExceeded, match="the database ended the statement") as caught:
        async for _ in options(Slacker(execute, InlineWorker())("SELECT pg_sleep(30)"), timeout=0.2):
            raise AssertionError("there are no items")

    assert caught.value.executed is True
    assert caplog.records == []


@postgresql_only
@pytest.mark.usefixtures("limited", "database")
async def test_other_reasons_to_end_a_statement() -> None:
    """A statement that the database ends long before the deadline, because of a limit of its own, fails as it does."""
    worker = InlineWorker()
    recipe = batch(
        Slacker(execute, worker)("SELECT set_config('statement_timeout', '1', true)"),
        Slacker(execute, worker)("SELECT pg_sleep(30)"),
    )
    with pytest.raises(OperationalError, match="statement timeout"):
        await options(recipe, timeout=LONG, atomic=True)


@postgresql_only
@away_only
@pytest.mark.usefixtures("limited")
async def test_each_statement_ends_then(any_worker: Worker, backends: Backends) -> None:
    """Work of several statements is ended at the deadline, too: each has what is left, not all of it once more."""
    with pytest.raises(DeadlineExceeded):
        await options(Slacker(execute_each, any_worker)(["SELECT pg_sleep(0.4)"] * 75), timeout=1)
    begun = time.monotonic()
    await eventually(lambda: backends.pids() == backends.pids("idle"))

    assert time.monotonic() - begun < 10  # liveness bound: ended at once, where all of it would take half a minute


@postgresql_only
@pytest.mark.usefixtures("limited")
async def test_statements_stand_for_themselves(any_worker: Worker, database: Any) -> None:
    """A limit makes no transaction of the work: what was written before an error that is caught stays."""
    assert await options(Slacker(create_and_catch, any_worker)("Ann"), timeout=LONG) == [False, "caught"]
    assert await Slacker(Author, any_worker).objects.count() == 1


@postgresql_only
@pytest.mark.usefixtures("limited")
async def test_a_statement_that_fails_in_a_transaction(any_worker: Worker, database: Any) -> None:
    """Inside of a transaction a savepoint heals what has failed, as without a limit."""
    call = Slacker(create_and_heal, any_worker)("Ann", "Bob")

    assert await options(call, timeout=LONG, atomic=True) == 2
    assert await Slacker(Author, any_worker).objects.count() == 2


@postgresql_only
@pytest.mark.usefixtures("limited")
async def test_a_database_that_is_not_used(
    one_thread: DjangoThreadWorker, database: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that a call does not ask for need not be there."""
    monkeypatch.setitem(connections.settings, "away", {**database, "HOST": "127.0.0.1", "PORT": "1"})

    assert await options(Slacker(execute, one_thread)("SELECT 1"), timeout=LONG) == 1


@postgresql_only
@pytest.mark.usefixtures("limited", "database")
async def test_the_limit_ends_in_a_transaction_that_goes_on() -> None:
    """In the transaction of a test case, which outlives the call, the limit that was there is in force again."""
    show = "SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'"

    def call() -> int:
        return asyncio.run(run(options(Slacker(execute, InlineWorker())(show), timeout=10)))

    def inside() -> tuple[int, int]:
        try:
            with transaction.atomic():
                return call(), execute(show)
        finally:
            connections.close_all()

    limited, after = await asyncio.to_thread(inside)

    assert limited <= 10_000 < after == 60_000


@postgresql_only
@pytest.mark.usefixtures("limited")
async def test_the_limit_is_the_time_that_is_left(any_worker: Worker) -> None:
    """What is left until the deadline limits each statement, and the limit ends with the call."""
    show = Slacker(execute, any_worker)("SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'")

    assert 0 < await options(show, timeout=10) <= 10_000
    # As the tests' database has it; over HTTP each call has a deadline.
    assert 10_000 < await show <= (20_000 if isinstance(any_worker, DjangoHttpWorker) else 60_000)


@postgresql_only
async def test_without_the_setting_nothing_is_limited(any_worker: Worker) -> None:
    """Without SLACKER_STATEMENT_TIMEOUT statements have no limit of ours."""
    show = Slacker(execute, any_worker)("SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'")

    assert await options(show, timeout=20) == 60_000


@postgresql_only
@pytest.mark.usefixtures("limited", "database")
def test_a_deadline_that_has_passed() -> None:
    """A call that has no time left when it begins has a millisecond for a statement: 0 would be no limit."""
    with pytest.raises(OperationalError, match="statement timeout"), ExitStack() as stack:
        enter_transactions(stack, None, Deadline(time.monotonic() - 1))
        execute("SELECT pg_sleep(30)")


@sqlite_only
@pytest.mark.usefixtures("limited")
async def test_other_databases_have_no_such_limit(any_worker: Worker) -> None:
    """On SQLite the setting changes nothing: there is no transaction that was not asked for."""
    assert await options(Slacker(in_transaction, any_worker)(), timeout=LONG) is False
