"""A test suite such as the project could have, run by ``manage.py test``: see `tests.servers.test_environments`."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest
from django.conf import settings
from django.db import connections
from django.test import SimpleTestCase, TestCase, TransactionTestCase, override_settings

from slacker import Slacker, TransportError, run
from slacker.django_backend.testing import hook_server
from slacker.workers import DjangoHttpWorker

from . import work
from .models import Author

authors = Slacker(Author, DjangoHttpWorker()).objects


def closing(recipe):
    """Return a coroutine that runs a recipe and closes the shared engine, as each loop of a test should."""

    async def main():
        try:
            return await recipe
        finally:
            await DjangoHttpWorker().aclose()

    return main()


class Reaching:
    """Calls to servers of the project's real database."""

    def assert_refused(self):
        with pytest.raises(TransportError, match="whether tests run") as caught:
            asyncio.run(closing(authors.create(name="of a test")))
        assert caught.value.status == 403

    def test_by_default(self):
        with override_settings(SLACKER_SERVER=settings.SERVER):
            self.assert_refused()

    def test_by_name(self):
        with override_settings(SLACKER_SERVER=settings.NAMED_SERVER, SLACKER_AUDIENCE=settings.NAME):
            self.assert_refused()


class ReachingTestCase(Reaching, TestCase):
    pass


class ReachingTransactionTestCase(Reaching, TransactionTestCase):
    pass


class ReachingSimpleTestCase(Reaching, SimpleTestCase):  # without a database of its own
    pass


@override_settings(
    SECRET_KEY="weak",
    SLACKER_ALLOWED_CLIENTS=[],
    SLACKER_KEY=None,
    SLACKER_WORKER="slacker.django_backend.testing.InlineWorker",
)
class HookServer(TransactionTestCase):
    def test_both_sides_see_the_rows(self):
        Author.objects.create(name="Ann")
        with hook_server():
            asyncio.run(closing(authors.create(name="Bob")))
            names = asyncio.run(closing(authors.order_by("name").values_list("name", flat=True)))
        assert names == ["Ann", "Bob"]
        assert Author.objects.count() == 2

    async def test_in_an_async_test(self):
        with hook_server():
            await Author.objects.acreate(name="Ann")
            assert (await authors.get()).name == "Ann"
            await closing(authors.create(name="Bob"))
        assert await Author.objects.acount() == 2

    def test_many_calls_at_once(self):
        async def main():
            await asyncio.gather(*[authors.create(name=f"{number}").fetch() for number in range(20)])
            return await asyncio.gather(*[authors.count().fetch() for _ in range(20)])

        with hook_server():
            assert set(asyncio.run(closing(main()))) == {20}

    def test_the_address(self):
        with hook_server() as address:
            assert address == settings.SLACKER_SERVER
            assert asyncio.run(closing(Slacker(threading.current_thread, DjangoHttpWorker())().name)) != "MainThread"
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        assert not hasattr(settings, "SLACKER_SERVER")

    def test_after_a_failure(self):
        with pytest.raises(ValueError, match="in the block"), hook_server() as address:
            raise ValueError("in the block")
        gone = Slacker(work.process, DjangoHttpWorker(address, key="nobody asks for this key any more"))
        with pytest.raises(TransportError, match="cannot be reached"):
            asyncio.run(run(gone()))

    def test_no_connection_is_left(self):
        if connections["default"].vendor != "postgresql":
            return
        with hook_server():
            asyncio.run(run(authors.count()))  # whose connection to the server stays open
            with connections["default"].cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
                assert cursor.fetchone() == (1,)
