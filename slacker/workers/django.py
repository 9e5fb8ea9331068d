"""Workers for Django's ORM. Made without arguments, all of one kind are one place: equal, with one engine.

    Slacker(User, DjangoHttpWorker())         the spelling of 2011, once for each model, and still
    Slacker(Author, DjangoHttpWorker())       one set of connections

The setting SLACKER_WORKER replaces that engine, for a whole project or test suite (`slacker.workers.django_engines`).
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Awaitable, Callable, Generator, Iterable
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from ..arguments import checked_timeout
from ..chain import Chain
from ..django_backend import conf, environment, keyrings
from ..django_backend.caller import Caller
from ..django_backend.remembered import Remembered
from ..django_backend.remote import caller_options
from ..django_backend.scope import close_connections, perform, perform_stream
from ..django_backend.transactions import check_alias
from ..outcome import Error, Outcome, Value
from ..signing import Keyring
from .base import Worker, deadline_of
from .django_engines import Shareable
from .django_processes import Processes
from .http.endpoint import Endpoint, likely_cause
from .http.transport import Transport, checked_host
from .http.worker import HttpWorker, checked_url
from .local import ThreadWorker

__all__ = ["DjangoHttpWorker", "DjangoProcessWorker", "DjangoThreadWorker", "DjangoWorker"]


# --- threads -------------------------------------------------------------------------------------------------------


class _Threads(ThreadWorker):
    """The engine: a pool of threads with Django's care around each chain."""

    on_thread_exit = staticmethod(close_connections)

    def replayer(self, chain: Chain) -> Callable[[Chain], Outcome]:
        return partial(perform, caller=Caller.current(), own_thread=True, deadline=deadline_of(chain))

    def streamer(self, chunk_size: int) -> Callable[[Chain], Generator[Value | Error, None, None]]:
        caller = Caller.current()
        return lambda chain: perform_stream(chain, chunk_size, caller, own_thread=True, deadline=deadline_of(chain))

    def check_atomic(self, alias: str) -> None:
        check_alias(alias)


