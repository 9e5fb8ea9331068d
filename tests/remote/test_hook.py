"""What the hook believes: its checks, each alone and in their order, and what it gives away."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from slacker import Slacker, batch, chain_of, wire
from slacker.chain import Call, Chain
from slacker.errors import ProtocolError
from slacker.hook import (
    LOOPBACK,
    MAX_REQUEST,
    WINDOW,
    Config,
    Hook,
    MemoryNonces,
    NonceStore,
    Reply,
    Request,
    StoreFull,
)
from slacker.nonces import milliseconds
from slacker.outcome import Outcome, Value
from slacker.signing import Keyring, Signature

from .pair import ADD, AUDIENCE, NOW, OTHER_SECRET, ROOT, SECRET, Body, Clock, Pair, Sealed, spy_on_loads

MESSAGES = json.loads(Path(__file__).with_name("vectors.json").read_text())["messages"]
SERVED = [message for message in MESSAGES if message["values"] is not None]

NO_BODY_READ: list[int] = []


def bare(status: int, *more: tuple[str, str]) -> Reply:
    """Return the one reply of a status to whoever has not shown a signature."""
    return Reply(
        status, [("Content-Type", "text/plain"), ("Content-Length", "0"), ("Cache-Control", "no-store"), *more], []
    )


def published(vector: dict[str, Any]) -> tuple[Pair, Sealed]:
    """Return the two ends of a published message, at its time, and its request."""
    signature = Signature.parse(vector["header"])
    assert signature is not None
    pair = Pair(bytes.fromhex(vector["secret"]), audience=vector["audience"], clock=Clock(vector["time"]))
    return pair, Sealed(signature, bytes.fromhex(vector["body"]))


def chains_of(sealed: Sealed) -> list[Chain]:
    head = wire.read_head(sealed.body)
    return [head.chain(number) for number in range(len(head.calls))]


class Spy:
    """Notes what is performed, and gives 5."""

    def __init__(self) -> None:
        self.performed: list[Chain] = []

    def __call__(self, chain: Chain, options: Mapping[str, Any], encode: object) -> Outcome:
        self.performed.append(chain)
        return Value(5)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return what was unpickled so far."""
    return spy_on_loads(monkeypatch)


class Full:
    """A nonce store that takes nothing."""

    outlives_process = True

    def add(self, nonce: str, expires: int) -> bool:
        raise StoreFull("full")


