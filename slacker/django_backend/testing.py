"""For the tests of projects that use slacker: see "Testing your code" in the README.

Django's TestCase hides its rows from other threads, so work must come to the test: `InlineWorker` makes it. A
TransactionTestCase shows them, so work may stay in the threads of `DjangoThreadWorker`. Close that in ``tearDown``,
``asyncio.run(DjangoThreadWorker().aclose())``: PostgreSQL drops no test database that a thread is connected to.
"""

from __future__ import annotations

import asyncio
import contextvars
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

from asgiref.sync import AsyncToSync, sync_to_async
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import override_settings

from ..chain import Chain
from ..outcome import Outcome
from ..workers.base import Worker, deadline_of, delivered
from ..workers.local import hidden_loop
from ..wsgi import application
from .caller import Caller
from .remote import hook
from .scope import perform, perform_stream, require_setup
from .transactions import check_alias

__all__ = ["InlineWorker", "hook_server"]

T = TypeVar("T")


class InlineWorker(Worker):
    """Replays chains on the test's own thread and database connection, so that a TestCase's transaction holds them.

    Inside Django's ``async def`` tests the loop runs in another thread than the test case; work goes to the test's
    thread as `sync_to_async` would take it. Elsewhere, in a Tornado test case for example, it runs in place, with the
    running loop hidden.

    Put the whole suite on it with ``SLACKER_WORKER = "slacker.django_backend.testing.InlineWorker"`` in the settings.
    """

    async def run(self, chain: Chain) -> Any:
        self.check_open()
        require_setup()
        begun = time.perf_counter()
        work = partial(perform, chain, Caller.current(), own_thread=False, deadline=deadline_of(chain))
        replay = partial(_run_in_copied_context, work)
        return delivered(chain, await _on_the_tests_thread(replay), 0.0, time.perf_counter() - begun)

    def check_atomic(self, alias: str) -> None:
        check_alias(alias)

    async def stream(self, chain: Chain, chunk_size: int) -> AsyncGenerator[list[Any], None]:
        self.check_open()
        require_setup()
        context = contextvars.copy_context()  # one for all chunks: what surrounds the work stays entered between them
        outcomes = perform_stream(chain, chunk_size, Caller.current(), own_thread=False, deadline=deadline_of(chain))
        try:
            while outcome := await _on_the_tests_thread(partial(context.run, next, outcomes, None)):
                yield outcome.unwrap(chain)
        finally:
            await _on_the_tests_thread(partial(context.run, outcomes.close))

    def __repr__(self) -> str:
        return "InlineWorker()"


@contextmanager
def hook_server() -> Iterator[str]:
    """Serve the hook to this process, on a free port of this machine, and let SLACKER_SERVER name it.

    For `TransactionTestCase` with `DjangoHttpWorker`: the hook works in threads of its own, which do not see what the
    transaction of a TestCase holds. It has a key of its own, and nothing outside of the machine can reach it. With a
    SQLite database in memory it does one thing at a time.

    Yields:
        The address.
    """
    server = ThreadedWSGIServer(("127.0.0.1", 0), _QuietHandler)
    one_at_a_time = threading.Lock() if any(map(_in_memory, connections.all())) else nullcontext()
    server.set_app(_alone(application(hook(unreachable=lambda: False, own_thread=True)), one_at_a_time))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="slacker-hook", daemon=True)
    address = f"http://127.0.0.1:{server.server_port}/"
    own = override_settings(
        SLACKER_SERVER=address,
        SLACKER_KEY=secrets.token_bytes(32),
        SLACKER_KEY_FALLBACKS=[],
        SLACKER_ALLOWED_CLIENTS=["127.0.0.1"],
        SLACKER_WORKER=None,  # the suite's may be InlineWorker
    )
    with own:
        thread.start()
        try:
            yield address
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _alone(hook_application: Any, turn: AbstractContextManager[Any]) -> Callable[[Any, Any], list[bytes]]:
    def answer(environ: Any, start_response: Any) -> list[bytes]:
        with turn:
            try:
                return [b"".join(hook_application(environ, start_response))]
            finally:  # or the test database could not be dropped while a client keeps its connection
                for connection in connections.all(initialized_only=True):
                    BaseDatabaseWrapper.close(connection)  # SQLite's own leaves one to a database in memory open

    return answer


def _in_memory(connection: BaseDatabaseWrapper) -> bool:
    # Its connections share one cache, in which a table that one of them writes is locked at once for all others.
    return connection.vendor == "sqlite" and bool(connection.is_in_memory_db())


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Log nothing."""


async def _on_the_tests_thread(work: Callable[[], T]) -> T:
    if asyncio.get_running_loop() in AsyncToSync.loop_thread_executors:  # in a thread that async_to_sync began
        return await sync_to_async(work, thread_sensitive=True)()
    with hidden_loop():
        return work()


def _run_in_copied_context(work: Callable[[], Outcome]) -> Outcome:
    # Copied where the work runs: sync_to_async would bring back whatever the work sets, a language for example.
    return contextvars.copy_context().run(work)
