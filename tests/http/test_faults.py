"""What goes wrong between two hosts, and what `HttpWorker` makes of it. `Watch` lists what holds after each of them."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme

from slacker import DeadlineExceeded, ProtocolError, Refused, Slacker, SlackerError, TransportError, stream
from slacker.workers.http import HttpTransport
from tests.waiting import LIVENESS, eventually, until

from . import servers
from .conftest import Watch, pass_time, ticking
from .servers import Connection, Fault, HttpServer, is_connecting


def answers(reply: bytes) -> Fault:
    """Read the request, answer with `reply`, close."""

    def fault(connection: Connection) -> None:
        connection.read_request()
        connection.answer(reply)

    return fault


def answers_html(status: bytes, text: bytes = b"<html><title>Oops</title></html>", headers: bytes = b"") -> Fault:
    return answers(b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, headers, len(text), text))


def changes(change: Callable[[bytes], bytes]) -> Fault:
    """Have the request answered by the hook, but change the reply; then close."""

    def fault(connection: Connection) -> None:
        connection.answer(change(connection.ask(connection.read_request())))

    return fault


OURS = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-tornado-slacker\r\n"


# --- nothing is sent -----------------------------------------------------------------------------------------------


async def test_nobody_listens(watch: Watch) -> None:
    """A refused connection: nothing ran, it was tried once more, and the error comes long before the deadline."""
    worker = watch.worker()
    watch.faulty.close_door()
    begun = time.monotonic()
    error = await watch.fails(watch.call(worker), TransportError, False, "nothing was sent.*Refused")
    assert time.monotonic() - begun < LIVENESS / 2  # liveness bound
    assert isinstance(error.__cause__.__cause__, ConnectionError)
    assert watch.ran() == []
    watch.faulty.open_door()


async def test_the_name_does_not_resolve(watch: Watch) -> None:
    """A name without an address: nothing ran."""
    worker = watch.worker("http://no.such.host.invalid/", recovers=False)
    await watch.fails(watch.call(worker), TransportError, False, "nothing was sent")


async def test_connections_are_never_accepted(watch: Watch) -> None:
    """A host that drops what comes: connecting is given up in time for the error to say that nothing was sent."""
    listener = watch.closing.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    address = listener.getsockname()
    watch.closing.enter_context(socket.create_connection(address))  # the one that the backlog has room for
    worker = watch.worker(f"http://127.0.0.1:{address[1]}/", timeout=3, recovers=False)
    await watch.fails(watch.call(worker), TransportError, False, "nothing was sent")


async def test_a_call_is_cancelled_while_it_connects(watch: Watch) -> None:
    """A call that is cancelled before its connection stands sends nothing, then or later, and frees its place."""
    listener = watch.closing.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    address = listener.getsockname()
    fills_the_backlog = watch.closing.enter_context(socket.create_connection(address))
    worker = watch.worker(f"http://127.0.0.1:{address[1]}/", max_connections=1, recovers=False)
    for _ in range(2):
        call = watch.call(worker).fetch()
        await eventually(lambda: is_connecting(address[1]))
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        await eventually(lambda: not is_connecting(address[1]))
    accepted, _ = listener.accept()
    with accepted:
        assert accepted.getpeername() == fills_the_backlog.getsockname()
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[trustme.CA]:
    """Trust certificates of an authority of our own."""
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield authority


def behind_tls(certificate: trustme.LeafCert, fault: Fault) -> Fault:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    def encrypted(connection: Connection) -> None:
        connection.encrypt(context)
        fault(connection)

    return encrypted


@pytest.mark.parametrize("flaw", ["self-signed", "another host's", "expired", "no TLS"])
async def test_tls_fails(watch: Watch, authority: trustme.CA, flaw: str) -> None:
    """A certificate that does not prove the host, or none at all: nothing was sent."""
    certificate = (trustme.CA() if flaw == "self-signed" else authority).issue_cert(
        "other.example" if flaw == "another host's" else "localhost",
        not_after=dt.datetime(2020, 1, 1, tzinfo=dt.UTC) if flaw == "expired" else None,
    )
    requests: list[bytes] = []
    reads = behind_tls(certificate, lambda connection: requests.append(connection.read_request()))
    watch.faulty.script += [closes if flaw == "no TLS" else reads] * 2
    worker = watch.worker(f"https://localhost:{watch.faulty.port}/", recovers=False)
    await watch.fails(watch.call(worker), TransportError, False, "nothing was sent")
    assert (requests, watch.faulty.accepted) == ([], 2)


async def test_tls_holds(watch: Watch, authority: trustme.CA) -> None:
    """Over https the system's authorities are trusted, or those of SSL_CERT_FILE."""
    certificate = authority.issue_cert("localhost")
    through = changes(lambda reply: reply)
    watch.faulty.script.append(behind_tls(certificate, through))
    await watch.call(watch.worker(f"https://localhost:{watch.faulty.port}/", recovers=False))