class Kept:
    """A nonce store of somebody else's, which does not say whether it outlives the process."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def add(self, nonce: str, expires: int) -> bool:
        is_new = nonce not in self.seen
        self.seen.add(nonce)
        return is_new


class Declared(Kept):
    """The same, and it says so."""

    def __init__(self, *, outlives_process: bool) -> None:
        super().__init__()
        self.outlives_process = outlives_process


# --- what passes -----------------------------------------------------------------------------------------------------


def test_passes() -> None:
    """An authentic request is served."""
    assert Pair().ask() == 5


@pytest.mark.parametrize("vector", SERVED, ids=lambda vector: str(vector["name"]))
def test_published(vector: dict[str, Any]) -> None:
    """A published request is answered, for ever, as published."""
    pair, sealed = published(vector)
    assert b"".join(pair.answer(sealed).body).hex() == vector["reply"]


@pytest.mark.parametrize("vector", SERVED, ids=lambda vector: str(vector["name"]))
def test_published_results(vector: dict[str, Any]) -> None:
    """A published reply holds, for ever, the published results."""
    pair, sealed = published(vector)
    outcomes = pair.open(sealed, bytes.fromhex(vector["reply"]), chains_of(sealed))
    assert outcomes == [Value(value) for value in vector["values"]]


def test_headers_of_a_reply() -> None:
    """A reply of one frame says how long it is, that nobody shall keep it, that no proxy shall hold it back, and which
    process it is of.
    """
    pair = Pair()
    reply, other = pair.answer(pair.seal()), pair.answer(pair.seal())
    headers = {
        "Content-Type": "application/x-tornado-slacker",
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
        "Slacker-Process": dict(other.headers)["Slacker-Process"],
        "Content-Length": str(len(b"".join(reply.body))),
    }
    assert (200, headers) == (reply.status, dict(reply.headers))


@pytest.mark.parametrize("nonces", [None, Kept()], ids=["in memory", "somebody else's"])
def test_another_process_has_another_name(nonces: Any) -> None:
    """So has one that was forked, whose hook begins afresh."""
    pair = Pair(nonces=nonces)
    before = dict(pair.answer(pair.seal()).headers)["Slacker-Process"]
    pair.hook.start()
    assert dict(pair.answer(pair.seal()).headers)["Slacker-Process"] != before


def test_headers_of_a_long_reply() -> None:
    """A reply of several frames is made while it is sent, and does not know its length."""
    pair = Pair()
    reply = pair.answer(pair.seal(Chain(list, (Call((range(1000),), {}),))))
    assert "Content-Length" not in dict(reply.headers)
    assert not isinstance(reply.body, list)


def test_a_long_reply() -> None:
    """A reply of several frames comes back whole."""
    assert list(range(1000)) == Pair().ask(Chain(list, (Call((range(1000),), {}),)))


def test_perform() -> None:
    """Whoever made the hook decides how chains are performed."""
    spy = Spy()
    assert (Pair(perform=spy).ask(), spy.performed) == (5, [ADD])


def test_options() -> None:
    """What goes along with a request is handed to whoever performs it."""
    seen: list[Mapping[str, Any]] = []

    def perform(chain: Chain, options: Mapping[str, Any], encode: object) -> Outcome:
        seen.append(options)
        return Value(5)

    Pair(perform=perform).ask(language="de", max_reply=100)
    assert seen == [{"language": "de", "max_reply": 100}]


def test_config_is_asked_each_time() -> None:
    """Settings are read when they are used: a key taken away is no longer believed."""
    pair = Pair()
    pair.ask()
    pair.config = Config(Keyring(OTHER_SECRET), AUDIENCE)
    assert bare(403) == pair.answer(pair.seal())


# --- 1. what can be told from the outside ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE", "post", ""])
def test_method(method: str) -> None:
    """Any method but POST is told so."""
    pair = Pair()
    assert bare(405, ("Allow", "POST")) == pair.answer(pair.seal(), method=method)


FORMS = {
    "query string": {"query": "a=b"},
    "empty parameter": {"query": "="},
    "no type": {"content_type": ""},
    "a form": {"content_type": "application/x-www-form-urlencoded"},
    "type with parameters": {"content_type": "application/x-tornado-slacker; charset=utf-8"},
    "type in capitals": {"content_type": "Application/X-Tornado-Slacker"},
    "type twice": {"content_type": "application/x-tornado-slacker,application/x-tornado-slacker"},
    "chunked": {"encodings": "chunked"},
    "compressed": {"encodings": "gzip"},
    "both": {"encodings": "chunkedgzip"},
    "identity": {"encodings": "identity"},
    "address": {"client": "192.0.2.1"},
}


@pytest.mark.parametrize("changes", FORMS.values(), ids=FORMS)
def test_form(changes: dict[str, str]) -> None:
    """A request that is signed, but not of the one form or from elsewhere, is denied."""
    pair = Pair()
    assert bare(403) == pair.answer(pair.seal(), **changes)


@pytest.mark.parametrize(
    "length",
    [
        "",
        "0",
        "1",
        "-1",
        "+{0}",
        "0{0}",
        " {0}",
        "{0} ",
        "{0}.0",
        "{0},{0}",
        "{0}0",
        "9" * 5000,
        "chunked",
        "\uff15",
        "²",
    ],
)
def test_content_length(length: str) -> None:
    """A Content-Length that is not exactly the signed one is denied, however it is written, and is no error."""
    pair = Pair()
    sealed = pair.seal()
    assert bare(403) == pair.answer(sealed, content_length=length.format(len(sealed.body)))


ADDRESSES = [
    ("127.0.0.1", LOOPBACK, True),
    ("127.255.255.254", LOOPBACK, True),
    ("::1", LOOPBACK, True),
    ("0:0:0:0:0:0:0:1", LOOPBACK, True),
    ("::ffff:127.0.0.1", LOOPBACK, True),
    ("::FFFF:7F00:1", LOOPBACK, True),
    ("128.0.0.1", LOOPBACK, False),
    ("::2", LOOPBACK, False),
    ("::ffff:10.0.0.1", LOOPBACK, False),
    ("0.0.0.0", LOOPBACK, False),
    ("::", LOOPBACK, False),
    ("", LOOPBACK, False),
    ("", ("127.0.0.1", ""), True),
    ("", (), False),
    ("127.0.0.1", (), False),
    ("127.0.0.1", ("",), False),
    ("localhost", LOOPBACK, False),
    ("127.0.0.1:8000", LOOPBACK, False),
    ("127.0.0.1, 127.0.0.1", LOOPBACK, False),
    ("127.1", LOOPBACK, False),
    ("127.0.0.01", LOOPBACK, False),
    ("2130706433", LOOPBACK, False),
    (" 127.0.0.1", LOOPBACK, False),
    ("127.0.0.1\n", LOOPBACK, False),
    ("[::1]", LOOPBACK, False),
    ("unix:", LOOPBACK, False),
    ("x" * 10_000, LOOPBACK, False),
    ("\udc80", LOOPBACK, False),
    ("fe80::1%eth0", LOOPBACK, False),
    ("fe80::1%eth0", ("fe80::/10",), True),
    ("10.1.2.3", ("10.1.2.0/24",), True),
    ("10.1.3.3", ("10.1.2.0/24",), False),
    ("10.1.2.3", ("10.1.2.9/24",), True),
    ("10.1.2.3", ("192.0.2.1", "10.1.2.3"), True),
    ("::ffff:10.1.2.3", ("10.1.2.3",), False),
    ("2001:db8::7", ("2001:db8::/32",), True),
    ("10.1.2.3", ("0.0.0.0/0",), True),
    ("2001:db8::7", ("0.0.0.0/0",), False),
]


@pytest.mark.parametrize(("client", "allowed", "passes"), ADDRESSES)
def test_address(client: str, allowed: tuple[str, ...], passes: bool) -> None:
    """Only the addresses and networks listed pass; a unix socket only as an empty string among them."""
    pair = Pair(allowed_clients=allowed)
    assert pair.answer(pair.seal(), client=client).status == (200 if passes else 403)


@pytest.mark.parametrize("entry", ["localhost", "127.0.0.1/33", " 127.0.0.1", "*", "127.0.0.0-127.0.0.9", None])
def test_no_address(entry: Any) -> None:
    """An entry that is no address is refused when the hook is set up, not when a stranger calls."""
    with pytest.raises(ValueError, match="does not appear to be"):
        Config(Keyring(SECRET), allowed_clients=("127.0.0.1", entry))


# --- 2. the header ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda header: "",
        lambda header: f"{header},{header}",
        lambda header: f"{header}, {header}",
        lambda header: header.replace(";", ";\r\n "),
        lambda header: header.upper(),
        lambda header: header.ljust(10_000, "0"),
        lambda header: header + "é",
        lambda header: header.rpartition(";")[0],
        lambda header: header + ";",
        lambda header: header + "\n",
        lambda header: header.replace("len=", "len=0"),
        lambda header: "v1;kid=;ts=;nonce=;len=;dig=;mac=",
    ],
)
def test_header(change: Callable[[str], str]) -> None:
    """A header that is not of the one form is denied, and is no error. (`test_signing` has all the forms.)"""
    pair = Pair()
    sealed = pair.seal()
    assert bare(403) == pair.answer(sealed, header=change(sealed.header))


def test_no_key_here() -> None:
    """A hook without a key denies everything."""
    pair = Pair()
    pair.config = Config(None, AUDIENCE)
    assert bare(403) == pair.answer(pair.seal())


def test_unknown_key() -> None:
    """A request of another key is denied."""
    pair = Pair(SECRET, OTHER_SECRET)
    assert bare(403) == pair.answer(pair.seal())


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (SECRET, [OTHER_SECRET, SECRET]),
        ([OTHER_SECRET, SECRET], [SECRET, OTHER_SECRET]),
        ([OTHER_SECRET, SECRET], [OTHER_SECRET]),
        (SECRET, ["x" * 32, OTHER_SECRET, SECRET]),
        ([SECRET], SECRET),
        (SECRET.encode(), SECRET),
    ],
    ids=[
        "old client, new server",
        "new client, old server",
        "both new",
        "three keys",
        "list and one",
        "bytes and text",
    ],
)
def test_rotation(client: Any, server: Any) -> None:
    """Any of the server's keys may sign, and signs the reply."""
    assert Pair(client, server).ask() == 5