class DjangoThreadWorker(Shareable):
    """Replays chains in threads that look after their database connections: the simplest way off the loop for the
    ORM.

    Each thread has its own connections, kept between chains and closed when the thread ends; a QuerySet comes back
    as a list (`slacker.django_backend.results.settle`); the caller's language and time zone go along;
    ATOMIC_REQUESTS holds for chains as for requests.

    Without arguments it stands for one shared engine: ``aclose`` closes that for all, and the next call starts
    another. The setting ``SLACKER_WORKER`` replaces the engine: by the dotted path of a worker class, or of a worker
    object, which ``aclose`` leaves open for whoever made it. With any argument it is a worker of its own.

    Args:
        max_workers, thread_name_prefix, max_queue: as for `ThreadWorker`. Each thread may open one connection to each
            database: processes x threads must stay below the server's limit.

    Raises:
        AppRegistryNotReady: at the first call, when ``django.setup()`` was not called.
        ImproperlyConfigured: at the first call, when ``SLACKER_WORKER`` does not name a worker.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        thread_name_prefix: str | None = None,
        max_queue: int | None = None,
    ) -> None:
        super().__init__(max_workers=max_workers, thread_name_prefix=thread_name_prefix, max_queue=max_queue)

    @staticmethod
    def make_engine(**arguments: Any) -> Worker:
        return _Threads(**{"thread_name_prefix": "slacker-django", **arguments})


# --- processes -----------------------------------------------------------------------------------------------------


class DjangoProcessWorker(Shareable):
    """Replays chains in local processes with Django set up: the ORM on all cores, and no server to deploy.

    Each process has its own connections, kept between chains. Its settings are those of this process's
    DJANGO_SETTINGS_MODULE, and its databases have the names that this process's have at the time of the call: in a test
    run those of the test databases. What `override_settings` changes does not go along. Otherwise results, language,
    time zone and ATOMIC_REQUESTS are as with `DjangoThreadWorker`, processes and calls as with `ProcessWorker`.

    Without arguments it stands for one shared engine, which ``SLACKER_WORKER`` may replace; with any it is one of
    its own.

    Args:
        max_workers, max_queue: as for `ProcessWorker`. Each process may open one connection to each database.

    Raises:
        AppRegistryNotReady: at the first call, when ``django.setup()`` was not called.
        ImproperlyConfigured: at each call, when the processes cannot have the same settings, because those were made
            by ``settings.configure()``, or the same databases, because one is SQLite in memory.
    """

    def __init__(self, max_workers: int | None = None, *, max_queue: int | None = None) -> None:
        super().__init__(max_workers=max_workers, max_queue=max_queue)

    @staticmethod
    def make_engine(**arguments: Any) -> Worker:
        return Processes(**arguments)


# --- HTTP ----------------------------------------------------------------------------------------------------------


class _Http(HttpWorker):
    """The engine: an HttpWorker that finds in the settings, when it is used, what it was not given."""

    def __init__(
        self,
        *,
        url: str | None = None,
        key: bytes | str | Iterable[bytes | str] | None = None,
        timeout: float | None = None,
        audience: str | None = None,
        host: str | None = None,
        **limits: Any,
    ) -> None:
        self._url = None if url is None else checked_url(conf.with_scheme(url))
        self._keyring = None if key is None else Keyring(key)
        self._timeout = None if timeout is None else checked_timeout(timeout)
        self._audience = audience
        self._host = None if host is None else checked_host(host)
        self._remembered: Remembered[Endpoint] = Remembered()
        self._set_up(**limits)

    def _endpoint_now(self) -> Endpoint | Awaitable[Endpoint]:
        found, made = self._remembered.look()
        return self._make_endpoint(found) if made is None else made

    async def _make_endpoint(self, found: tuple[Any, ...]) -> Endpoint:
        server = self._url or conf.server()
        parts = urllib.parse.urlsplit(server)
        if parts.path in ("", "/"):
            path = await asyncio.to_thread(_path_of_hook)  # imports the URLconf, and all views with it
            server = urllib.parse.urljoin(server, path)
        made = Endpoint(
            server,
            self._keyring or keyrings.keyring() or _derived_keyring(parts.hostname or ""),
            environment.audience() if self._audience is None else self._audience,
            self._host,
            conf.timeout() if self._timeout is None else self._timeout,
            conf.max_request(),
            _hint,
        )
        self._remembered.keep(found, made)
        return made

    def _options_now(self) -> str:
        return caller_options(self._max_reply)

    def check_atomic(self, alias: str) -> None:
        check_alias(alias)

    def __repr__(self) -> str:
        return f"DjangoHttpWorker({self._url or 'SLACKER_SERVER'!r}, max_connections={self._max_connections})"


def _hint(status: int) -> str:
    return {
        0: "Is `manage.py runslacker` running there, and is SLACKER_SERVER its address?",
        301: "SECURE_SSL_REDIRECT is on (use an https:// address, or `manage.py runslacker`), or the address lacks "
        "its trailing slash",
        302: "a middleware, probably for logging in, redirects the hook's URL",
        400: "the host is not in ALLOWED_HOSTS, or a middleware that reads the body found it too large",
        403: "SLACKER_KEY or the audience (settings module, database names, whether tests run) differ, or the "
        "server has no SLACKER_KEY or does not allow this address",
        404: "slacker.django_backend.urls is not included in the project's URLs, or another server has the address",
        500: "the server failed outside of the hook; see its log",
    }.get(status) or likely_cause(status)


def _path_of_hook() -> str:
    return conf.hook_path() or "/"  # where runslacker answers, as it does on any path


def _derived_keyring(host: str) -> Keyring:
    keys = keyrings.derived_keyring() if conf.is_loopback(host) else None
    if keys is None:
        raise ImproperlyConfigured(
            f"There is no SLACKER_KEY, and one derived from SECRET_KEY will not do: either {host!r} is another host, "
            f"or SECRET_KEY is weak. Make a key, the same for both sides, with: {keyrings.HOW_TO_MAKE_A_KEY}"
        )
    return keys


class DjangoHttpWorker(Shareable, HttpWorker):
    """Replays chains in the project's own Django server, through its signed hook: the ORM beside a web server.

    The server is ``manage.py runslacker``, or any server of the project whose URLs include
    ``slacker.django_backend.urls``. Results are as with `DjangoThreadWorker`; language and time zone go along.

    Without arguments it stands for one shared engine, which ``SLACKER_WORKER`` may replace; with any it is one of
    its own. What is not given comes from the settings, when it is used (`slacker.django_backend.conf`).

    Args:
        url: of the hook, ``host:port`` is read as http; by default SLACKER_SERVER. If it has no path, the one of the
            URL include.
        key: the shared secret or secrets; by default SLACKER_KEY and SLACKER_KEY_FALLBACKS. On loopback one derived
            of SECRET_KEY will do.
        timeout: seconds for the whole call; by default SLACKER_TIMEOUT.
        audience: by default SLACKER_AUDIENCE, or the settings module and the names of the databases in force; in a
            test run it is said to be one.
        max_connections, max_queue, max_batch, max_reply, transport, host: as for `HttpWorker`.

    Raises:
        AppRegistryNotReady: at the first call, when ``django.setup()`` was not called.
        ImproperlyConfigured: at the first call, when there is no key that will do, or a setting is unusable.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: bytes | str | Iterable[bytes | str] | None = None,
        max_connections: int | None = None,
        max_queue: int | None = None,
        max_batch: int | None = None,
        timeout: float | None = None,
        max_reply: int | None = None,
        audience: str | None = None,
        transport: Transport | None = None,
        host: str | None = None,
    ) -> None:
        super().__init__(
            url=url,
            key=key,
            max_connections=max_connections,
            max_queue=max_queue,
            max_batch=max_batch,
            timeout=timeout,
            max_reply=max_reply,
            audience=audience,
            transport=transport,
            host=host,
        )

    @staticmethod
    def make_engine(**arguments: Any) -> Worker:
        return _Http(**arguments)


DjangoWorker = DjangoHttpWorker
"""The name under which the README of 2011 used it."""
