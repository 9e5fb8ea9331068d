"""Workers for Django's ORM. Made without arguments, all of one kind are one place: they are equal and share one
engine.

    Slacker(User, DjangoThreadWorker())         the spelling of 2011, once for each model, and still
    Slacker(Author, DjangoThreadWorker())       one pool of threads, one set of connections

The setting SLACKER_WORKER replaces that engine, for a whole project or test suite.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ..chain import Chain
from ..django_backend.scope import Caller, close_connections, perform, require_setup
from ..outcome import Outcome
from .base import Worker
from .local import ThreadWorker

__all__ = ["DjangoThreadWorker"]


class _Engines:
    """What workers without arguments run on: a pool of threads, or what SLACKER_WORKER names."""

    def __init__(self) -> None:
        self._engines: dict[str, Worker] = {}  # by the setting's value, "" without it

    def current(self) -> Worker:
        path = self._path()
        # Two threads may both make one; the loser's is dropped before it was used.
        return self._engines.get(path) or self._engines.setdefault(path, _make_named(path) if path else _make_threads())

    async def aclose(self, timeout: float) -> None:
        path = self._path() if self._engines else ""  # without an engine there may not even be settings
        engine = self._engines.pop(path, None)
        if engine is None or (path and import_string(path) is engine):
            return  # never used, or a worker object: whoever made that closes it
        if isinstance(engine, ThreadWorker | DjangoThreadWorker):
            await engine.aclose(timeout)
        else:
            await engine.aclose()

    def _path(self) -> str:
        return getattr(settings, "SLACKER_WORKER", None) or ""


def _make_named(path: str) -> Worker:
    try:
        named = import_string(path)
        worker = named() if isinstance(named, type) else named
    except Exception as error:
        message = f"SLACKER_WORKER = {path!r} does not name a worker that can be made: {error}"
        raise ImproperlyConfigured(message) from error
    if not isinstance(worker, Worker):
        raise ImproperlyConfigured(f"SLACKER_WORKER = {path!r} must name a slacker worker class, got {worker!r}")
    if isinstance(worker, DjangoThreadWorker) and worker.shared:
        return _make_threads()  # what it runs on without the setting: with it, it would run on itself
    return worker


_engines = _Engines()


class _Threads(ThreadWorker):
    """The engine: a pool of threads with Django's care around each chain."""

    on_thread_exit = staticmethod(close_connections)

    def replayer(self) -> Callable[[Chain], Outcome]:
        return partial(perform, caller=Caller.current(), own_thread=True)


class DjangoThreadWorker(Worker):
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
        given = max_workers is not None or thread_name_prefix is not None or max_queue is not None
        self._own = _make_threads(max_workers, thread_name_prefix, max_queue) if given else None

    @property
    def shared(self) -> bool:
        """Whether it was made without arguments."""
        return self._own is None

    async def run(self, chain: Chain) -> Any:
        return await self._engine().run(chain)

    def submit(self, chain: Chain) -> asyncio.Future[Any]:
        return self._engine().submit(chain)

    async def aclose(self, timeout: float = 10.0) -> None:
        """Close the engine, waiting for accepted calls `timeout` seconds at most (see `ThreadWorker.aclose`)."""
        if self._own is not None:
            await self._own.aclose(timeout)
        else:
            await _engines.aclose(timeout)

    def _engine(self) -> Worker:
        require_setup()
        return self._own or _engines.current()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DjangoThreadWorker):
            return NotImplemented
        return self is other or (self.shared and other.shared)

    def __hash__(self) -> int:
        return hash(DjangoThreadWorker) if self.shared else object.__hash__(self)

    def __repr__(self) -> str:
        if self._own is None:
            return "DjangoThreadWorker()"
        return repr(self._own).replace("_Threads", "DjangoThreadWorker")


def _make_threads(
    max_workers: int | None = None, thread_name_prefix: str | None = None, max_queue: int | None = None
) -> _Threads:
    return _Threads(max_workers, thread_name_prefix=thread_name_prefix or "slacker-django", max_queue=max_queue)