def test_dropped_key() -> None:
    """A key that was dropped is no longer believed."""
    pair = Pair([SECRET, OTHER_SECRET], [OTHER_SECRET, "x" * 32])
    assert bare(403) == pair.answer(pair.seal())


@pytest.mark.parametrize("room", [0, -1])
def test_too_large(room: int) -> None:
    """A request of more bytes than allowed is told so."""
    sealed = Pair().seal()
    pair = Pair(max_request=len(sealed.body) + room)
    assert pair.answer(sealed).status == (200 if room == 0 else 413)


def test_too_large_tells_no_more() -> None:
    """The reply to a request that is too large is a constant."""
    pair = Pair(max_request=10)
    assert bare(413) == pair.answer(pair.seal())


def test_largest_by_default() -> None:
    """By default 16 MiB are the most."""
    assert (Config(None).max_request, MAX_REQUEST) == (16 << 20, 16 << 20)


# --- 3. the signature ------------------------------------------------------------------------------------------------


def test_key_id_swapped() -> None:
    """A request signed with one known key, that says it was another, is denied."""
    pair = Pair([SECRET, OTHER_SECRET])
    sealed = pair.seal()
    other = Keyring(OTHER_SECRET).signing.id
    assert bare(403) == pair.answer(sealed, header=sealed.header.replace(sealed.signature.key_id, other))


@pytest.mark.parametrize("audience", ["", "prod", AUDIENCE + " ", AUDIENCE.replace("test_", "")])
def test_audience(audience: str) -> None:
    """A request for another environment, another database among them, is denied."""
    pair = Pair(server_audience=audience)
    assert bare(403) == pair.answer(pair.seal())


def test_audience_that_is_no_unicode() -> None:
    """An environment whose database is a file of a broken name is one as any other."""
    assert Pair(audience="default=/srv/\udcff.sqlite3").ask() == 5


def test_every_bit_of_the_header() -> None:
    """With any bit of its header flipped a request is denied."""
    pair = Pair()
    sealed = pair.seal()
    header = sealed.header
    for index, bit in itertools.product(range(len(header)), range(8)):
        flipped = header[:index] + chr(ord(header[index]) ^ (1 << bit)) + header[index + 1 :]
        assert bare(403) == pair.answer(sealed, header=flipped), (index, bit)
    assert pair.answer(sealed).status == 200


# --- 4. the body -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_most", [None, 1, 7])
def test_reads_what_was_signed(at_most: int | None) -> None:
    """Exactly the signed number of bytes is read, in however many pieces they come; what follows is left alone."""
    pair = Pair()
    sealed = pair.seal()
    body = Body(sealed.body + b"the next request", at_most)
    assert pair.answer(sealed, read=body.read).status == 200
    assert body.left == b"the next request"


