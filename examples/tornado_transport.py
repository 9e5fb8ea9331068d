"""A transport for `HttpWorker` over Tornado's own HTTP client, for those who want no other.

Run it with ``python examples/tornado_transport.py``: it starts a hook and calls it. It costs several times what the
default transport does, because Tornado's client opens a connection for each request. Only what goes wrong before
that connection stands is certain not to have been sent.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import socket
import ssl
import threading
from collections.abc import Mapping
from wsgiref.simple_server import WSGIRequestHandler, make_server

from tornado.simple_httpclient import SimpleAsyncHTTPClient

from slacker import Slacker, wsgi
from slacker.hook import Config, Hook
from slacker.signing import Keyring
from slacker.workers import HttpWorker
from slacker.workers.http import Answer, NotSent


class TornadoTransport:
    """Sends requests with an AsyncHTTPClient of the loop on which it is first used, and of no other.

    It names the simple client, since the one over curl obeys proxies of the environment.

    Args:
        max_connections: most requests at once; not less than the worker's.
        max_reply: most bytes of a response.
        request_timeout: seconds after which a request that was given up is ended: Tornado cannot cancel one. The
            worker's own `timeout`, or a little more.
    """

    def __init__(self, max_connections: int = 8, max_reply: int = 256 << 20, request_timeout: float = 30.0) -> None:
        self._settings = {"max_clients": max_connections, "max_body_size": max_reply, "max_buffer_size": max_reply}
        self._request_timeout = request_timeout
        self._client: SimpleAsyncHTTPClient | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if self._client is None:
            self._client = SimpleAsyncHTTPClient(force_instance=True, **self._settings)
        try:
            response = await self._client.fetch(
                url,
                raise_error=False,  # any status is an answer
                method="POST",
                headers=dict(headers),
                body=body,
                follow_redirects=False,
                decompress_response=False,
                connect_timeout=5.0,
                request_timeout=self._request_timeout,
            )
        except (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError) as error:
            raise NotSent(str(error)) from error
        return Answer(response.code, response.headers.get("Content-Type", ""), response.body)

    async def aclose(self) -> None:
        if self._client is not None:
            self._client.close()


class QuietHandler(WSGIRequestHandler):
    def log_message(self, *args: object) -> None:
        """Log nothing."""


async def main() -> None:
    """Start a hook in a thread and call it through Tornado's client."""
    key = secrets.token_hex(32)
    keyring = Keyring(key)
    server = make_server("127.0.0.1", 0, wsgi.application(Hook(lambda: Config(keyring))), handler_class=QuietHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    try:
        async with HttpWorker(url, key=key, transport=TornadoTransport()) as worker:
            print("20! =", await Slacker(math.factorial, worker)(20))
    finally:
        await asyncio.to_thread(server.shutdown)
        thread.join()
        server.server_close()


if __name__ == "__main__":
    asyncio.run(main())
