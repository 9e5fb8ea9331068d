# ruff: noqa: PT009, PT027 (these are tests for unittest, not for pytest)
"""Tests as users of slacker write them, run by Django's own test runner (see tests/django/test_testing.py).

Django runs the TestCases first, and after them, in alphabetical order, the TransactionTestCases.
"""

import asyncio
import threading
from contextlib import aclosing

import tornado.testing
import tornado.web
from asgiref.sync import async_to_sync, sync_to_async
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection, transaction
from django.test import TestCase, TransactionTestCase, override_settings
from django.utils import translation

from slacker import Slacker, WorkerClosed, adisp, batch, options, run, stream
from slacker.django_backend.testing import InlineWorker
from slacker.workers import DjangoProcessWorker, DjangoThreadWorker

from .models import Author
from .urls import authors

inline = override_settings(SLACKER_WORKER="slacker.django_backend.testing.InlineWorker")


def here():
    return connection.connection, threading.current_thread()


where = Slacker(here, DjangoThreadWorker())()


def create_and_fail(name):
    with transaction.atomic():
        Author.objects.create(name=name)
        raise ZeroDivisionError


def keeps_mail():
    return hasattr(mail, "outbox")


def create_each(names):
    for name in names:
        yield Author.objects.create(name=name)


creating = Slacker(create_each, DjangoThreadWorker())


def activate(code):
    before = translation.get_language()
    translation.activate(code)
    return before


@inline
class InAsyncTests(TestCase):
    """Django runs an ``async def`` test on a loop in another thread than that of the test case."""

    @classmethod
    def setUpTestData(cls):
        Author.objects.create(name="Ann")

    async def test_work_is_in_the_transaction_of_the_test(self):
        """Work finds the rows of the test, and the test those of the work."""
        await authors.create(name="Bob")

        self.assertEqual(["Ann", "Bob"], await authors.values_list("name", flat=True))
        self.assertEqual(2, await Author.objects.acount())

    async def test_work_is_done_in_the_thread_of_the_test(self):
        """Thread and connection are those that sync_to_async uses: the test's own."""
        self.assertEqual(await sync_to_async(here)(), await where)

    async def test_a_stream(self):
        """A stream reads the rows of the test, in its thread, also when it is left early."""
        await authors.create(name="Bob")

        self.assertEqual(["Ann", "Bob"], [author.name async for author in authors.order_by("name")])
        async with aclosing(stream(authors.order_by("name"), chunk_size=1)) as rows:
            self.assertEqual("Ann", (await anext(aiter(rows))).name)
        self.assertEqual(2, await Author.objects.acount())

    async def test_calls_in_parallel(self):
        """fetch() and gather() work as elsewhere; in the test's one thread the calls follow each other."""
        self.assertEqual([1, 1], await asyncio.gather(authors.count().fetch(), authors.count()))

    async def test_a_view_in_the_same_loop(self):
        """A view that AsyncClient calls has the test's connection as well."""
        self.assertEqual({"names": ["Ann"]}, (await self.async_client.get("/names/")).json())

    async def test_failures_arrive(self):
        """An exception arrives with its class, and the step in a note."""
        with self.assertRaises(Author.DoesNotExist) as caught:
            await authors.get(name="Zoe")
        self.assertEqual(["slacker: at step 3, .get, of Author.objects.get(...)"], caught.exception.__notes__)

    async def test_the_language_goes_along(self):
        """The language that is active in the test is active in the work."""
        with translation.override("de"):
            self.assertEqual("de", await Slacker(translation.get_language, DjangoThreadWorker())())

    async def test_what_the_work_activates_is_not_left_behind(self):
        """A language that the work activates stays with the work, though sync_to_async would bring it back."""
        await Slacker(translation.activate, DjangoThreadWorker())("de")

        self.assertEqual("en", translation.get_language())


