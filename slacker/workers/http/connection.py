"""One HTTP/1.1 connection: a socket, a parser, and one exchange at a time.

    connect --> idle --request--> busy --the whole answer--> idle --> ...
                  +-- whatever else happens ---+--> closed, and never used again

The loop reads the socket itself, without a transport of asyncio's: a connection that is dropped, as when nobody closed
its worker and its loop is gone, is closed silently. An idle one is read as well, or nobody would see that the server
has closed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
import weakref
from collections import deque
from contextvars import Context
from typing import final

from httptools import HttpParserError, HttpParserUpgrade

from .response import Response

__all__ = ["Connection"]

READ_SIZE = 64 << 10
"""Most bytes read at once: more than a TLS record has, so that nothing stays unseen inside of the SSL object, and few
enough to be allocated fast, which costs more than to read again."""

READ_AHEAD = 1 << 20
"""Bytes of a body taken in pieces that may wait here; then the server has to."""

JOINED = 64 << 10
"""Bytes of a body that is sent in one piece with its head; to copy a longer one takes time."""

_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


@final
class Connection:
    """A connection that stands. It belongs to the running loop, and refers to it weakly.

    Args:
        connected: the socket, which does not block; closed with this.
    """

    def __init__(self, connected: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._loop = weakref.ref(loop)
        self._socket = connected
        self._response = Response()
        self._unsent: deque[memoryview] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._in_pieces = False
        self._paused = False
        self._closed = False
        self._why_closed = ""
        self.answers = 0
        """How many it has had, as whoever keeps it counts them."""
        self._listen(loop)
        self._news = select.poll()
        self._news.register(connected, select.POLLIN)

    @property
    def status(self) -> int:
        """The status of the response, once its head is here."""
        return self._response.status

    @property
    def content_type(self) -> str:
        """The Content-Type of the response, once its head is here; empty if it has none."""
        return self._response.content_type

    @property
    def process(self) -> str:
        """Which of the server's processes has it, as the last response told; empty if none did."""
        return self._response.process

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def is_idle(self) -> bool:
        """Whether another request may follow: the last one was sent and answered, whole, and nothing came since."""
        return self._response.complete and self._response.keeps and not self._unsent and not self._closed

    def looks_alive(self) -> bool:
        """Tell whether an idle connection is still open, as far as the system knows: the loop may not yet."""
        if not self._closed and self._news.poll(0):
            self._on_readable()  # it is closed, unless TLS alone has something to say
        return not self._closed

    # --- an exchange ------------------------------------------------------------------------------------------

    def request(self, head: bytes, body: bytes, max_answer: int) -> None:
        """Begin to send a request, whose answer may have a body of so many bytes, at any time.

        Raises:
            OSError: not a byte of it left.
        """
        self._response.begin(max_answer)
        self._in_pieces = False
        first = head + body if len(body) <= JOINED else head
        try:
            sent = self._socket.send(first)
        except _NOT_NOW:
            sent = 0
        if sent < len(head) + len(body):
            rest = memoryview(first)[sent:], memoryview(body)[len(first) - len(head) :]
            self._unsent.extend(part for part in rest if part)
            asyncio.get_running_loop().add_writer(self._socket.fileno(), self._on_writable)

    def wait(self) -> asyncio.Future[None]:
        """Return a Future of when the answer is here, whole, for `answer`; or of any news, after `head`.

        It has a ConnectionError if the connection breaks before, or if what comes is no HTTP.
        """
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        if self._closed:
            self._wake()
        return waiter

    def answer(self) -> tuple[int, str, bytes | memoryview]:
        """Return status, Content-Type and body of an answer that is here, whole; a long body is not copied."""
        response = self._response
        body, response.body = response.body, b""
        return response.status, response.content_type, body if isinstance(body, bytes) else memoryview(body)

    async def head(self) -> None:
        """Wait for the head of an answer whose body is then taken by `piece`. Raises what `wait` does."""
        self._in_pieces = True
        while not self._response.status:
            await self.wait()

    async def piece(self) -> bytes:
        """Wait for more of the body and return it; nothing at its end. Raises what `wait` does."""
        response = self._response
        while not response.body and not response.complete:
            await self.wait()
        piece, response.body = bytes(response.body), b""
        if self._paused and not self._closed:
            self._paused = False
            self._listen(asyncio.get_running_loop())
        return piece

    def close(self, why: str = "it was closed here") -> None:
        """Close the connection, from any thread; whoever waits for something of it gets a ConnectionError."""
        loop = self._loop()
        if loop is None or loop.is_closed():
            self.drop()
        elif loop is _running_loop():
            self._close(why)
        else:
            with contextlib.suppress(RuntimeError):  # it is closed just now
                loop.call_soon_threadsafe(self._close, why)

    def drop(self) -> None:
        """Close the socket and nothing else: the loop is gone, or another process goes on with it."""
        self._closed = True
        self._socket.close()
        self._response.parser = None

    __del__ = drop

    # --- for the loop -----------------------------------------------------------------------------------------

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        # In a context of its own: whoever opened the connection may hold a request in hers, which is done long before.
        Context().run(loop.add_reader, self._socket.fileno(), self._on_readable)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return
        if self._closed and not self._response.complete:
            waiter.set_exception(ConnectionError(self._why_closed))
        else:
            waiter.set_result(None)

    def _close(self, why: str) -> None:
        if self._closed:
            return
        self._why_closed = why
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        loop.remove_writer(self._socket.fileno())
        with contextlib.suppress(OSError):  # it is not connected any more
            self._socket.shutdown(socket.SHUT_RDWR)  # though a forked process may hold it as well
        self.drop()
        self._wake()

    def _on_readable(self) -> None:
        response = self._response
        try:
            data = self._socket.recv(READ_SIZE)
        except _NOT_NOW:
            return
        except OSError as error:
            self._close(str(error))
            return
        if response.complete:  # so nobody asked
            self._close("it was idle")
            return
        if not data:
            response.end()
            self._close("the server closed it before it had answered in full")
            return
        try:
            response.feed(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            response.keeps = False
            if not response.complete:
                self._close(f"what came is no answer in HTTP/1.1 that can be taken: {error}")
                return
        if response.complete or self._in_pieces:
            self._wake()
            if len(response.body) > READ_AHEAD and self._in_pieces and not response.complete:
                self._paused = True
                asyncio.get_running_loop().remove_reader(self._socket.fileno())

    def _on_writable(self) -> None:
        unsent = self._unsent
        with contextlib.suppress(OSError):  # not now, or never more: then reading fails too
            unsent[0] = unsent[0][self._socket.send(unsent[0]) :]
        if not unsent[0]:
            unsent.popleft()
        if not unsent:
            asyncio.get_running_loop().remove_writer(self._socket.fileno())


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