def test_empty_body() -> None:
    """Of an empty body nothing is read: on some servers that would wait."""
    pair = Pair()
    body = Body(b"")
    sealed = pair.seal(body=b"")
    assert pair.refusal(sealed, pair.answer(sealed, read=body.read)).reason == "bad-request"
    assert body.asked == NO_BODY_READ


BODIES: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda body: b"",
    "cut": lambda body: body[:-1],
    "other": lambda body: bytes(len(body)),
    "turned": lambda body: body[::-1],
    "later": lambda body: b" " + body,
}


@pytest.mark.parametrize("change", BODIES.values(), ids=BODIES)
def test_another_body(change: Callable[[bytes], bytes]) -> None:
    """A body that is not the signed one is refused, signed: nothing ran."""
    pair = Pair()
    sealed = pair.seal()
    refused = pair.refusal(sealed, pair.answer(sealed, body=change(sealed.body)))
    assert (refused.reason, refused.executed) == ("bad-request", False)


def test_every_bit_of_the_body(loaded: list[bytes]) -> None:
    """With any bit of its body flipped a request is refused, and nothing is unpickled or performed."""
    spy = Spy()
    pair = Pair(perform=spy)
    sealed = pair.seal()
    for index, bit in itertools.product(range(len(sealed.body)), range(8)):
        flipped = sealed.body[:index] + bytes([sealed.body[index] ^ (1 << bit)]) + sealed.body[index + 1 :]
        reply = pair.answer(sealed, body=flipped)
        assert pair.refusal(sealed, reply).reason == "bad-request", (index, bit)
    assert (spy.performed, loaded) == ([], [])


def test_client_that_went() -> None:
    """A connection that breaks while the body is read is a body that is not the signed one, and no error."""

    def breaks(size: int) -> bytes:
        raise OSError("unreadable")

    pair = Pair()
    sealed = pair.seal()
    assert pair.refusal(sealed, pair.answer(sealed, read=breaks)).reason == "bad-request"


def test_reader_that_gives_more() -> None:
    """A server that hands out more than was asked for does not make another body of it."""
    pair = Pair()
    sealed = pair.seal()
    reply = pair.answer(sealed, read=lambda size: sealed.body + b"more")
    assert pair.refusal(sealed, reply).reason == "bad-request"


# --- 5. the clock ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [0, 59_000, 60_000])
@pytest.mark.parametrize("sign", [1, -1])
def test_clocks_that_agree(late: int, sign: int) -> None:
    """Clocks may differ by a minute."""
    pair = Pair(nonces=Declared(outlives_process=True))
    sealed = pair.seal(time=NOW + sign * late)
    assert pair.open(sealed, pair.answer(sealed)) == [Value(5)]


@pytest.mark.parametrize("late", [60_001, 61_000, 86_400_000])
@pytest.mark.parametrize("sign", [1, -1])
def test_clocks_that_differ(late: int, sign: int) -> None:
    """Clocks that differ by more are a signed refusal with the server's time, so that the client can sign again."""
    spy = Spy()
    pair = Pair(nonces=MemoryNonces(now=Clock()), perform=spy)
    sealed = pair.seal(time=NOW + sign * late)
    refused = pair.refusal(sealed, pair.answer(sealed))
    assert (refused.reason, refused.executed, refused.details) == ("clock-skew", False, {"time": NOW})
    assert spy.performed == []


IN_MEMORY: dict[str, Callable[[], NonceStore | None]] = {
    "by default": lambda: None,
    "of another capacity": lambda: MemoryNonces(capacity=1_000, now=Clock()),
    "somebody else's": lambda: Declared(outlives_process=False),
}


@pytest.mark.parametrize("nonces", IN_MEMORY.values(), ids=IN_MEMORY)
@pytest.mark.parametrize(("before", "passes"), [(0, True), (2_000, True), (2_001, False), (30_000, False)])
def test_older_than_the_process(before: int, passes: bool, nonces: Callable[[], NonceStore | None]) -> None:
    """With nonces in memory a request from before the start is refused: it may have been served before."""
    pair = Pair(nonces=nonces())
    sealed = pair.seal(time=NOW - before)
    reply = pair.answer(sealed)
    if passes:
        assert pair.open(sealed, reply) == [Value(5)]
    else:
        assert pair.refusal(sealed, reply).reason == "clock-skew"


@pytest.mark.parametrize("shared", [Declared(outlives_process=True), Kept()], ids=["it says so", "it does not say"])
def test_older_than_the_process_with_a_shared_store(shared: Any) -> None:
    """A store that outlives the process, or does not say that it does not, knows what was served before the start."""
    pair = Pair(nonces=shared)
    sealed = pair.seal(time=NOW - 30_000)
    assert pair.open(sealed, pair.answer(sealed)) == [Value(5)]


