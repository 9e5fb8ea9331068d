"""How an `HttpWorker` sends bytes: the seam for another HTTP client, and the one that is used by default."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar, Protocol, final, runtime_checkable

import pyqwest

__all__ = ["Answer", "Arriving", "NotSent", "PyqwestTransport", "StreamingTransport", "Transport", "same_process"]


class NotSent(Exception):
    """For transports: no byte of the request left, so that it may be sent again."""


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response, whole."""

    status: int
    content_type: str
    body: bytes


class Arriving(Protocol):
    """An HTTP response whose body still arrives."""

    @property
    def status(self) -> int: ...

    @property
    def content_type(self) -> str: ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None:
        """Give the connection up, from any task: whoever reads gets an exception, or the end."""


class Transport(Protocol):
    """Sends one POST and returns what comes back; the seam for another HTTP client.

    It must follow no redirect, decompress nothing, heed no proxy that was not asked for, and never send a request
    twice. It keeps no time: a call that takes too long is cancelled.
    """

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send `body`. When cancelled, give the connection up.

        Raises:
            NotSent: certainly no byte of the request left.
            Exception: anything else; the request may have arrived.
        """

    async def aclose(self) -> None:
        """Close what is held open."""


@runtime_checkable
class StreamingTransport(Transport, Protocol):
    """A transport that can do what streams need; over one that cannot they are refused."""

    def stream(self, url: str, headers: Mapping[str, str], body: bytes) -> AbstractAsyncContextManager[Arriving]:
        """Send `body` and give the response while its body still arrives, for ``async with``.

        To read no further is to hold the other side up; to leave the block early is to give the connection up. Raises
        what `post` raises.
        """


@final
class PyqwestTransport:
    """The transport used by default: pyqwest, with everything it could do by itself switched off.

    Args:
        max_connections: connections kept open for the next request.
        connect_timeout: seconds until a connection must stand.

    Raises:
        RuntimeError: one was made before this process was forked. What then runs pyqwest is not copied by a fork, so
            that every request would wait for ever.
    """

    _home: ClassVar[int | None] = None  # the process in which the first one was made

    def __init__(self, max_connections: int, connect_timeout: float = 5.0) -> None:
        PyqwestTransport._home = same_process("an HTTP transport", PyqwestTransport._home)
        self._transport = pyqwest.HTTPTransport(
            tls_include_system_certs=True,
            http_version=pyqwest.HTTPVersion.HTTP1,
            # Without a proxy of its own it would obey HTTP_PROXY; this one is never used for anything.
            proxy=pyqwest.Proxy("http://127.0.0.1:1", no_proxy="*,0.0.0.0/0,::/0"),
            connect_timeout=connect_timeout,
            pool_max_idle_per_host=max_connections,
            enable_gzip=False,
            enable_brotli=False,
            enable_zstd=False,
            enable_cookie_store=False,
            follow_redirects=False,
            enable_otel=False,
        )
        self._client = pyqwest.Client(self._transport)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        try:
            response = await self._client.post(url, headers, body)
        except ConnectionError as error:  # refused, no such name, no TLS: before anything was written
            raise NotSent(str(error)) from error
        return Answer(response.status, response.headers.get("content-type", ""), response.content)

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str], body: bytes) -> AsyncIterator[Arriving]:
        opened = self._client.stream("POST", url, headers, body)
        try:
            response = await opened.__aenter__()
        except ConnectionError as error:
            raise NotSent(str(error)) from error
        try:
            yield _Arriving(response)
        finally:
            await opened.__aexit__(None, None, None)

    async def aclose(self) -> None:
        await self._transport.aclose()


@final
class _Arriving:
    def __init__(self, response: pyqwest.Response) -> None:
        self.status = response.status
        self.content_type = response.headers.get("content-type", "")
        self._response = response
        self._pieces = aiter(response.content)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:  # and no generator, which a reader that needs no more would leave unfinished
        return bytes(await anext(self._pieces))

    async def aclose(self) -> None:
        await self._response.aclose()


def same_process(what: str, home: int | None) -> int:
    process = os.getpid()
    if home not in (None, process):
        raise RuntimeError(
            f"{what} was used before this process was forked, and its connections do not survive that. "
            "Fork first, as tornado.process.fork_processes does, and make or use the worker afterwards."
        )
    return process
