"""`HttpTransport` by itself: what it sends, what it makes of what comes back, and which errors mean "not sent"."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import gzip
import socket
import ssl
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from slacker.workers.http import HttpTransport, NotSent, transport
from slacker.workers.http.connection import Connection as ClientConnection
from tests.waiting import LIVENESS, eventually, until

from .conftest import Watch, pass_time
from .servers import Connection, Fault, count_connections
from .test_faults import answers, answers_html, closes, is_silent, resets, works_and_resets

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def received(watch: Watch) -> Iterator[list[bytes]]:
    """Give a list of what arrives at `watch.faulty` from now on, a request each; each is answered with hello."""
    requests: list[bytes] = []

    def fault(connection: Connection) -> None:
        while True:
            requests.append(connection.read_request())
            connection.send(HELLO)

    watch.faulty.script += [fault] * 10
    yield requests
    watch.faulty.script.clear()


async def post(url: str, connect_timeout: float = LIVENESS, **headers: str) -> Any:
    transport = HttpTransport(4, connect_timeout)
    try:
        return await transport.post(url, headers, b"body")
    finally:
        await transport.aclose()


# --- which errors mean "not sent" ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://[::1]:1/", "http://no.such.host.invalid/"], ids=["refused", "IPv6", "name"]
)
async def test_an_address_without_a_server_is_not_sent(url: str) -> None:
    """Refused, or not resolvable."""
    with pytest.raises(NotSent) as caught:
        await post(url)
    assert isinstance(caught.value.__cause__, OSError)


async def test_certificates_that_cannot_be_read_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is what fails before there is a connection, whatever it is."""

    def fail() -> None:
        raise RuntimeError("no certificates")

    monkeypatch.setattr(ssl, "create_default_context", fail)
    with pytest.raises(NotSent, match="no certificates"):
        await post("https://127.0.0.1:1/")


