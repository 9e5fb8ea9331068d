"""What real servers answer to who is no client: no more than a 4xx, whatever is sent, and nothing runs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from slacker import Slacker, TransportError
from slacker.workers import DjangoHttpWorker
from slacker.workers.http import NotSent
from tests.waiting import LIVENESS

from .helpers import Server

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)  # nobody gets as far


class Raw(NamedTuple):
    """An authentic request, taken apart."""

    signature: bytes
    body: bytes
    start: bytes = b"POST /slacker/execute/ HTTP/1.1"
    content_type: bytes = b"application/x-tornado-slacker"

    def __bytes__(self) -> bytes:
        return b"\r\n".join(
            [
                self.start,
                b"Host: 127.0.0.1",
                b"Connection: close",
                b"Content-Type: " + self.content_type,
                b"Content-Length: %d" % len(self.body),
                b"Slacker-Signature: " + self.signature,
                b"",
                self.body,
            ]
        )


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """Return the file that an authentic request makes."""
    return tmp_path / "ran"


@pytest.fixture
def request_to_touch(server: Server, ran: Path) -> Raw:
    """Make a request that would make the file `ran`, and do not send it."""
    made: list[Raw] = []

    class Keeping:
        async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
            made.append(Raw(headers["slacker-signature"].encode(), body))
            raise NotSent

        async def aclose(self) -> None:
            pass

    async def main() -> None:
        async with DjangoHttpWorker(server.url, transport=Keeping()) as worker:
            with pytest.raises(TransportError):
                await Slacker(Path.touch, worker)(ran)

    asyncio.run(main())
    return made[0]


def status(server: Server, raw: Raw) -> int:
    """Send a request, and return the status of the answer."""
    with socket.create_connection((server.host, server.port), LIVENESS) as connection:
        connection.sendall(bytes(raw))
        return int(connection.makefile("rb").readline().split()[1])


def test_an_authentic_request(server: Server, request_to_touch: Raw, ran: Path) -> None:
    """As it is, the request that strangers get wrong below is served."""
    assert status(server, request_to_touch) == 200
    assert ran.exists()


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"], ids=bytes.decode)
def test_another_method(server: Server, request_to_touch: Raw, ran: Path, method: bytes) -> None:
    """Any method but POST is 405, though all else is in order."""
    assert status(server, request_to_touch._replace(start=method + request_to_touch.start[4:])) == 405
    assert not ran.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: {"start": raw.start.replace(b"/ ", b"/?a=b ")},
        lambda raw: {"content_type": b"application/x-www-form-urlencoded"},
        lambda raw: {"content_type": b"multipart/form-data; boundary=x"},
        lambda raw: {"content_type": raw.content_type + b"\r\nContent-Encoding: gzip"},
        lambda raw: {"signature": b""},
        lambda raw: {"signature": raw.signature + b"\r\nSlacker-Signature: " + raw.signature},
        lambda raw: {"signature": raw.signature.replace(b";", b";\r\n ")},
        lambda raw: {"signature": raw.signature.upper()},
        lambda raw: {"signature": raw.signature + b";"},
        lambda raw: {"signature": raw.signature + "é".encode()},
        lambda raw: {"signature": raw.signature.ljust(10_000, b"0")},
        lambda raw: {"signature": raw.signature.rpartition(b";")[0]},
        lambda raw: {"signature": b"v1;kid=;ts=;nonce=;len=;dig=;mac="},
        lambda raw: {"signature": raw.signature[:-1] + (b"0" if raw.signature[-1:] != b"0" else b"1")},
        lambda raw: {"body": raw.body + b"."},
    ],
    ids=[
        "query",
        "form",
        "upload",
        "encoding",
        "none",
        "twice",
        "folded",
        "upper case",
        "trailing ;",
        "no ASCII",
        "10 KB",
        "no mac",
        "empty fields",
        "wrong mac",
        "longer body",
    ],
)
def test_another_form(
    server: Server, request_to_touch: Raw, ran: Path, change: Callable[[Raw], dict[str, bytes]]
) -> None:
    """Of any other form, or not well signed, it is denied, by the hook or before it comes there: never a 500."""
    assert status(server, request_to_touch._replace(**change(request_to_touch))) in {400, 403, 431}
    assert not ran.exists()
