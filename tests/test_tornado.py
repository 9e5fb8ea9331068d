"""Real Tornado servers, asked over real sockets: handlers in every spelling, and what becomes of errors.

The suite `Handlers` runs here on a ThreadWorker, and in tests/django/test_tornado.py on Django's ORM.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import tornado.gen
import tornado.httpserver
import tornado.testing
import tornado.web
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from slacker import Slacker, Worker, adisp
from slacker.workers import ThreadWorker

# --- one handler, four spellings -----------------------------------------------------------------------------------


class Handler(tornado.web.RequestHandler):
    """Answers with the books of an author, or 404 if the author is not known."""

    def initialize(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def not_found(self, name: str) -> tornado.web.HTTPError:
        return tornado.web.HTTPError(404, "no author %s", name)

    def on_connection_close(self) -> None:
        self.catalogue.deserted.set()

    def on_finish(self) -> None:
        self.catalogue.answered.set()


class AsyncHandler(Handler):
    async def get(self, name: str) -> None:
        try:
            books = await self.catalogue.books_of(name)
        except self.catalogue.unknown as error:
            raise self.not_found(name) from error
        self.write({"books": books})


class ProcessHandler(Handler):
    @adisp.process
    def get(self, name: str) -> Iterator[Any]:
        try:
            books = yield self.catalogue.books_of(name)
        except self.catalogue.unknown as error:
            raise self.not_found(name) from error
        self.write({"books": books})


class CoroutineHandler(Handler):
    @tornado.gen.coroutine
    def get(self, name: str) -> Iterator[Any]:
        try:
            books = yield self.catalogue.books_of(name)
        except self.catalogue.unknown as error:
            raise self.not_found(name) from error
        self.write({"books": books})


class CallbackHandler(Handler):
    def get(self, name: str) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_books(books: list[str]) -> None:
            self.write({"books": books})
            done.set_result(None)

        def on_error(error: BaseException) -> None:
            done.set_exception(self.not_found(name) if isinstance(error, self.catalogue.unknown) else error)

        self.catalogue.books_of(name).proceed(on_books, on_error)
        return done


@dataclass
class Catalogue:
    """What the handlers ask, and what tests want to know of them."""

    books_of: Callable[[str], Slacker]
    unknown: type[Exception]  # raised for an author that is not there
    deserted: asyncio.Event = field(default_factory=asyncio.Event)  # set when the client has gone away
    answered: asyncio.Event = field(default_factory=asyncio.Event)  # set when a handler has written its answer


@dataclass
class Site:
    port: int
    client: AsyncHTTPClient

    async def fetch(self, path: str) -> HTTPResponse:
        return await self.client.fetch(f"http://127.0.0.1:{self.port}{path}", raise_error=False)


@contextlib.asynccontextmanager
async def serve(catalogue: Catalogue) -> AsyncIterator[Site]:
    handlers = {
        "async": AsyncHandler,
        "process": ProcessHandler,
        "coroutine": CoroutineHandler,
        "callback": CallbackHandler,
    }
    routes = [(f"/{spelling}/(.+)", handler, {"catalogue": catalogue}) for spelling, handler in handlers.items()]
    socket, port = tornado.testing.bind_unused_port()
    server = tornado.httpserver.HTTPServer(tornado.web.Application(routes))
    server.add_socket(socket)
    client = AsyncHTTPClient(force_instance=True)
    try:
        yield Site(port, client)
    finally:
        client.close()
        server.stop()
        await server.close_all_connections()


class Gate:
    """Work that says when it has begun, and ends when it is told to."""

    def __init__(self) -> None:
        self._begun = threading.Event()
        self._opened = threading.Event()

    def hold(self) -> list[str]:
        self._begun.set()
        assert self._opened.wait(30)  # liveness bound
        return ["late"]

    async def begun(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, 30)  # liveness bound

    def open(self) -> None:
        self._opened.set()


# --- the suite -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["async", "process", "coroutine", "callback"])
class Handlers:
    """For subclasses: the fixtures `worker`, and `catalogue`, in which Ann wrote "Ashes" and "Bread"."""

    async def test_a_handler_answers(self, catalogue: Catalogue, spelling: str) -> None:
        """What the work returns gets written."""
        async with serve(catalogue) as site:
            response = await site.fetch(f"/{spelling}/Ann")

        assert (response.code, json.loads(response.body)) == (200, {"books": ["Ashes", "Bread"]})

    async def test_many_requests_at_once(self, catalogue: Catalogue, spelling: str) -> None:
        """Requests that come together are all answered."""
        async with serve(catalogue) as site:
            responses = await asyncio.gather(*[site.fetch(f"/{spelling}/Ann") for _ in range(20)])

        assert [response.code for response in responses] == [200] * 20

    async def test_an_error_caught_in_the_handler(self, catalogue: Catalogue, spelling: str) -> None:
        """An exception of the work can be caught by its class, here to answer 404."""
        async with serve(catalogue) as site:
            response = await site.fetch(f"/{spelling}/Zoe")

        assert response.code == 404

    async def test_an_error_that_nobody_catches(
        self, worker: Worker, spelling: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Any other exception of the work is answered by 500 and logged by Tornado, with the step."""
        async with serve(Catalogue(Slacker(fail, worker), unknown=LookupError)) as site:
            response = await site.fetch(f"/{spelling}/Ann")

        assert response.code == 500
        assert f"Uncaught exception GET /{spelling}/Ann (127.0.0.1)" in caplog.text
        assert "ZeroDivisionError" in caplog.text
        assert "of fail(...)" in caplog.text

    async def test_an_http_error_in_the_work(self, worker: Worker, spelling: str) -> None:
        """Tornado's own HTTPError, raised by the work, decides the status."""
        async with serve(Catalogue(Slacker(refuse, worker), unknown=LookupError)) as site:
            response = await site.fetch(f"/{spelling}/Ann")

        assert (response.code, response.reason) == (409, "Taken")

    async def test_the_server_goes_on_while_work_blocks(
        self, catalogue: Catalogue, worker: Worker, spelling: str
    ) -> None:
        """While one request waits for its work, others are answered."""
        gate = Gate()
        slow = Catalogue(lambda name: Slacker(gate.hold, worker)(), unknown=LookupError)
        async with serve(slow) as slow_site, serve(catalogue) as prompt_site:
            waiting = asyncio.create_task(slow_site.fetch(f"/{spelling}/Ann"))
            await gate.begun()
            meanwhile = await prompt_site.fetch(f"/{spelling}/Ann")
            gate.open()

            assert (meanwhile.code, (await waiting).code) == (200, 200)

    async def test_a_client_that_goes_away(
        self, worker: Worker, spelling: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A client that closes its connection in mid-request leaves no warning, no task and no unread exception."""
        gate = Gate()
        catalogue = Catalogue(lambda name: Slacker(gate.hold, worker)(), unknown=LookupError)
        async with serve(catalogue) as site:
            _, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(b"GET /%s/Ann HTTP/1.1\r\nHost: localhost\r\n\r\n" % spelling.encode())
            await gate.begun()
            writer.close()
            await writer.wait_closed()
            await catalogue.deserted.wait()
            gate.open()
            await catalogue.answered.wait()
        gc.collect()  # what is never retrieved, or never awaited, is reported when it is collected

        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def fail(name: str) -> list[str]:
    raise ZeroDivisionError


def refuse(name: str) -> list[str]:
    raise tornado.web.HTTPError(409, reason="Taken")


class TestWithThreads(Handlers):
    """The suite on a ThreadWorker, asking a dict."""

    @pytest.fixture
    def worker(self) -> Iterator[Worker]:
        worker = ThreadWorker(max_workers=4)
        yield worker
        asyncio.run(worker.aclose())

    @pytest.fixture
    def catalogue(self, worker: Worker) -> Catalogue:
        books = Slacker({"Ann": ["Ashes", "Bread"]}, worker)
        return Catalogue(lambda name: books[name], unknown=KeyError)