async def test_a_connect_timeout_is_not_sent() -> None:
    """A connection that does not stand in time."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as listener,
        socket.create_connection(listener.getsockname()),
        pytest.raises(NotSent, match=r"within 0\.3 s"),
    ):
        await post(f"http://127.0.0.1:{listener.getsockname()[1]}/", 0.3)


@pytest.mark.parametrize("fault", [closes, is_silent], ids=["closes", "is silent"])
async def test_a_tls_handshake_that_fails_is_not_sent(watch: Watch, fault: Fault) -> None:
    """A handshake that is cut, or that does not end."""

    def hears(connection: Connection) -> None:
        connection.client.recv(1)
        if fault is is_silent:
            connection.wait()

    watch.faulty.script.append(hears)
    with pytest.raises(NotSent) as caught:
        await post(f"https://127.0.0.1:{watch.faulty.port}/", 0.3 if fault is is_silent else LIVENESS)
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    "fault",
    [
        closes,
        resets,
        works_and_resets,
        answers(HELLO[:-1]),
        answers(HELLO[:20]),
        answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
    ],
    ids=["closed", "reset", "reset later", "cut body", "cut head", "no last chunk"],
)
async def test_what_breaks_later_may_have_been_sent(watch: Watch, fault: Fault) -> None:
    """An error after the connection stood never passes for "not sent"."""
    watch.faulty.script.append(fault)
    with pytest.raises(ConnectionError):
        await post(watch.faulty.url)
    assert watch.faulty.accepted == 1


async def test_a_reset_while_the_body_is_written_may_have_been_sent(watch: Watch) -> None:
    """Nor does one in the middle of a large body."""
    watch.faulty.script.append(resets)
    transport = HttpTransport(1)
    with pytest.raises(ConnectionError):
        await transport.post(watch.faulty.url, {}, bytes(8 << 20))
    await transport.aclose()


# --- what it does not do by itself ---------------------------------------------------------------------------------


async def test_it_sends_what_it_is_given(watch: Watch, received: list[bytes]) -> None:
    """One request with Content-Length, without encodings to accept, and with the Host that was given."""
    answer = await post(watch.faulty.url, host="shop.example")
    head, _, body = received[0].partition(b"\r\n\r\n")
    first, *lines = head.lower().split(b"\r\n")
    assert (answer.status, answer.body, first, body) == (200, b"hello", b"post / http/1.1", b"body")
    assert sorted(lines) == [b"content-length: 4", b"host: shop.example"]


async def test_it_keeps_connections(watch: Watch, received: list[bytes]) -> None:
    """Requests one after another take the same connection."""
    transport = HttpTransport(4)
    for _ in range(3):
        await transport.post(watch.faulty.url, {}, b"body")
    assert (watch.faulty.accepted, len(received)) == (1, 3)
    await transport.aclose()


async def test_each_loop_has_its_own_connections(watch: Watch, received: list[bytes]) -> None:
    """A connection stays with its loop, and is gone with it, without a warning."""
    transport = HttpTransport(4)
    for _ in range(2):
        await asyncio.to_thread(lambda: asyncio.run(transport.post(watch.faulty.url, {}, b"body")))
        gc.collect()
        await eventually(lambda: count_connections(watch.faulty.port) == 0)
    await transport.post(watch.faulty.url, {}, b"body")
    assert watch.faulty.accepted == 3
    await transport.aclose()


async def test_it_replaces_a_connection_that_was_closed(watch: Watch) -> None:
    """A kept connection that the server closed in between is replaced; the request is sent once."""
    requests: list[bytes] = []
    left = threading.Event()

    def fault(connection: Connection) -> None:
        requests.append(connection.read_request())
        connection.send(HELLO)
        if len(requests) == 1:
            connection.close()
            left.set()

    watch.faulty.script += [fault] * 2
    transport = HttpTransport(4)
    await transport.post(watch.faulty.url, {}, b"first")
    await eventually(left.is_set)
    await eventually(lambda: count_connections(watch.faulty.port) == 0)
    await transport.post(watch.faulty.url, {}, b"second")
    assert [request[-5:] for request in requests] == [b"first", b"econd"]
    assert watch.faulty.accepted == 2
    await transport.aclose()


@pytest.mark.parametrize("size", [10, 200_000], ids=["small", "large"])
async def test_it_sends_when_it_can(size: int) -> None:
    """What a connection cannot take at once is sent when it can; and the answer is the whole one."""
    here, there = socket.socketpair()
    with there:
        here.setblocking(False)
        full = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                full += here.send(bytes(100_000))
        connection = ClientConnection(here)
        connection.request(b"head", bytes(size), 1 << 20)
        answer = connection.wait()

        def serve() -> None:
            wanted = full + len(b"head") + size
            while wanted > 0:
                wanted -= len(there.recv(100_000))
            there.sendall(HELLO)

        await asyncio.to_thread(serve)
        await answer
        assert (connection.answer()[2], connection.is_idle) == (b"hello", True)
        connection.close()


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        (b"HTTP/1.1 103 Early Hints\r\nContent-Type: a/b\r\n\r\n" + HELLO, True),
        (CHUNKED + b"5\r\nhello\r\n0\r\nContent-Type: a/b\r\n\r\n", True),
        (HELLO + b"surplus", False),
        (HELLO.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), False),
        (HELLO.replace(b"1.1", b"1.0"), False),
    ],
    ids=["informational", "trailers", "surplus", "Connection: close", "HTTP/1.0"],
)
async def test_answers_of_all_kinds(watch: Watch, reply: bytes, kept: bool) -> None:
    """What else comes with an answer is left out of it; the connection is kept where it can be."""

    def fault(connection: Connection) -> None:
        while True:
            connection.read_request()
            connection.send(reply)

    watch.faulty.script += [fault] * 2
    transport = HttpTransport(4)
    for _ in range(2):
        answer = await transport.post(watch.faulty.url, {}, b"body")
        assert (answer.status, answer.content_type, answer.body) == (200, "", b"hello")
    assert watch.faulty.accepted == (1 if kept else 2)
    watch.faulty.script.clear()
    await transport.aclose()


async def test_a_long_answer(watch: Watch) -> None:
    """An answer that comes in many pieces is one body."""
    body = bytes(range(256)) * 10_000
    watch.faulty.script.append(answers(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body))
    assert (await post(watch.faulty.url)).body == body


async def test_an_answer_before_the_request_was_read(watch: Watch) -> None:
    """A server may refuse a large body before it has read it: that is its answer."""
    told = threading.Event()

    def fault(connection: Connection) -> None:
        connection.client.recv(1)
        connection.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        told.wait(LIVENESS)

    watch.faulty.script.append(fault)
    transport = HttpTransport(4)
    answer = await transport.post(watch.faulty.url, {}, bytes(15 << 20))
    told.set()
    assert (answer.status, list(transport._all_idle())) == (413, [])
    await transport.aclose()


async def test_a_connection_that_takes_nothing_more(watch: Watch) -> None:
    """If sending fails at once, not a byte has left."""
    ended = threading.Event()

    def fault(connection: Connection) -> None:
        connection.read_request()
        connection.send(HELLO)
        ended.wait(LIVENESS)

    watch.faulty.script.append(fault)
    transport = HttpTransport(4)
    await transport.post(watch.faulty.url, {}, b"body")
    (connection,) = transport._all_idle()
    connection._socket.shutdown(socket.SHUT_WR)
    with pytest.raises(NotSent):
        await transport.post(watch.faulty.url, {}, b"body")
    ended.set()
    await transport.aclose()


async def test_it_keeps_no_more_than_it_may(watch: Watch, received: list[bytes]) -> None:
    """Of too many connections the one that waits for longest is closed."""
    transport = HttpTransport(1)
    for path in ("a", "b", "b"):
        await transport.post(watch.faulty.url + path, {}, b"body")
    await eventually(lambda: count_connections(watch.faulty.port) == 1)
    assert watch.faulty.accepted == 2
    await transport.aclose()


def test_what_is_dropped_is_closed(watch: Watch, received: list[bytes]) -> None:
    """A transport that nobody closed closes its connections when it is collected, also between two runs of its loop."""
    loop = asyncio.new_event_loop()
    transport = HttpTransport(4)
    loop.run_until_complete(transport.post(watch.faulty.url, {}, b"body"))
    del transport
    gc.collect()
    loop.run_until_complete(asyncio.sleep(0))
    until(lambda: count_connections(watch.faulty.port) == 0)
    loop.close()


@pytest.mark.parametrize("closed", [False, True], ids=["running", "closed"])
async def test_closing_reaches_connections_of_other_loops(watch: Watch, received: list[bytes], closed: bool) -> None:
    """Idle connections of a loop in another thread are closed too, and those of a loop that was closed."""
    transport = HttpTransport(4)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    posted = asyncio.run_coroutine_threadsafe(transport.post(watch.faulty.url, {}, b"body"), loop)
    await asyncio.wrap_future(posted)

    def end() -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    if closed:
        end()
    await transport.aclose()
    await eventually(lambda: count_connections(watch.faulty.port) == 0)
    if not closed:
        end()


async def test_it_replaces_a_connection_before_the_loop_knows(watch: Watch) -> None:
    """So it does if the loop, which was busy meanwhile, has not heard of its end yet."""
    left = threading.Event()

    def fault(connection: Connection) -> None:
        connection.read_request()
        connection.send(HELLO)
        connection.close()
        left.set()

    watch.faulty.script += [fault] * 2
    transport = HttpTransport(4)
    await transport.post(watch.faulty.url, {}, b"body")
    assert left.wait(LIVENESS)
    await transport.post(watch.faulty.url, {}, b"body")
    assert watch.faulty.accepted == 2
    await transport.aclose()


async def test_it_follows_no_redirect(watch: Watch) -> None:
    """A redirect is an answer."""
    watch.faulty.script.append(answers_html(b"308 Permanent Redirect", b"", b"Location: /moved/\r\n"))
    answer = await post(watch.faulty.url)
    assert (answer.status, watch.faulty.accepted) == (308, 1)


async def test_it_decompresses_nothing(watch: Watch) -> None:
    """A compressed body stays one: a small one cannot become large here."""
    body = gzip.compress(b"hello")
    watch.faulty.script.append(answers_html(b"200 OK", body, b"Content-Encoding: gzip\r\n"))
    assert (await post(watch.faulty.url)).body == body


async def test_it_returns_no_cookies(watch: Watch, received: list[bytes]) -> None:
    """A cookie that was set is not sent back."""
    watch.faulty.script.appendleft(answers_html(b"200 OK", b"", b"Set-Cookie: a=b; Path=/\r\n"))
    transport = HttpTransport(4)
    await transport.post(watch.faulty.url, {}, b"body")
    await transport.post(watch.faulty.url, {}, b"body")
    assert b"cookie" not in received[0].lower()
    await transport.aclose()


async def test_a_name_with_two_addresses(watch: Watch, received: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ``localhost`` is ::1 first and only 127.0.0.1 answers, the second address is tried."""
    port = watch.faulty.port

    def resolve(host: str, *_: Any, flags: int = 0, **__: Any) -> list[Any]:
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]

    with monkeypatch.context() as patch:
        patch.setattr("socket.getaddrinfo", resolve)
        await post(f"http://both.example:{port}/")
    assert len(received) == 1


