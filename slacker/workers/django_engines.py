"""What Django workers without arguments run on: one engine for each kind, or what SLACKER_WORKER names."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ..chain import Chain
from ..django_backend.scope import read_time_zone, require_setup
from .base import Worker

__all__ = ["Shareable"]


class _Engines:
    """What workers without arguments run on: an engine for each kind, or what SLACKER_WORKER names."""

    def __init__(self) -> None:
        self._engines: dict[str | type[Shareable], Worker] = {}  # by the setting's value, without it by the kind

    def current(self, kind: type[Shareable]) -> Worker:
        path = _setting()
        place = path or kind
        # Two threads may both make one; the loser's is dropped before it was used.
        return self._engines.get(place) or self._engines.setdefault(
            place, _make_named(path) if path else kind.make_engine()
        )

    async def aclose(self, kind: type[Shareable], timeout: float) -> None:
        path = _setting() if self._engines else ""  # without an engine there may not even be settings
        engine = self._engines.pop(path or kind, None)
        if engine is not None and not (path and import_string(path) is engine):  # an object is closed by its maker
            await engine.aclose(timeout)


_engines = _Engines()


def _setting() -> str:
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
    if isinstance(worker, Shareable) and worker.shared:
        return worker.make_engine()  # what it runs on without the setting: with it, it would run on itself
    return worker


class Shareable(Worker):
    """A worker that without arguments stands for the shared engine of its kind, and with any is one of its own.

    Args:
        given: the arguments, None for those that were left out.
    """

    def __init__(self, **given: Any) -> None:
        arguments = {name: value for name, value in given.items() if value is not None}
        self._own = self.make_engine(**arguments) if arguments else None
        read_time_zone()

    @staticmethod
    @abc.abstractmethod
    def make_engine(**arguments: Any) -> Worker:
        """Return a worker that does the work."""

    @property
    def shared(self) -> bool:
        """Whether it was made without arguments."""
        return self._own is None

    def run(self, chain: Chain) -> Coroutine[Any, Any, Any]:
        return self._engine().run(chain)

    def submit(self, chain: Chain) -> asyncio.Future[Any]:
        return self._engine().submit(chain)

    def stream(self, chain: Chain, chunk_size: int) -> AsyncGenerator[list[Any], None]:
        return self._engine().stream(chain, chunk_size)

    def check_atomic(self, alias: str) -> None:
        self._engine().check_atomic(alias)

    async def aclose(self, timeout: float = 10.0) -> None:
        """Close the worker; the shared engine for all, and the next call starts another."""
        if self._own is not None:
            await self._own.aclose(timeout)
        else:
            await _engines.aclose(type(self), timeout)

    def _engine(self) -> Worker:
        require_setup()
        return self._own or _engines.current(type(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Shareable):
            return NotImplemented
        return self is other or (type(self) is type(other) and self.shared and other.shared)

    def __hash__(self) -> int:
        return hash(type(self)) if self.shared else object.__hash__(self)

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}()" if self._own is None else repr(self._own).replace(type(self._own).__name__, name)
