"""How a connection comes to stand: one address after another is tried, then TLS. Names are asked for in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any

from .connection import Connection

__all__ = ["connect"]


async def connect(host: str, port: int, tls: ssl.SSLContext | None, timeout: float) -> Connection:
    """Return a connection to `host`, to the first of its addresses that answers.

    Args:
        host: its name or address.
        port: at which it listens.
        tls: makes the connection safe, and checks whose certificate it is.
        timeout: seconds for all of it.

    Raises:
        OSError, UnicodeError: there is none, or not in time; a TimeoutError, or one of DNS or TLS is an OSError too.
    """
    async with asyncio.timeout(timeout):
        connected = await _first_of(await _addresses(host, port), timeout)
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                connected = tls.wrap_socket(connected, server_hostname=host, do_handshake_on_connect=False)
                await _shake_hands(connected)
        except BaseException:
            connected.close()
            raise
    return Connection(connected)


async def _addresses(host: str, port: int) -> list[Any]:
    with contextlib.suppress(socket.gaierror):
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)  # in a thread


async def _first_of(addresses: list[Any], timeout: float) -> socket.socket:
    errors: list[OSError] = []
    for family, kind, protocol, _, address in addresses:
        candidate = socket.socket(family, kind, protocol)
        try:
            candidate.setblocking(False)
            async with asyncio.timeout(timeout / len(addresses)):  # one that is silent leaves time for the others
                await asyncio.get_running_loop().sock_connect(candidate, address)
            return candidate
        except BaseException as error:
            candidate.close()
            if not isinstance(error, OSError):
                raise
            errors.append(error)
    try:
        raise errors[0]
    finally:
        errors.clear()  # its traceback leads to this frame: it would hold itself


async def _shake_hands(connected: ssl.SSLSocket) -> None:
    while True:
        try:
            connected.do_handshake()
            return
        except ssl.SSLWantReadError:  # what it writes finds room at once
            await _readable(connected)


async def _readable(connected: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def tell() -> None:
        with contextlib.suppress(asyncio.InvalidStateError):  # cancelled, or told already
            ready.set_result(None)

    loop.add_reader(connected.fileno(), tell)
    try:
        await ready
    finally:
        loop.remove_reader(connected.fileno())