# --- giving up -----------------------------------------------------------------------------------------------------


async def test_cancelling_closes_the_connection(watch: Watch) -> None:
    """A request that is cancelled while it waits for its answer closes its connection at once."""
    arrived, closed = threading.Event(), threading.Event()

    def fault(connection: Connection) -> None:
        connection.read_request()
        arrived.set()
        connection.wait()
        closed.set()

    watch.faulty.script.append(fault)
    transport = HttpTransport(4)
    request = asyncio.create_task(transport.post(watch.faulty.url, {}, b"body"))
    await eventually(arrived.is_set)
    request.cancel()
    await asyncio.wait([request])
    assert request.cancelled()
    await eventually(closed.is_set)
    await transport.aclose()


async def test_closing_does_not_end_requests(watch: Watch) -> None:
    """aclose leaves requests on their way alone: the worker has to stop them itself."""
    answer, arrived = threading.Event(), threading.Event()

    def fault(connection: Connection) -> None:
        connection.read_request()
        arrived.set()
        answer.wait(20)  # liveness bound
        connection.answer(HELLO)

    watch.faulty.script.append(fault)
    transport = HttpTransport(4)
    request = asyncio.create_task(transport.post(watch.faulty.url, {}, b"body"))
    await eventually(arrived.is_set)
    await transport.aclose()
    assert not request.done()
    answer.set()
    assert (await request).body == b"hello"


