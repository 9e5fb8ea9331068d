"""`Response` by itself: plain bytes in, in any pieces, and what it makes of them."""

from __future__ import annotations

import pytest
from httptools import HttpParserError, HttpParserUpgrade

from slacker.workers.http.response import MAX_HEAD, MAX_OTHER, Response

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 5\r\nSlacker-Process: A\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n"
UNDELIMITED = b"HTTP/1.1 200 OK\r\n\r\nhello"


def parse(*pieces: bytes, max_body: int = 100) -> Response:
    """Return what is made of a response that comes in `pieces`."""
    response = Response()
    response.begin(max_body)
    for piece in pieces:
        response.feed(piece)
    return response


def found(response: Response) -> tuple[int, str, bytes, bool, bool]:
    return response.status, response.content_type, bytes(response.body), response.complete, response.keeps


# --- one that is taken ---------------------------------------------------------------------------------------------


def test_whole() -> None:
    """Status, type, process and body are found; another request may follow."""
    response = parse(WHOLE)

    assert found(response) == (200, "a/b", b"hello", True, True)
    assert response.process == "A"


def test_the_only_piece_of_a_body_is_not_copied() -> None:
    """It stays bytes; more pieces are put together in a bytearray."""
    assert type(parse(WHOLE).body) is bytes
    assert type(parse(WHOLE[:-2], WHOLE[-2:]).body) is bytearray


@pytest.mark.parametrize("data", [WHOLE, CHUNKED + b"\r\n"], ids=["length", "chunked"])
def test_in_pieces(data: bytes) -> None:
    """Cut anywhere, or into single bytes, it is the same; and complete with its last byte, not before."""
    expected = found(parse(data))
    assert expected[2:] == (b"hello", True, True)

    for cut in range(1, len(data)):
        before = parse(data[:cut])
        assert not before.complete
        before.feed(data[cut:])
        assert found(before) == expected
    assert found(parse(*[bytes([byte]) for byte in data])) == expected


def test_another_one() -> None:
    """What was found of one is not left for the next, but for the process."""
    response = parse(WHOLE)
    response.begin(100)
    assert (response.status, response.body, response.complete) == (0, b"", False)

    response.feed(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    assert found(response) == (404, "", b"", True, True)
    assert response.process == "A"


@pytest.mark.parametrize("status", [b"100 Continue", b"103 Early Hints"])
def test_informational(status: bytes) -> None:
    """One before it that only informs is passed over, with its headers."""
    before = b"HTTP/1.1 " + status + b"\r\nContent-Type: no/thing\r\n\r\n"
    response = parse(before)
    assert (response.status, response.complete) == (0, False)

    response.feed(CHUNKED + b"\r\n")

    assert found(response) == (200, "", b"hello", True, True)


def test_trailers() -> None:
    """Headers after the body do not count."""
    response = parse(CHUNKED + b"Content-Type: no/thing\r\nSlacker-Process: B\r\n\r\n")

    assert found(response) == (200, "", b"hello", True, True)
    assert response.process == ""


@pytest.mark.parametrize(
    "data",
    [WHOLE.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), WHOLE.replace(b"1.1", b"1.0")],
    ids=["Connection: close", "HTTP/1.0"],
)
def test_the_last_one(data: bytes) -> None:
    """After some, no request may follow."""
    assert found(parse(data)) == (200, "a/b", b"hello", True, False)


# --- where it ends -------------------------------------------------------------------------------------------------


def test_without_length() -> None:
    """A body without length ends where the connection does."""
    response = parse(UNDELIMITED)
    assert not response.complete

    response.end()

    assert (response.complete, bytes(response.body)) == (True, b"hello")


@pytest.mark.parametrize(
    "data", [b"", UNDELIMITED[:10], b"HTTP/1.1 100 Continue\r\n\r\n", WHOLE[:-1], CHUNKED], ids=repr
)
def test_cut(data: bytes) -> None:
    """Where the connection ends before head or body do, it is not complete."""
    response = parse(data)
    response.end()
    assert not response.complete


@pytest.mark.parametrize("status", [200, 500])
def test_a_second_one_follows(status: int) -> None:
    """Nobody asked for it: the first is complete, and the connection not to be trusted."""
    response = parse()
    with pytest.raises(HttpParserError):
        response.feed(WHOLE + WHOLE.replace(b"200", b"%d" % status))
    assert found(response)[:4] == (200, "a/b", b"hello", True)


# --- limits, and what is no response -------------------------------------------------------------------------------


def test_too_large_a_head() -> None:
    """A head that does not end is given up, as is one after another that only inform."""
    response = parse(b"HTTP/1.1 200 OK\r\nX: ", b"x" * (MAX_HEAD - 100))
    with pytest.raises(HttpParserError, match=f"head has more than {MAX_HEAD} bytes"):
        response.feed(b"x" * 100)

    informs = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    with pytest.raises(HttpParserError, match=f"head has more than {MAX_HEAD} bytes"):
        parse(*[informs] * (MAX_HEAD // len(informs) + 1))


def test_too_large_a_body() -> None:
    """A body may be as large as was said, and no larger, however it is delimited."""
    assert parse(WHOLE, max_body=5).complete
    for data in (WHOLE, CHUNKED, UNDELIMITED):
        with pytest.raises(HttpParserError, match="body has more than 4 bytes"):
            parse(data, max_body=4)


def test_not_200_and_long() -> None:
    """Of what is no reply the beginning will do: it is complete then, and no request may follow."""
    response = parse(b"HTTP/1.1 500 Oh\r\nContent-Length: 1000000\r\n\r\n", b"x" * MAX_OTHER, max_body=1 << 20)
    assert (response.complete, response.keeps) == (False, True)

    response.feed(b"x")

    assert (response.status, response.complete, response.keeps) == (500, True, False)
    assert len(response.body) == MAX_OTHER + 1


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        WHOLE.replace(b"5", b"five"),
        CHUNKED.replace(b"\r\n2\r\n", b"\r\nzz\r\n"),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
    ids=["another protocol", "no status", "no length", "no size", "upgrade"],
)
def test_no_response(data: bytes) -> None:
    """What is none, or goes on in another protocol, raises."""
    with pytest.raises((HttpParserError, HttpParserUpgrade)):
        parse(data)
