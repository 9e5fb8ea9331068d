"""Tornado handlers whose work ends when the client goes away, since nobody would read the answer.

Run it with ``python examples/cancel_on_disconnect.py``: it serves, is its own impatient client, and tells what comes of
that. A call that still waits for a thread never runs; a stream ends, and its thread is free for others. (A call that
runs already runs to its end: no thread can be stopped.)
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application, Finish, RequestHandler

import slacker
from slacker import Slacker
from slacker.workers import ThreadWorker

T = TypeVar("T")


class CancelOnDisconnect(RequestHandler):
    """A handler that need not finish what it does for a client that has gone away."""

    gone = False
    work: asyncio.Future[Any] | None = None

    async def while_connected(self, work: Awaitable[T]) -> T:
        """Return what `work` gives; when the client goes away cancel it, and end the request."""
        self.work = running = asyncio.ensure_future(work)
        if self.gone:
            running.cancel()
        try:
            return await running
        except asyncio.CancelledError:
            if self.gone:
                raise Finish from None
            raise

    def on_connection_close(self) -> None:
        self.gone = True
        self.set_status(499, "Client Closed Request")  # nobody gets it, but the log has it, as nginx's does
        if self.work is not None:
            self.work.cancel()


# --- Two handlers that use it ----------------------------------------------------------------------------------------

worker = ThreadWorker(max_workers=1)  # so that whoever comes second waits
reports: list[str] = []  # that were made
arrived = asyncio.Event()


def make_report(name: str) -> str:
    reports.append(name)
    return f"All about {name}.\n"


async_report = Slacker(make_report, worker)
async_count = Slacker(itertools.count, worker)


class Report(CancelOnDisconnect):
    """A call."""

    def prepare(self) -> None:
        arrived.set()  # for the client below, who shall not leave before

    async def get(self) -> None:
        self.write(await self.while_connected(async_report("cities")))


class Numbers(CancelOnDisconnect):
    """A stream without end."""

    async def get(self) -> None:
        await self.while_connected(self.send())

    async def send(self) -> None:
        with suppress(StreamClosedError):  # flush() may be the first to notice
            async with aclosing(slacker.stream(async_count())) as numbers:
                while chunk := await numbers.next_chunk():
                    self.write("".join(f"{number}\n" for number in chunk))
                    await self.flush()


# --- and their client ------------------------------------------------------------------------------------------------


async def main() -> None:
    """Ask for a report and go away, ask for numbers and go away, ask for a report and wait for it."""
    ended: asyncio.Queue[RequestHandler] = asyncio.Queue()
    application = Application([("/report", Report), ("/numbers", Numbers)], log_function=ended.put_nowait)
    server, sockets = HTTPServer(application), bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)

    async def ask(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return reader, writer

    work_of_others = threading.Event()
    busy = Slacker(work_of_others.wait, worker)().fetch()
    _, client = await ask("/report")
    await arrived.wait()
    client.close()
    print("/report ", (await ended.get()).get_status())
    work_of_others.set()
    await busy
    print("made    ", reports)

    reader, client = await ask("/numbers")
    await reader.readuntil(b"999\n")
    client.close()
    print("/numbers", (await ended.get()).get_status())

    reader, client = await ask("/report")
    await reader.readuntil(b"All about cities.\n")  # so the only thread is free again
    client.close()
    print("/report ", (await ended.get()).get_status())
    print("made    ", reports)

    server.stop()
    await server.close_all_connections()
    await worker.aclose()


if __name__ == "__main__":
    asyncio.run(main())
