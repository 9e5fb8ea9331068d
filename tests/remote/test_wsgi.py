"""The hook as a WSGI application."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from slacker import wsgi
from slacker.chain import Call, Chain
from slacker.hook import CONTENT_TYPE, Request
from slacker.outcome import Value

from .pair import Body, Pair, Sealed


def environ(sealed: Sealed, **changes: Any) -> dict[str, Any]:
    """Return `sealed` as a server hands it on."""
    given: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "QUERY_STRING": "",
        "CONTENT_TYPE": CONTENT_TYPE,
        "CONTENT_LENGTH": str(len(sealed.body)),
        "HTTP_SLACKER_SIGNATURE": sealed.header,
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.input": io.BytesIO(sealed.body),
    }
    setup_testing_defaults(given)
    return {**given, **changes}


class Server:
    """Asks an application as a server does, and notes what that breaks of the rules (PEP 3333)."""

    def __init__(self, pair: Pair) -> None:
        self._application: Any = validator(wsgi.application(pair.hook))
        self.status = ""
        self.headers: list[tuple[str, str]] = []

    def ask(self, given: dict[str, Any]) -> bytes:
        body: Any = self._application(given, self._start_response)
        try:
            return b"".join(body)
        finally:
            body.close()

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self.status, self.headers = status, headers
        return lambda data: None


@pytest.mark.parametrize("count", [1, 1200])
def test_serves(count: int) -> None:
    """An authentic request is served, by one frame or several, and no rule of WSGI is broken."""
    pair = Pair()
    server = Server(pair)
    sealed = pair.seal(Chain(list, (Call((range(count),), {}),)))
    assert pair.open(sealed, server.ask(environ(sealed))) == [Value(list(range(count)))]
    assert server.status == "200 OK"


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"REQUEST_METHOD": "GET"}, "405 Method Not Allowed"), ({"QUERY_STRING": "a=b"}, "403 Forbidden")],
)
def test_refuses(changes: dict[str, str], status: str) -> None:
    """What is no request is refused, with no word, and no rule of WSGI is broken."""
    pair = Pair()
    server = Server(pair)
    assert (server.ask(environ(pair.seal(), **changes)), server.status) == (b"", status)


def test_too_large() -> None:
    """What is too large is refused by that status, whatever this Python calls it."""
    pair = Pair(max_request=1)
    server = Server(pair)
    assert (server.ask(environ(pair.seal())), server.status[:4]) == (b"", "413 ")


def test_close_reaches_the_work() -> None:
    """When the server closes the reply, chains that were not begun are left out."""
    performed: list[Chain] = []

    def perform(chain: Chain, options: object, encode: object) -> Value:
        performed.append(chain)
        return Value(1)

    pair = Pair(perform=perform)
    body: Iterable[bytes] = wsgi.application(pair.hook)(
        environ(pair.seal(*[Chain(list)] * 9)), lambda *args: lambda data: None
    )
    next(iter(body))
    body.close()  # type: ignore[attr-defined]
    assert len(performed) == 2


def test_request() -> None:
    """A request has each of its fields from its place in the environment."""
    read = Body(b"").read
    given = {
        "REQUEST_METHOD": "PUT",
        "QUERY_STRING": "a=b",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "7",
        "HTTP_TRANSFER_ENCODING": "chunked",
        "HTTP_CONTENT_ENCODING": "gzip",
        "HTTP_SLACKER_SIGNATURE": "v1",
        "REMOTE_ADDR": "::1",
    }
    request = Request("PUT", "a=b", "text/plain", "7", "chunkedgzip", "v1", "::1", read)
    assert wsgi.request_of(given, read) == request


def test_request_of_little() -> None:
    """What a server leaves out is empty, and so no request."""
    read = Body(b"").read
    assert wsgi.request_of({"REQUEST_METHOD": "POST"}, read) == Request("POST", "", "", "", "", "", "", read)
    assert Pair().hook.answer(wsgi.request_of({"REQUEST_METHOD": "POST"}, read)).status == 403


@pytest.mark.parametrize("name", ["HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_CLIENT_IP", "HTTP_X_REAL_IP"])
def test_address_is_the_peer(name: str) -> None:
    """Only the server says where a request comes from, never a header."""
    pair = Pair()
    server = Server(pair)
    given = environ(pair.seal(), REMOTE_ADDR="192.0.2.1", **{name: "127.0.0.1"})
    assert (server.ask(given), server.status) == (b"", "403 Forbidden")


@pytest.mark.parametrize("name", ["HTTP_X_HTTP_METHOD_OVERRIDE", "HTTP_X_METHOD_OVERRIDE"])
def test_method_is_the_method(name: str) -> None:
    """No header makes a POST of another method."""
    pair = Pair()
    server = Server(pair)
    given = environ(pair.seal(), REQUEST_METHOD="GET", **{name: "POST"})
    assert (server.ask(given), dict(server.headers)["Allow"]) == (b"", "POST")


def test_header_twice() -> None:
    """A header that came twice, which servers join by a comma, is none."""
    pair = Pair()
    server = Server(pair)
    sealed = pair.seal()
    given = environ(sealed, HTTP_SLACKER_SIGNATURE=f"{sealed.header},{sealed.header}")
    assert (server.ask(given), server.status) == (b"", "403 Forbidden")