@pytest.mark.parametrize("nonces", ["None", "MemoryNonces(now=Clock())"])
def test_a_forked_child_does_not_know(nonces: str) -> None:
    """A child of a fork refuses what was signed before the fork: parent and siblings may have served it."""
    script = f"""if True:
        import os
        from slacker.hook import MemoryNonces
        from tests.remote.pair import NOW, Clock, Pair
        pair = Pair(nonces={nonces})
        pair.clock.now = NOW + 30_000
        before, now = pair.seal(time=NOW + 20_000), pair.seal()
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        else:
            print(pair.refusal(before, pair.answer(before)).reason)
            print(pair.open(now, pair.answer(now))[0].value)
    """
    output = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.split() == ["clock-skew", "5"]


def test_a_given_store_in_memory_begins_afresh_in_a_forked_child() -> None:
    """A child of a fork goes on with an empty store of the same capacity, though a thread was at it in the parent."""
    script = """if True:
        import os, signal
        from tests.remote.pair import NOW, Clock, Pair
        from slacker.hook import MemoryNonces
        nonces = MemoryNonces(capacity=1, now=Clock())
        pair = Pair(nonces=nonces)
        pair.ask()
        with nonces._lock:
            child = os.fork()
        if child:
            os.waitpid(child, 0)
        else:
            signal.alarm(30)  # liveness bound
            print(pair.ask())
            full = pair.seal()
            print(pair.refusal(full, pair.answer(full)).reason)
    """
    output = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert output.split() == ["5", "unavailable"]


def test_hooks_are_not_kept() -> None:
    """That a hook begins anew after a fork does not keep it alive."""
    made = weakref.ref(Hook(lambda: Config(None)))
    assert made() is None


# --- 6. for the first time -------------------------------------------------------------------------------------------


def test_duplicate() -> None:
    """The same request a second time is refused, signed, and not performed."""
    spy = Spy()
    pair = Pair(perform=spy)
    sealed = pair.seal()
    pair.answer(sealed)
    refused = pair.refusal(sealed, pair.answer(sealed))
    assert (refused.reason, refused.executed, len(spy.performed)) == ("duplicate", False, 1)


def test_the_same_again() -> None:
    """The same chain signed anew is another request."""
    pair = Pair()
    assert [pair.ask(), pair.ask()] == [5, 5]


def test_duplicate_as_long_as_it_is_valid() -> None:
    """A request is refused as a duplicate until its time has passed, and from then on for its time."""
    pair = Pair()
    sealed = pair.seal(time=NOW + WINDOW)
    pair.answer(sealed)
    reasons = []
    for pair.clock.now in range(NOW, NOW + 3 * WINDOW, 1_000):
        reasons.append(pair.refusal(sealed, pair.answer(sealed)).reason)
        pair.ask()  # others come meanwhile
    assert reasons == ["duplicate"] * 121 + ["clock-skew"] * 59


def test_duplicates_at_once() -> None:
    """Of fifty that bring the same request at once, exactly one is served."""
    spy = Spy()
    pair = Pair(perform=spy)
    sealed = pair.seal()
    start = threading.Barrier(50)
    replies: list[Reply] = []

    def bring() -> None:
        start.wait(30)  # liveness bound
        replies.append(pair.answer(sealed))

    threads = [threading.Thread(target=bring) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(replies), len(spy.performed)) == (50, 1)


@pytest.mark.parametrize("change", BODIES.values(), ids=BODIES)
def test_another_body_burns_nothing(change: Callable[[bytes], bytes]) -> None:
    """A header that came with another body can still be used with its own."""
    pair = Pair()
    sealed = pair.seal()
    pair.answer(sealed, body=change(sealed.body))
    assert [Value(5)] == pair.open(sealed, pair.answer(sealed))


def test_full() -> None:
    """A store that can take no more is a signed refusal, and nothing ran."""
    spy = Spy()
    pair = Pair(nonces=MemoryNonces(capacity=2, now=Clock()), perform=spy)
    pair.ask()
    pair.ask()
    sealed = pair.seal()
    refused = pair.refusal(sealed, pair.answer(sealed))
    assert (refused.reason, refused.executed, len(spy.performed)) == ("unavailable", False, 2)


def test_full_still_knows() -> None:
    """A store that can take no more still knows what it has."""
    pair = Pair(nonces=MemoryNonces(capacity=1, now=Clock()))
    sealed = pair.seal()
    pair.answer(sealed)
    assert pair.refusal(sealed, pair.answer(sealed)).reason == "duplicate"


# --- the order -------------------------------------------------------------------------------------------------------

ORDER = ["method", "form", "length", "signature", "body", "clock", "nonce", "head"]


def wrong_from(first: str) -> tuple[Pair, Request, Body, Sealed]:
    """Return a pair and a request in which `first` is wrong, and all that is checked after it."""
    faults = ORDER[ORDER.index(first) :]
    clock = Clock()
    nonces: Any = Full() if "nonce" in faults else MemoryNonces(now=clock)
    pair = Pair(clock=clock, nonces=nonces, max_request=1000)
    garbage = b"not an envelope"
    sealed = pair.seal(body=garbage, time=NOW - 2 * WINDOW if "clock" in faults else NOW)
    signature = sealed.signature
    if "length" in faults:
        signature = signature._replace(length=2000)
    if "signature" in faults:
        signature = signature._replace(mac=bytes(32))
    body = Body(b"" if "body" in faults else garbage)
    changes: dict[str, Any] = {"header": str(signature), "content_length": str(signature.length), "read": body.read}
    if "method" in faults:
        changes["method"] = "GET"
    if "form" in faults:
        changes["query"] = "x"
    return pair, pair.request(sealed, **changes), body, sealed