# --- something was sent --------------------------------------------------------------------------------------------


def closes(connection: Connection) -> None:
    """Close at once."""


def resets(connection: Connection) -> None:
    connection.client.recv(1)
    connection.reset()


def is_silent(connection: Connection) -> None:
    connection.read_request()
    connection.wait()


def works_and_is_silent(connection: Connection) -> None:
    connection.ask(connection.read_request())
    connection.wait()


def works_and_resets(connection: Connection) -> None:
    connection.ask(connection.read_request())
    connection.reset()


def is_silent_after_the_head(connection: Connection) -> None:
    connection.send(connection.ask(connection.read_request()).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    connection.wait()


def drips(connection: Connection) -> None:
    for number, byte in enumerate(connection.ask(connection.read_request())):
        connection.send(bytes([byte]))
        if number >= 5:
            connection.waits.set()
        if not is_open_after(connection, 0.05):
            return


def is_open_after(connection: Connection, seconds: float) -> bool:
    connection.client.settimeout(seconds)
    try:
        return connection.client.recv(1) != b""
    except TimeoutError:
        return True


@pytest.mark.parametrize("fault", [closes, resets, works_and_resets], ids=lambda fault: fault.__name__)
async def test_the_connection_breaks(watch: Watch, fault: Fault) -> None:
    """A connection that breaks after something may have left: nobody knows, and it is not sent again."""
    watch.faulty.script.append(fault)
    await watch.fails(watch.call(watch.worker()), TransportError, None, "may have left")
    assert watch.faulty.accepted == 1


@pytest.mark.parametrize(
    "fault", [is_silent, works_and_is_silent, is_silent_after_the_head, drips], ids=lambda fault: fault.__name__
)
async def test_the_answer_does_not_come_in_time(watch: Watch, fault: Fault) -> None:
    """An answer that is not whole at the deadline: nobody knows. The deadline is one for all of it, not for a read."""
    watch.faulty.script.append(fault)
    call = watch.call(watch.worker()).fetch()
    await eventually(watch.faulty.waits.is_set)
    pass_time(LIVENESS / 2)
    if fault is drips:  # what was read meanwhile gives no more time
        watch.faulty.waits.clear()
        await eventually(watch.faulty.waits.is_set)
    pass_time(LIVENESS / 2)
    error = await watch.fails(call, DeadlineExceeded, None, f"within {LIVENESS:g} s; it may")
    assert isinstance(error, TimeoutError)
    assert watch.faulty.accepted == 1


async def test_a_large_request_is_not_read(watch: Watch) -> None:
    """15 MB that nobody reads: the deadline ends it, and the loop goes on meanwhile."""
    watch.faulty.script.append(lambda connection: until(lambda: watch.workers[0].calls))
    worker = watch.worker(timeout=2)
    call = watch.call(worker, servers.count_large, bytes(15 << 20))
    async with ticking(0.001) as turns:
        await watch.fails(call, DeadlineExceeded, None)
    assert len(turns) > 100  # of some thousand


@pytest.mark.parametrize(
    "reply",
    [
        OURS + b"Transfer-Encoding: chunked\r\n\r\n40\r\ncut",
        OURS + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nno size\r\n0\r\n\r\n",
        OURS + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
        OURS + b"Content-Length: 60\r\n\r\ncut",
        OURS + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        OURS + b"X: y\r\n" * 100_000 + b"\r\n",
        OURS + b"X: " + b"y" * (1 << 20) + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    ],
    ids=["cut chunk", "no chunk size", "no last chunk", "cut", "two lengths", "long head", "1 MB header", "no HTTP"],
)
async def test_the_answer_is_broken_http(watch: Watch, reply: bytes) -> None:
    """What is no whole HTTP response: nobody knows."""
    watch.faulty.script.append(answers(reply))
    await watch.fails(watch.call(watch.worker()), TransportError, None, "may have left")


async def test_a_thousand_headers(watch: Watch) -> None:
    """So many do no harm."""
    watch.faulty.script.append(changes(lambda reply: reply.replace(b"\r\n", b"\r\n" + b"X: y\r\n" * 1000, 1)))
    await watch.call(watch.worker())


@pytest.mark.parametrize("cut", [0, 1, 40, 41, 50, -1])
async def test_an_answer_that_ends_with_the_connection_is_cut(watch: Watch, cut: int) -> None:
    """Where only the connection's end tells the body's, the seal notices that some is missing."""

    def change(reply: bytes) -> bytes:
        return OURS + b"\r\n" + reply.partition(b"\r\n\r\n")[2][:cut]

    watch.faulty.script.append(changes(change))
    await watch.fails(watch.call(watch.worker()), ProtocolError, None, "cut")
    assert len(watch.ran()) == 1


async def test_a_stream_that_ends_with_the_connection_is_cut(watch: Watch) -> None:
    """Of a stream too the last frame must have come."""

    def change(reply: bytes) -> bytes:
        body = b"".join(reply.partition(b"\r\n\r\n")[2].split(b"\r\n")[1::2])
        return OURS + b"\r\n" + body[: 41 + int.from_bytes(body[:4], "big")]

    watch.faulty.script.append(changes(change))
    chunks = []
    with pytest.raises(ProtocolError, match="cut"):
        async for number in Slacker(servers.numbers, watch.worker())(1500):
            chunks.append(number)
    assert chunks == list(range(500))


@pytest.mark.parametrize("stalls", [True, False], ids=["stalls", "closes"])
async def test_something_else_answers_a_stream_and_does_not_end(watch: Watch, stalls: bool) -> None:
    """The status is known, so it is told, whether or not the rest comes."""

    def fault(connection: Connection) -> None:
        connection.read_request()
        connection.send(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 100\r\n\r\n")
        if stalls:
            connection.wait()

    watch.faulty.script.append(fault)
    with pytest.raises(TransportError, match="answered 502") as caught:
        await stream(Slacker(servers.numbers, watch.worker(timeout=0.5))(5)).next_chunk()
    assert (caught.value.status, caught.value.executed) == (502, None)


async def test_a_chunk_that_comes_in_drops(watch: Watch) -> None:
    """Each chunk of a stream has to come in time, as a whole; that something comes does not do."""

    def fault(connection: Connection) -> None:
        connection.read_request()
        connection.send(OURS + b"\r\n")
        while is_open_after(connection, 0.05):
            connection.send(b"\0")

    watch.faulty.script.append(fault)
    with pytest.raises(DeadlineExceeded, match="no chunk came from"):
        await stream(Slacker(servers.numbers, watch.worker(timeout=0.5))(5)).next_chunk()


async def test_more_comes_than_may(watch: Watch) -> None:
    """What answers without end, and may be anybody, does not fill the memory."""
    worker = watch.worker(max_reply=1000)
    much = b"Content-Length: 1000000000\r\n\r\n" + bytes(1 << 20)
    watch.faulty.script += [answers(OURS + much), answers(b"HTTP/1.1 403 Forbidden\r\n" + much)]
    await watch.fails(watch.call(worker), TransportError, None, "its body has more than [0-9]+ bytes")
    assert (await watch.fails(watch.call(worker), TransportError, None, "answered 403")).status == 403


async def test_a_frame_of_a_stream_claims_more_than_may_come(watch: Watch) -> None:
    """It is refused before it is read."""
    watch.faulty.script.append(answers(OURS + b"\r\n" + b"\xff\xff\xff\xff" + bytes(37)))
    with pytest.raises(ProtocolError, match="claims 4294967295 bytes"):
        await stream(Slacker(servers.numbers, watch.worker())(5)).next_chunk()


async def test_a_frame_in_the_middle_is_missing(watch: Watch) -> None:
    """A long reply without one of its frames does not pass for a whole one."""

    def change(reply: bytes) -> bytes:
        body = b"".join(reply.partition(b"\r\n\r\n")[2].split(b"\r\n")[1::2])
        first = 41 + int.from_bytes(body[:4], "big")
        second = 41 + int.from_bytes(body[first : first + 4], "big")
        return OURS + b"\r\n" + body[:first] + body[first + second :]

    watch.faulty.script.append(changes(change))
    call = Slacker(servers.numbers, watch.worker())(1500)
    await watch.fails(call, ProtocolError, None, "frame 1 of the reply does not bear")


async def test_a_long_header_line(watch: Watch) -> None:
    """A header of 64 KB, which some servers do send, does no harm."""
    watch.faulty.script.append(
        changes(lambda reply: reply.replace(b"\r\n", b"\r\nX: " + b"y" * (64 << 10) + b"\r\n", 1))
    )
    await watch.call(watch.worker())


async def test_the_request_is_followed_by_the_end_of_the_connection(watch: Watch) -> None:
    """A hook behind something that half-closes its connection still answers."""
    watch.faulty.script.append(lambda connection: connection.relay(half_close=True))
    await watch.call(watch.worker())


# --- the wrong thing answers ---------------------------------------------------------------------------------------

JSON = answers_html(b"200 OK", b'{"detail": "Hello"}', b"Content-Type: application/json\r\n")
MOVED = answers_html(b"301 Moved Permanently", b"", b"Location: /moved/\r\n")


@pytest.mark.parametrize(
    ("fault", "status", "match"),
    [
        (answers_html(b"502 Bad Gateway"), 502, "Oops"),
        (answers_html(b"503 Service Unavailable"), 503, "Oops"),
        (answers_html(b"504 Gateway Time-out"), 504, "Oops"),
        (answers_html(b"500 Internal Server Error"), 500, "something else than the hook"),
        (answers_html(b"413 Content Too Large"), 413, "a proxy before it"),
        (answers_html(b"400 Bad Request"), 400, "Oops"),
        (answers_html(b"403 Forbidden"), 403, "the key, the audience"),
        (answers_html(b"404 Not Found"), 404, "no hook is at this address"),
        (answers_html(b"405 Method Not Allowed"), 405, "no hook is at this address"),
        (MOVED, 301, "something else than the hook"),
        (JSON, 200, 'application/json: something else than the hook.*"Hello"'),
        (answers(b"HTTP/1.1 204 No Content\r\n\r\n"), 204, "something else"),
        (answers_html(b"200 OK", b"\x80\x05\x8c\x00\x94.", b"Content-Type: text/x-pickle\r\n"), 200, "text/x-pickle"),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
async def test_something_else_answers(watch: Watch, fault: Fault, status: int, match: str) -> None:
    """What is not the hook's is an error that tells status, likely cause and how it began; no redirect is followed."""
    watch.faulty.script.append(fault)
    error = await watch.fails(watch.call(watch.worker()), TransportError, None, match)
    assert error.status == status
    assert watch.faulty.accepted == 1


async def test_a_long_wrong_answer_is_told_briefly(watch: Watch) -> None:
    """Of a page of binary nonsense only the first printable characters are in the error."""
    nonsense = answers_html(b"500 No", bytes(range(256)) * 100, b"Content-Type: " + b"t" * 5000 + b"\r\n")
    watch.faulty.script.append(nonsense)
    error = await watch.fails(watch.call(watch.worker()), TransportError, None)
    assert len(str(error)) < 600
    assert str(error).isprintable()


@pytest.mark.parametrize("body", [b"", b"unsigned", b"\x80\x05\x8c\x00\x94.", bytes(100)])
async def test_the_right_type_without_a_seal(watch: Watch, body: bytes) -> None:
    """The hook's content type alone makes nothing believable."""
    watch.faulty.script.append(answers(OURS + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)))
    await watch.fails(watch.call(watch.worker()), ProtocolError, None, r"cut|seal")


async def test_an_old_reply_is_replayed(watch: Watch) -> None:
    """A reply is worth something for one request only, even if the requests are alike."""
    replies: list[bytes] = []

    def keeps(connection: Connection) -> None:
        replies.append(connection.ask(connection.read_request()))
        connection.answer(replies[0])

    def replays(connection: Connection) -> None:
        connection.read_request()
        connection.answer(replies[0])

    watch.faulty.script += [keeps, replays]
    worker = watch.worker()
    assert await Slacker(servers.echo, worker)(1) == 1
    await watch.fails(Slacker(servers.echo, worker)(1), ProtocolError, None, "seal")


async def test_any_bit_of_a_reply_is_flipped(watch: Watch) -> None:
    """Whichever byte of a reply's body is damaged: an error, and never another result."""
    worker = watch.worker()

    async def call_with_flipped(index: int) -> SlackerError:
        def change(reply: bytes) -> bytes:
            head, _, body = reply.partition(b"\r\n\r\n")
            damaged = bytearray(body)
            damaged[index] ^= 1 << index % 8
            lengths.append(len(body))
            return head + b"\r\n\r\n" + damaged

        watch.faulty.script.append(changes(change))
        return await watch.fails(Slacker(servers.echo, worker)("a result"), ProtocolError, None)

    lengths: list[int] = []
    await call_with_flipped(0)
    for index in range(1, lengths[0]):
        await call_with_flipped(index)
    assert len(lengths) == lengths[0] > 41


@pytest.mark.parametrize(
    "change",
    [
        lambda reply: reply.replace(b"200", b"201", 1),
        lambda reply: reply.replace(b"200", b"300", 1),
        lambda reply: reply.replace(b"x-tornado-slacker", b"x-tornado-slackes", 1),
        lambda reply: reply.replace(b"Content-Type", b"Content-Typf", 1),
    ],
)
async def test_the_head_of_a_reply_is_damaged(watch: Watch, change: Callable[[bytes], bytes]) -> None:
    """Another status or content type is not the hook's answer."""
    watch.faulty.script.append(changes(change))
    await watch.fails(watch.call(watch.worker()), TransportError, None, "something else")


@pytest.mark.parametrize("field", [b"v1", b"kid=", b"ts=", b"nonce=", b"len=", b"dig=", b"mac="])
async def test_the_signature_of_a_request_is_damaged(watch: Watch, field: bytes) -> None:
    """A request whose signature was damaged on its way is denied, and does not run."""

    def fault(connection: Connection) -> None:
        request = connection.read_request()
        at = request.index(field) + len(field)
        damaged = request[:at] + bytes([request[at] ^ 1]) + request[at + 1 :]
        connection.answer(connection.ask(damaged))

    watch.faulty.script.append(fault)
    error = await watch.fails(watch.call(watch.worker()), TransportError, None)
    assert (error.status, watch.ran()) == (403, [])


async def test_the_body_of_a_request_is_damaged(watch: Watch) -> None:
    """A body that is not the one that was signed is refused by name, and does not run."""

    def fault(connection: Connection) -> None:
        request = connection.read_request()
        connection.answer(connection.ask(request[:-1] + bytes([request[-1] ^ 1])))

    watch.faulty.script.append(fault)
    error = await watch.fails(watch.call(watch.worker()), Refused, False)
    assert (error.reason, watch.ran()) == ("bad-request", [])


async def test_a_request_is_delivered_twice(watch: Watch) -> None:
    """The same bytes a second time do not run a second time."""

    def fault(connection: Connection) -> None:
        request = connection.read_request()
        connection.ask(request)
        connection.answer(connection.ask(request))

    watch.faulty.script.append(fault)
    error = await watch.fails(watch.call(watch.worker()), Refused, False)
    assert (error.reason, len(watch.ran())) == ("duplicate", 1)


# --- servers come and go -------------------------------------------------------------------------------------------


async def test_an_idle_connection_was_closed(watch: Watch) -> None:
    """A kept connection that the server closed meanwhile is replaced, and nobody notices."""
    worker = watch.worker(watch.hook.url)
    await watch.call(worker)
    watch.hook.hang_up()
    await eventually(lambda: watch.hook.connections[0].fileno() == -1)
    await watch.call(worker)
    assert (len(watch.hook.connections), watch.hook.requests) == (2, 2)


async def test_the_server_comes_back_between_two_attempts(watch: Watch) -> None:
    """A call that could not be sent is tried once more, and passes if it can be sent then."""
    watch.faulty.close_door()
    worker = watch.worker()
    transport = HttpTransport(8)
    refused: list[Exception] = []

    class OpensTheDoor:
        async def post(self, *request: Any) -> Any:
            try:
                return await transport.post(*request)
            except Exception as error:
                refused.append(error)
                watch.faulty.open_door()
                raise

        async def aclose(self) -> None:
            await transport.aclose()

    worker._sender.transport = OpensTheDoor()
    await watch.call(worker)
    assert (len(refused), len(watch.ran())) == (1, 1)


async def test_many_faults_at_once(watch: Watch) -> None:
    """Among many calls at once each gets its own answer or its own error."""
    faults = [closes, resets, works_and_resets, answers_html(b"502 Bad Gateway"), is_silent_after_the_head]
    watch.faulty.script += faults * 4
    worker = watch.worker(max_connections=16, max_batch=1)
    calls = [Slacker(servers.echo, worker)(number).fetch() for number in range(200)]
    while sum(call.done() for call in calls) < 196:  # all but those that hear no more than a head
        await asyncio.wait([call for call in calls if not call.done()], return_when=asyncio.FIRST_COMPLETED)
    pass_time(LIVENESS)
    results = await asyncio.gather(*calls, return_exceptions=True)
    for number, result in enumerate(results):
        assert result == number or isinstance(result, SlackerError)
    assert sum(isinstance(result, SlackerError) for result in results) == 20


@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
async def test_loopback_of_either_kind(watch: Watch, host: str) -> None:
    """IPv6 addresses are written in brackets; ``localhost`` is whatever answers there."""
    server = watch.closing.enter_context(HttpServer(host=host))
    literal = f"[{host}]" if ":" in host else host
    for name in [literal] + ["localhost"] * (host == "127.0.0.1"):
        await watch.call(watch.worker(f"http://{name}:{server.port}/"))
    assert len(watch.ran()) == server.requests


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_proxies_of_the_environment_are_ignored(watch: Watch, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A proxy in the environment sees no request: it would see what is not encrypted."""
    monkeypatch.setenv(name, watch.faulty.url)
    await watch.call(watch.worker(watch.hook.url))
    assert watch.faulty.accepted == 0
