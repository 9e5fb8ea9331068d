"""How an `HttpWorker` sends bytes: the seam for another HTTP client, and the one that is used by default."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import ssl
import sys
import urllib.parse
import weakref
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple, Protocol, final, runtime_checkable

from ..loops import ByLoop
from .connecting import connect
from .connection import Connection
from .spread import EVERY, Spread

__all__ = [
    "Address",
    "Answer",
    "Arriving",
    "HttpTransport",
    "NotSent",
    "StreamingTransport",
    "Transport",
    "checked_host",
]


MAX_ANSWER = 1 << 30


class NotSent(Exception):
    """For transports: no byte of the request left, so that it may be sent again."""


@final
class Answer(NamedTuple):
    """An HTTP response, whole."""

    status: int
    content_type: str
    body: bytes | memoryview


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
class _Kept:
    """The connections of one loop. The loop, which reads them, refers to them, so that they end with it; nobody has to
    notice.
    """

    def __init__(self) -> None:
        self.idle: list[tuple[str, weakref.ref[Connection]]] = []
        """Those that wait for a request, by the URL; that used last is the last one."""
        self.spreads: defaultdict[str, Spread] = defaultdict(Spread)
        """By URL."""


@final
class HttpTransport:
    """The transport used by default: HTTP/1.1 over connections that are kept, for each event loop its own.

    It asks no proxy, keeps no cookie, and takes answers as they are. Connections are spread over the processes of the
    server (`slacker.workers.http.spread`). After a fork it begins afresh in the child.

    Args:
        max_connections: most that are kept in each loop for the next request.
        connect_timeout: seconds until a connection must stand.
        max_answer: most bytes of an answer's body, unless it is taken in pieces; of a longer one nothing is returned.
        ssl_context: for https; by default one that trusts the system's authorities. With another one a certificate of
            your own can be trusted, or shown.
    """

    def __init__(
        self,
        max_connections: int = 8,
        connect_timeout: float = 5.0,
        *,
        max_answer: int = MAX_ANSWER,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._max_connections = max_connections
        self._connect_timeout = connect_timeout
        self._max_answer = max_answer
        self._ssl_context = ssl_context
        self._closed = False
        self._kept = ByLoop(_Kept)
        _transports.add(self)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        kept = self._kept.here()
        connection = _take(kept, url) or await self._connect(url)
        try:
            _send(connection, url, headers, body, self._max_answer)
            await connection.wait()
        except BaseException:
            connection.close()
            raise
        answer = Answer(*connection.answer())
        self._put_back(kept, url, connection)
        return answer

    @asynccontextmanager
    async def stream(self, url: str, headers: Mapping[str, str], body: bytes) -> AsyncIterator[Arriving]:
        kept = self._kept.here()
        connection = _take(kept, url) or await self._connect(url)
        try:
            _send(connection, url, headers, body, sys.maxsize)
            await connection.head()
            yield _Arriving(connection)
        finally:
            self._put_back(kept, url, connection)

    async def aclose(self) -> None:
        """Close the connections that are idle now, and the others when their answers are here."""
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        for connection in self._all_idle():
            connection.close()

    __del__ = _close_idle

    def _all_idle(self) -> Iterator[Connection]:
        for _, kept in self._kept.items():
            for _, reference in list(kept.idle):
                if (connection := reference()) is not None:
                    yield connection

    def _put_back(self, kept: _Kept, url: str, connection: Connection) -> None:
        connection.answers += 1
        is_due = connection.answers % EVERY == 1
        if self._closed or not connection.is_idle or (is_due and not kept.spreads[url].keeps(connection)):
            connection.close()
            return
        idle = kept.idle
        idle.append((url, weakref.ref(connection)))
        if len(idle) > self._max_connections and (oldest := idle.pop(0)[1]()) is not None:
            oldest.close()

    async def _connect(self, url: str) -> Connection:
        address = Address.of(url)
        try:
            if address.secure and self._ssl_context is None:
                self._ssl_context = await asyncio.to_thread(ssl.create_default_context)  # reads files
            tls = self._ssl_context if address.secure else None
            return await connect(address.host, address.port, tls, self._connect_timeout)
        except Exception as error:  # whatever it is, no byte has left
            why = f"{error} ({type(error).__name__})" if str(error) else f"nobody within {self._connect_timeout:.3g} s"
            raise NotSent(why) from error

    def begin_afresh(self) -> None:
        """Leave the connections to the process from which this one was forked."""
        for connection in self._all_idle():
            connection.drop()
        self._kept = ByLoop(_Kept)


def _take(kept: _Kept, url: str) -> Connection | None:
    idle = kept.idle
    for place in range(len(idle) - 1, -1, -1):  # from the one used last, so that of too many the others grow old
        if idle[place][0] == url:
            connection = idle.pop(place)[1]()
            if connection is not None and connection.looks_alive():
                return connection
    return None


_transports: weakref.WeakSet[HttpTransport] = weakref.WeakSet()


def _begin_afresh() -> None:
    for transport in _transports:
        transport.begin_afresh()


os.register_at_fork(after_in_child=_begin_afresh)


@final
class _Arriving:
    def __init__(self, connection: Connection) -> None:
        self.status = connection.status
        self.content_type = connection.content_type
        self._connection = connection

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:  # and no generator, which a reader that needs no more would leave unfinished
        if not (piece := await self._connection.piece()):
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        self._connection.close()


# --- requests ------------------------------------------------------------------------------------------------------


class Address(NamedTuple):
    """A URL, taken apart for HTTP/1.1."""

    secure: bool
    host: str
    port: int
    host_header: str
    target: str

    @staticmethod
    @functools.lru_cache(maxsize=64)
    def of(url: str) -> Address:
        """Take `url` apart.

        Raises:
            ValueError: it has a host or a port that cannot be one.
        """
        parts = urllib.parse.urlsplit(url)
        secure, host = parts.scheme == "https", parts.hostname or ""
        written = f"[{host}]" if ":" in host else host.encode("idna").decode()
        return Address(
            secure,
            host,
            parts.port or (443 if secure else 80),
            checked_host(written if parts.port is None else f"{written}:{parts.port}"),
            urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~"),
        )


def checked_host(host: str) -> str:
    """Return `host` if it can stand in a Host header; raise ValueError otherwise."""
    if not re.fullmatch(r"[!-~]+", host):
        raise ValueError(f"it must be a host, perhaps with a port, got {host!r}")
    return host


def _send(connection: Connection, url: str, headers: Mapping[str, str], body: bytes, max_answer: int) -> None:
    address = Address.of(url)
    host = "" if "host" in headers else f"host: {address.host_header}\r\n"
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    head = f"POST {address.target} HTTP/1.1\r\n{host}{lines}content-length: {len(body)}\r\n\r\n"
    try:
        connection.request(head.encode("latin-1"), body, max_answer)
    except OSError as error:
        raise NotSent(str(error)) from error