@pytest.mark.parametrize(("first", "status"), [("method", 405), ("form", 403), ("length", 413), ("signature", 403)])
def test_before_the_signature(first: str, status: int, loaded: list[bytes]) -> None:
    """Until the signature has been verified the first thing wrong decides, nothing is read, nothing is signed."""
    pair, request, body, _ = wrong_from(first)
    reply = pair.hook.answer(request)
    assert bare(status, *[("Allow", "POST")] * (status == 405)) == reply
    assert (body.asked, loaded) == (NO_BODY_READ, [])


@pytest.mark.parametrize(
    ("first", "reason"),
    [("body", "bad-request"), ("clock", "clock-skew"), ("nonce", "unavailable"), ("head", "bad-request")],
)
def test_after_the_signature(first: str, reason: str, loaded: list[bytes]) -> None:
    """Once the signature has been verified the first thing wrong decides, and is told under a signature."""
    pair, request, body, sealed = wrong_from(first)
    refused = pair.refusal(sealed, pair.hook.answer(request))
    assert (reason, False) == (refused.reason, refused.executed)
    assert body.asked == [15]
    assert loaded == []


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ("body", "the body is not the one that was signed"),
        ("head", "this is no envelope: json.decoder.JSONDecodeError"),
    ],
)
def test_bad_requests_are_told_apart(first: str, message: str) -> None:
    """The refusals of body and head, both a bad request, say which of them it was."""
    pair, request, _, sealed = wrong_from(first)
    assert str(pair.refusal(sealed, pair.hook.answer(request))) == message


UNSIGNED = {
    **FORMS,
    "no header": {"header": ""},
    "no length": {"content_length": ""},
    "unknown key": {"header": str(Signature.make(Keyring("x" * 32).signing, AUDIENCE, NOW, b""))},
    "wrong signature": {
        "header": str(Signature.make(Keyring(SECRET).signing, AUDIENCE, NOW, b"")._replace(mac=bytes(32))),
        "content_length": "0",
    },
    "another audience": {
        "header": str(Signature.make(Keyring(SECRET).signing, "prod", NOW, b"")),
        "content_length": "0",
    },
}


@pytest.mark.parametrize("changes", UNSIGNED.values(), ids=UNSIGNED)
def test_denials_are_alike(changes: dict[str, str], loaded: list[bytes]) -> None:
    """Whatever the reason, who shows no signature is told the same, and nothing of the body is read or unpickled."""
    spy = Spy()
    pair = Pair(perform=spy)
    body = Body(b"a body")
    assert bare(403) == pair.answer(pair.seal(), read=body.read, **changes)
    assert (body.asked, loaded, spy.performed) == (NO_BODY_READ, [], [])


@pytest.mark.parametrize("key", [OTHER_SECRET, SECRET])
def test_unpickled_only_when_all_is_well(key: str, loaded: list[bytes]) -> None:
    """Of a known key's first request the arguments are unpickled, of another key's none."""
    pair = Pair(SECRET, key)
    sealed = pair.seal()
    pair.answer(sealed)
    assert len(loaded) == (key == SECRET)


# --- replies ---------------------------------------------------------------------------------------------------------


def test_every_bit_of_a_reply() -> None:
    """With any bit of a reply flipped the client gets an error, and nothing of it is unpickled."""
    pair = Pair()
    sealed = pair.seal()
    data = b"".join(pair.answer(sealed).body)
    for index, bit in itertools.product(range(len(data)), range(8)):
        flipped = data[:index] + bytes([data[index] ^ (1 << bit)]) + data[index + 1 :]
        with pytest.raises(ProtocolError, match=r"seal|claims|cut"):
            pair.open(sealed, flipped)


@pytest.mark.parametrize("count", [1, 3])
def test_cut_anywhere(count: int) -> None:
    """A reply that is cut, between frames or within one, is an error and no shorter result."""
    pair = Pair()
    sealed = pair.seal(*[ADD] * count)
    data = b"".join(pair.answer(sealed).body)
    for cut in range(len(data)):
        with pytest.raises(ProtocolError, match=r"cut|claims"):
            pair.open(sealed, data[:cut], [ADD] * count)


@pytest.mark.parametrize("order", [order for size in range(3) for order in itertools.permutations(range(3), size)])
def test_frames_left_out(order: tuple[int, ...]) -> None:
    """A reply of which any frames are missing is an error, in whatever order the others come."""
    pair = Pair()
    sealed = pair.seal(Chain(list, (Call((range(1500),), {}),)))
    frames = pair.sealed_frames(pair.answer(sealed))
    with pytest.raises(ProtocolError, match=r"cut|seal"):
        pair.open(sealed, b"".join(frames[number] for number in order))