async def test_a_connection_ends_though_somebody_else_has_it(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked process may hold the socket as well: closing ends the connection for all of them."""
    ended = threading.Event()

    def fault(connection: Connection) -> None:
        connection.read_request()
        connection.wait()
        ended.set()

    made: list[ClientConnection] = []
    connect = transport.connect

    async def noted(*args: Any) -> ClientConnection:
        made.append(await connect(*args))
        return made[-1]

    monkeypatch.setattr(transport, "connect", noted)
    watch.faulty.script.append(fault)
    request = asyncio.create_task(post(watch.faulty.url))
    await eventually(watch.faulty.waits.is_set)
    with made[0]._socket.dup():
        request.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await request
        await eventually(ended.is_set)


request_of_somebody: contextvars.ContextVar[object] = contextvars.ContextVar("request_of_somebody")


async def test_a_connection_keeps_nothing_of_whoever_opened_it(watch: Watch, received: list[bytes]) -> None:
    """The context of the first call on a connection, which may hold a request, ends with that call."""

    class Request:
        pass

    async def call(transport: HttpTransport, request: object) -> None:
        request_of_somebody.set(request)
        await transport.post(watch.faulty.url, {}, b"body")

    async with contextlib.aclosing(HttpTransport(4)) as transport:
        request = Request()
        gone = weakref.ref(request)
        await asyncio.create_task(call(transport, request))
        del request
        pass_time(LIVENESS)  # asyncio keeps the timer that would have ended the connecting
        await asyncio.sleep(0)
        gc.collect()
        assert gone() is None
        assert len(received) == 1
