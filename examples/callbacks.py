"""A Tornado server in callback style: no ``await``, no ``yield``.

Run it with ``python examples/callbacks.py``, then open http://127.0.0.1:8000/?host=localhost
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
from typing import Any

import tornado.web

from slacker import Slacker
from slacker.workers import ThreadWorker

resolve = Slacker(socket.getaddrinfo, ThreadWorker(max_workers=8, max_queue=100))


class Lookup(tornado.web.RequestHandler):
    """Answers with the addresses of a host; the blocking look-up runs in a thread."""

    def get(self) -> asyncio.Future[None]:
        # Tornado finishes the request when the Future that a handler returns is done.
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        host = self.get_query_argument("host")
        resolve(host, 80, type=socket.SOCK_STREAM).proceed(self.on_addresses, self.on_error)
        return self.answered

    def on_addresses(self, found: list[tuple[Any, ...]]) -> None:
        self.write({"addresses": sorted({address[0] for *_, address in found})})
        self.done()

    def on_error(self, error: BaseException) -> None:
        self.set_status(404 if isinstance(error, socket.gaierror) else 500)
        self.write({"error": str(error)})
        self.done()

    def done(self) -> None:
        if not self.answered.done():
            self.answered.set_result(None)


async def main(port: int) -> None:
    """Serve until interrupted."""
    server = tornado.web.Application([("/", Lookup)]).listen(port, "127.0.0.1")
    port = next(iter(server._sockets.values())).getsockname()[1]
    print(f"Serving look-ups on http://127.0.0.1:{port}/?host=localhost", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(parser.parse_args().port))