@pytest.mark.parametrize(
    "order", [*list(itertools.permutations(range(3)))[1:], (0, 1, 1, 2), (0, 1, 2, 2), (0, 0, 1, 2)]
)
def test_frames_in_another_order(order: tuple[int, ...]) -> None:
    """A reply whose frames come in another order, or twice, is an error."""
    pair = Pair()
    sealed = pair.seal(Chain(list, (Call((range(1500),), {}),)))
    frames = pair.sealed_frames(pair.answer(sealed))
    with pytest.raises(ProtocolError, match="seal"):
        pair.open(sealed, b"".join(frames[number] for number in order))


def test_reply_to_another_request() -> None:
    """The reply to a request like it is not the reply to this one."""
    pair = Pair()
    one, other = pair.seal(), pair.seal()
    pair.answer(one)
    with pytest.raises(ProtocolError, match="seal"):
        pair.open(one, pair.answer(other))


def test_reply_of_another_server() -> None:
    """A server without the client's key cannot answer for one with it."""
    pair, stranger = Pair(), Pair(OTHER_SECRET)
    sealed, other = pair.seal(), stranger.seal()
    with pytest.raises(ProtocolError, match="seal"):
        pair.open(sealed, stranger.answer(other))


def test_frames_that_come_together() -> None:
    """The answers of a batch, and the parts of a result, are sent in one piece, but for long ones."""
    pair = Pair()
    three = chain_of(batch(*[Slacker(divmod)(7, 3)] * 3))
    sealed = pair.seal(three)
    (piece,) = pair.answer(sealed).body
    assert pair.open(sealed, piece, [three]) == [Value([(2, 1)] * 3)]
    assert len(list(pair.answer(pair.seal(Chain(list, (Call((range(1500),), {}),)))).body)) == 1
    long = Chain(list, (Call((tuple(b"%04d" % number * 250 for number in range(1500)),), {}),))
    assert len(list(pair.answer(pair.seal(long)).body)) == 3


def test_frames_as_they_are_made() -> None:
    """Chains are performed as the reply is read, one ahead, for the last frame has to say that it is the last."""
    spy = Spy()
    pair = Pair(perform=spy)
    body = iter(pair.answer(pair.seal(ADD, ADD, ADD, ADD)).body)
    performed = [len(spy.performed)]
    for _ in range(4):
        next(body)
        performed.append(len(spy.performed))
    assert performed == [2, 2, 3, 4, 4]


def test_reply_closed_early() -> None:
    """A server that closes the reply, for its client went, ends the work: chains not begun are left out."""
    spy = Spy()
    pair = Pair(perform=spy)
    body: Any = pair.answer(pair.seal(*[ADD] * 10)).body
    next(body)
    body.close()
    assert len(spy.performed) == 2


def test_too_big() -> None:
    """A result larger than the client takes is a signed refusal that says that the work ran."""
    spy = Spy()
    pair = Pair(perform=spy)
    sealed = pair.seal(max_reply=4)
    refused = pair.refusal(sealed, pair.answer(sealed))
    assert (refused.reason, refused.executed, len(spy.performed)) == ("too-big", True, 1)


# --- nonces ----------------------------------------------------------------------------------------------------------


def kept(nonces: MemoryNonces) -> int:
    return sum(map(len, nonces._slices.values()))


def test_new_and_known() -> None:
    """A nonce is new once."""
    nonces = MemoryNonces(now=Clock())
    assert [nonces.add(nonce, NOW) for nonce in ["a", "a", "b", "a"]] == [True, False, True, False]


def test_never_forgets_what_has_not_expired() -> None:
    """At any time every nonce that has not expired is known."""
    clock = Clock()
    nonces = MemoryNonces(now=clock)
    expires = [NOW + 997 * number for number in range(120)]
    for number, at in enumerate(expires):
        nonces.add(str(number), at)
    for clock.now in range(NOW, expires[-1], 499):
        again = [number for number, at in enumerate(expires) if at >= clock.now and nonces.add(str(number), at)]
        assert again == []


def test_forgets_what_has_expired() -> None:
    """A nonce is forgotten within a slice of its end, as soon as another comes."""
    clock = Clock()
    nonces = MemoryNonces(now=clock)
    for number in range(1000):
        nonces.add(str(number), NOW + number)
    clock.now = NOW + 1_000 + nonces.SLICE
    nonces.add("another", clock.now)
    assert kept(nonces) == 1


def test_counts_right() -> None:
    """What is counted is what is kept, after whatever came and went."""
    clock = Clock()
    nonces = MemoryNonces(capacity=100, now=clock)
    for number in range(1000):
        clock.now += 777
        with contextlib.suppress(StoreFull):
            nonces.add(str(number % 300), clock.now + number * 7919 % 120_000)
        assert kept(nonces) == nonces._count <= 100


def test_takes_as_many_as_it_may() -> None:
    """A store takes its capacity, and refuses the next one."""
    nonces = MemoryNonces(capacity=3, now=Clock())
    assert [nonces.add(str(number), NOW) for number in range(3)] == [True] * 3
    with pytest.raises(StoreFull, match="3 requests"):
        nonces.add("3", NOW)


def test_has_room_again() -> None:
    """A full store takes more when something has expired."""
    clock = Clock()
    nonces = MemoryNonces(capacity=1, now=clock)
    nonces.add("a", NOW)
    clock.now = NOW + 2 * nonces.SLICE
    assert nonces.add("b", clock.now)