@inline
class InSyncTests(TestCase):
    """A blocking test that runs a loop itself has it in its own thread."""

    def setUp(self):
        Author.objects.create(name="Ann")

    def test_work_is_in_the_transaction_of_the_test(self):
        """Work finds the rows of the test, and the test those of the work."""
        asyncio.run(run(authors.create(name="Bob")))

        self.assertEqual(2, asyncio.run(run(authors.count())))
        self.assertEqual(2, Author.objects.count())

    def test_work_is_done_in_the_thread_of_the_test(self):
        """Thread and connection are the test's own."""
        self.assertEqual(here(), asyncio.run(run(where)))

    def test_the_same_after_a_loop_in_another_thread(self):
        """A loop that async_to_sync ran before, elsewhere, changes nothing."""

        async def elsewhere():
            return await where

        self.assertEqual(here(), async_to_sync(elsewhere)())
        self.assertEqual(here(), asyncio.run(run(where)))

    def test_queries_are_counted(self):
        """assertNumQueries counts what the work does."""
        with self.assertNumQueries(1):
            asyncio.run(run(authors.values_list("name", flat=True)))

    def test_an_asynchronous_view(self):
        """The blocking test client gets an asynchronous view's answer from the test's own rows."""
        self.assertEqual({"names": ["Ann"]}, self.client.get("/names/").json())

    def test_results_are_settled(self):
        """A QuerySet comes as a list, as it does from a thread."""
        self.assertIs(list, type(asyncio.run(run(authors.all()))))

    def test_a_transaction_of_the_work_is_a_savepoint(self):
        """Work that rolls back its own transaction leaves that of the test alone."""
        with self.assertRaises(ZeroDivisionError):
            asyncio.run(run(Slacker(create_and_fail, DjangoThreadWorker())("Bob")))

        self.assertEqual(1, Author.objects.count())

    def test_a_batch_in_a_transaction_is_a_savepoint(self):
        """A batch that is rolled back leaves what the test itself wrote alone."""
        recipe = options(batch(authors.create(name="Bob"), authors.create(name="Ann")), atomic=True)
        with self.assertRaises(IntegrityError):
            asyncio.run(run(recipe))

        self.assertEqual(1, Author.objects.count())

    def test_hooks_wait_for_the_transaction_of_the_test(self):
        """on_commit hooks of a batch are those of the test's transaction: captureOnCommitCallbacks finds them."""
        hook = Slacker(transaction.on_commit, DjangoThreadWorker())
        with self.captureOnCommitCallbacks() as callbacks:
            asyncio.run(run(options(batch(hook(here), authors.create(name="Bob")), atomic=True)))

        self.assertEqual([here], callbacks)

    def test_a_stream(self):
        """A stream reads the rows of the test, and leaving it early leaves nothing open."""
        Author.objects.create(name="Bob")

        async def first():
            async with aclosing(stream(authors.order_by("name"), chunk_size=1)) as rows:
                return (await anext(aiter(rows))).name

        self.assertEqual("Ann", asyncio.run(first()))
        self.assertEqual(2, Author.objects.count())

    def test_a_stream_in_a_transaction(self):
        """One that writes, in a transaction of its own, and is left early, is rolled back to a savepoint."""

        async def first():
            async with aclosing(stream(options(creating(["Bob", "Zoe"]), atomic=True), chunk_size=1)) as rows:
                return (await anext(aiter(rows))).name

        self.assertEqual("Bob", asyncio.run(first()))
        self.assertEqual(1, Author.objects.count())

    def test_the_language_goes_along(self):
        """The language that is active in the test is active in the work, and what the work activates is not left."""
        with translation.override("de"):
            self.assertEqual("de", asyncio.run(run(Slacker(activate, DjangoThreadWorker())("fr"))))
            self.assertEqual("de", translation.get_language())

    def test_a_closed_worker(self):
        """An InlineWorker of one's own that was closed refuses calls as others do."""

        async def call():
            async with InlineWorker() as worker:
                self.assertEqual("InlineWorker()", repr(worker))
            await Slacker(print, worker)()

        with self.assertRaises(WorkerClosed):
            asyncio.run(call())


class NamesHandler(tornado.web.RequestHandler):
    @adisp.process
    def get(self):
        self.write({"names": (yield authors.values_list("name", flat=True))})


@inline
class InTornadoTests(tornado.testing.AsyncHTTPTestCase, TestCase):
    """Tornado's test case and Django's can be one."""

    def get_app(self):
        return tornado.web.Application([("/names", NamesHandler)])

    def test_a_handler_sees_the_rows_of_the_test(self):
        """A handler's recipe is replayed in the transaction of the test."""
        Author.objects.create(name="Ann")

        self.assertEqual(b'{"names": ["Ann"]}', self.fetch("/names").body)

    @tornado.testing.gen_test
    async def test_an_asynchronous_test(self):
        """So is one of an ``async def`` test of Tornado's, in which the ORM itself is out of reach."""
        await authors.create(name="Ann")

        self.assertEqual(["Ann"], await authors.values_list("name", flat=True))


class AfterTestCasesTests(TransactionTestCase):
    def test_nothing_is_left(self):
        """What the TestCases did through an InlineWorker was rolled back."""
        self.assertEqual(0, Author.objects.count())


class InThreadsTests(TransactionTestCase):
    """Work in threads needs rows that are committed; its connections must be closed when the database is dropped."""

    def tearDown(self):
        asyncio.run(DjangoThreadWorker().aclose())

    def test_threads_see_the_rows_of_the_test(self):
        """Work in another thread finds the rows of the test."""
        Author.objects.create(name="Ann")

        self.assertEqual(["Ann"], asyncio.run(run(authors.values_list("name", flat=True))))

    def test_the_test_sees_the_rows_of_threads(self):
        """The test finds the rows of work in another thread."""
        asyncio.run(run(authors.create(name="Ann")))

        self.assertEqual(1, Author.objects.count())

    async def test_an_asynchronous_test(self):
        """So it is in an ``async def`` test."""
        await authors.create(name="Ann")

        self.assertEqual(1, await Author.objects.acount())


class InProcessesTests(TransactionTestCase):
    """Work in processes is done on the test databases, if those can be seen from there, and in the test environment."""

    def tearDown(self):
        asyncio.run(DjangoProcessWorker().aclose())

    def test_processes_see_the_rows_of_the_test(self):
        """Work in another process finds the rows of the test, and no process the project's own database."""
        names = Slacker(Author, DjangoProcessWorker()).objects.values_list("name", flat=True)
        Author.objects.create(name="Ann")

        if connection.vendor == "sqlite" and connection.is_in_memory_db():
            with self.assertRaisesRegex(ImproperlyConfigured, "'default' is SQLite in memory"):
                asyncio.run(run(names))
        else:
            self.assertEqual(["Ann"], asyncio.run(run(names)))
            self.assertTrue(asyncio.run(run(Slacker(keeps_mail, DjangoProcessWorker())())))