def test_clock_that_goes_back() -> None:
    """Should the clock go back, nothing is taken for a time that was forgotten: it may have been seen."""
    clock = Clock()
    nonces = MemoryNonces(now=clock)
    nonces.add("a", NOW)
    clock.now = NOW + 600_000
    nonces.add("b", clock.now)
    clock.now = NOW
    with pytest.raises(StoreFull, match="forgotten"):
        nonces.add("a", NOW)


def test_added_at_once() -> None:
    """Of fifty threads that add the same nonce at once, one is told that it is new."""
    nonces = MemoryNonces(now=Clock())
    start = threading.Barrier(50)
    new: list[bool] = []

    def add() -> None:
        start.wait(30)  # liveness bound
        new.append(nonces.add("a", NOW))

    threads = [threading.Thread(target=add) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(new) == [False] * 49 + [True]


def test_real_clock() -> None:
    """Without a clock of their own hook and nonces use the real one."""
    pair = Pair()
    hook = Hook(lambda: pair.config)
    sealed = pair.seal(time=milliseconds())
    assert [Value(5)] == pair.open(sealed, hook.answer(pair.request(sealed)))
    assert MemoryNonces().add("a", milliseconds() + WINDOW)


# --- the log ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns what was logged."""
    caplog.set_level(logging.DEBUG)
    return lambda: [record.getMessage() for record in caplog.records]


REASONS = {
    "form": ({"query": "x"}, "not the form of a request"),
    "address": ({"client": "192.0.2.1"}, "an address that is not allowed"),
    "header": ({"header": "x"}, "no signature of the right form"),
    "length": ({"content_length": "1"}, "no signature of the right form"),
    "key": (UNSIGNED["unknown key"] | {"content_length": "0"}, "a key that is not known here"),
    "signature": (UNSIGNED["wrong signature"], "a wrong signature, or one for another audience"),
}


@pytest.mark.parametrize(("changes", "why"), REASONS.values(), ids=REASONS)
def test_log_says_why(changes: dict[str, str], why: str, lines: Callable[[], list[str]]) -> None:
    """Whoever runs the hook finds in the log what the client is not told."""
    pair = Pair()
    client = changes.get("client", "127.0.0.1")
    pair.answer(pair.seal(), **changes)
    assert [f"denied 1 request(s); the last came from {client!r} with {why}"] == lines()


def test_log_of_a_unix_socket(lines: Callable[[], list[str]]) -> None:
    """A client without an address is named."""
    pair = Pair()
    pair.answer(pair.seal(), client="")
    assert "from 'a unix socket' with" in lines()[0]


def test_log_is_not_filled(lines: Callable[[], list[str]]) -> None:
    """However many are denied, there is a line in ten seconds, with how many they were."""
    pair = Pair()
    for pair.clock.now in range(NOW, NOW + 25_000, 10):
        pair.answer(pair.seal(), query="x")
    assert [line.split()[1] for line in lines()] == ["1", "1000", "1000"]


def test_log_after_the_clock_went_back(lines: Callable[[], list[str]]) -> None:
    """A clock that goes back does not silence the log."""
    pair = Pair()
    for pair.clock.now in (NOW, NOW - 3_600_000):
        pair.answer(pair.seal(), query="x")
    assert len(lines()) == 2


def test_log_is_one_line(lines: Callable[[], list[str]]) -> None:
    """An address that is none cannot write lines of its own."""
    pair = Pair()
    pair.answer(pair.seal(), client="1.2.3.4\nERROR all is lost")
    assert "\n" not in lines()[0]


def test_log_of_what_is_served(lines: Callable[[], list[str]]) -> None:
    """What is served, or refused under a signature, is not logged here."""
    pair = Pair()
    sealed = pair.seal()
    for _ in range(2):
        pair.answer(sealed)
    assert lines() == []


def test_log_has_no_secret(lines: Callable[[], list[str]]) -> None:
    """No key, body or signature comes into the log."""
    pair = Pair()
    for changes in UNSIGNED.values():
        pair.clock.now += 20_000
        sealed = pair.seal(body=b"a password")
        pair.answer(sealed, **changes)
        text = "".join(lines())
        for secret in (SECRET, "password", sealed.signature.mac.hex(), sealed.signature.nonce, sealed.signature.digest):
            assert secret not in text
    assert len(lines()) == len(UNSIGNED)


# --- 7. and 8. what it says ------------------------------------------------------------------------------------------

HOSTILE = {
    "empty": b"",
    "short": b"\0\0",
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "length beyond the end": b"\xff\xff\xff\xff[]",
    "not JSON": b"\0\0\0\x03{{{",
    "not UTF-8": b"\0\0\0\x02\xff\xfe",
    "a pickle for a head": b"\0\0\0\x05\x80\x05K\x05.",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_signed_garbage(body: bytes) -> None:
    """A valid signature over what is no envelope is a signed refusal: nothing ran."""
    pair = Pair()
    sealed = pair.seal(body=body)
    refused = pair.refusal(sealed, pair.answer(sealed))
    assert (refused.reason, refused.executed) == ("bad-request", False)
