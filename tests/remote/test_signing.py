"""Keys, signatures and seals: what verifies, and that nothing else does."""

from __future__ import annotations

import hashlib
import hmac
import json
import string
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slacker.errors import ProtocolError
from slacker.keys import Mac, hkdf_expand, hkdf_extract
from slacker.signing import Key, Keyring, ReplyOpener, ReplySealer, Signature

from .pair import AUDIENCE, NOW, OTHER_SECRET, ROOT, SECRET

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())

KEY = Key.of(SECRET)
BODY = b"a body"
SIGNATURE = Signature.make(KEY, AUDIENCE, NOW, BODY)
HEADER = str(SIGNATURE)


def name_of(vector: Any) -> str:
    return str(vector["name"])


def straightforward(key: bytes, *fields: bytes) -> bytes:
    """Return the MAC as protocol and RFC 2104 have it, with nothing done to make it fast."""
    message = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    return hmac.new(key, message, hashlib.sha256).digest()


def with_field(name: str, value: str) -> str:
    """Return the header with another value for one field."""
    fields = [field.partition("=") for field in HEADER.split(";")]
    return ";".join(f"{field}{equals}{value if field == name else old}" for field, equals, old in fields)


# --- keys ------------------------------------------------------------------------------------------------------------

RFC_5869 = [
    {
        "name": "A.1, basic",
        "secret": "0b" * 22,
        "salt": "000102030405060708090a0b0c",
        "info": "f0f1f2f3f4f5f6f7f8f9",
        "prk": "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
        "okm": "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    },
    {
        "name": "A.2, longer",
        "secret": bytes(range(0x50)).hex(),
        "salt": bytes(range(0x60, 0xB0)).hex(),
        "info": bytes(range(0xB0, 0x100)).hex(),
        "prk": "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
        "okm": "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    },
    {
        "name": "A.3, without salt and info",
        "secret": "0b" * 22,
        "salt": "",
        "info": "",
        "prk": "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
        "okm": "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    },
]


@pytest.mark.parametrize("vector", RFC_5869, ids=name_of)
def test_extract(vector: dict[str, str]) -> None:
    """HKDF-Extract gives what RFC 5869 publishes."""
    extracted = hkdf_extract(bytes.fromhex(vector["salt"]), bytes.fromhex(vector["secret"]))
    assert vector["prk"] == extracted.hex()


@pytest.mark.parametrize("vector", RFC_5869, ids=name_of)
def test_expand(vector: dict[str, str]) -> None:
    """HKDF-Expand gives what RFC 5869 publishes."""
    okm = bytes.fromhex(vector["okm"])
    assert okm == hkdf_expand(bytes.fromhex(vector["prk"]), bytes.fromhex(vector["info"]), len(okm))


def test_expand_has_an_end() -> None:
    """HKDF-Expand refuses more than the 255 blocks that RFC 5869 allows."""
    assert len(hkdf_expand(b"key", b"", 255 * 32)) == 255 * 32
    with pytest.raises(ValueError, match="256"):
        hkdf_expand(b"key", b"", 255 * 32 + 1)


@settings(deadline=None)
@given(key=st.binary(max_size=64), parts=st.lists(st.binary(max_size=200)))
def test_mac(key: bytes, parts: list[bytes]) -> None:
    """A MAC is HMAC-SHA256 of the parts, one after another."""
    assert hmac.new(key, b"".join(parts), hashlib.sha256).digest() == Mac.of(key)(*parts)


@settings(deadline=None)
@given(key=st.binary(max_size=64), beginning=st.binary(max_size=200), part=st.binary(max_size=200))
def test_mac_after(key: bytes, beginning: bytes, part: bytes) -> None:
    """A MAC that has begun goes on as often as one likes, and is that of the whole message."""
    begun = Mac.of(key).after(beginning)
    assert [begun(part), begun(part)] == [hmac.new(key, beginning + part, hashlib.sha256).digest()] * 2


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=name_of)
@pytest.mark.parametrize("purpose", ["request", "reply"])
def test_published_keys(vector: dict[str, str], purpose: str) -> None:
    """The keys of a secret are the published ones, for ever."""
    key = getattr(Key.of(bytes.fromhex(vector["secret"])), purpose)
    beginning = f"tornado-slacker/1/{purpose}".encode()
    assert straightforward(bytes.fromhex(vector[f"{purpose}_key"]), beginning) == key()


@pytest.mark.parametrize("vector", VECTORS["keys"], ids=name_of)
def test_published_key_ids(vector: dict[str, str]) -> None:
    """The id of a key is the published one, for ever."""
    assert vector["key_id"] == Key.of(bytes.fromhex(vector["secret"])).id


@pytest.mark.parametrize("secret", [SECRET, "Schlüssel, schön lang: 0123456789abcdef", "🔑" * 8])
def test_text_is_utf_8(secret: str) -> None:
    """A secret given as text is its UTF-8."""
    assert Key.of(secret.encode()).id == Key.of(secret).id


@pytest.mark.parametrize("secret", [b"\xff" * 32, bytes(range(128, 160)), b"\0" * 32])
def test_bytes_need_not_be_text(secret: bytes) -> None:
    """A secret may be any 32 bytes."""
    assert Key.of(secret).id


def test_secrets_have_different_ids() -> None:
    """Two secrets have two key ids."""
    assert Key.of(SECRET).id != Key.of(OTHER_SECRET).id


@pytest.mark.parametrize("secret", ["", b"", "short", b"x" * 31, "🔑" * 7])
def test_short_secret(secret: str | bytes) -> None:
    """A secret of less than 32 bytes is refused, and the message says how to make one."""
    with pytest.raises(ValueError, match=r"at least 32 bytes.*secrets\.token_hex"):
        Keyring(secret)


@pytest.mark.parametrize("secret", [None, [None], 7, [7], bytearray(32), [memoryview(bytes(32))], ["x" * 32, 7]])
def test_no_secret_at_all(secret: Any) -> None:
    """What is neither text nor bytes is refused, None from an unset variable before all."""
    with pytest.raises(TypeError):
        Keyring(secret)


def test_none_is_named() -> None:
    """The message about a variable that was not set says what was got and what was wanted."""
    with pytest.raises(TypeError, match="must be bytes or str, got NoneType"):
        Keyring(None)  # type: ignore[arg-type]


def test_text_that_is_no_text() -> None:
    """A secret with lone surrogates, as undecodable variables of the environment have, is refused."""
    with pytest.raises(ValueError, match="surrogates"):
        Keyring("\udc80" * 32)


@pytest.mark.parametrize("secrets", [[], (), {}])
def test_no_secrets(secrets: Any) -> None:
    """A keyring without a key is refused: there is no unsigned mode."""
    with pytest.raises(ValueError, match="no unsigned mode"):
        Keyring(secrets)


@pytest.mark.parametrize("secrets", [[SECRET, OTHER_SECRET], (SECRET.encode(), OTHER_SECRET), iter([SECRET, "x" * 32])])
def test_first_signs(secrets: Any) -> None:
    """Of several secrets the first signs."""
    assert Keyring(secrets).signing.id == KEY.id


@pytest.mark.parametrize("secret", [SECRET, OTHER_SECRET, "x" * 32])
def test_all_verify(secret: str) -> None:
    """Of several secrets all verify."""
    key = Keyring([SECRET, OTHER_SECRET, "x" * 32]).get(Key.of(secret).id)
    assert key is not None
    assert Signature.make(Key.of(secret), AUDIENCE, NOW, BODY).verify(key, AUDIENCE)


def test_others_do_not() -> None:
    """A secret that is not among them is not known."""
    assert Keyring([SECRET]).get(Key.of(OTHER_SECRET).id) is None


@pytest.mark.parametrize("value", [KEY, Keyring([SECRET, OTHER_SECRET])])
def test_repr_shows_ids(value: object) -> None:
    """Keys and keyrings show the ids, which anybody may see, and so no secret."""
    shown = repr(value)
    assert KEY.id in shown
    assert len(shown) < 60


# --- signatures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=name_of)
def test_published_request(vector: dict[str, str]) -> None:
    """A published request verifies, for ever."""
    signature = Signature.parse(vector["header"])
    assert signature is not None
    assert signature.verify(Key.of(bytes.fromhex(vector["secret"])), vector["audience"])
    assert signature.matches(bytes.fromhex(vector["body"]))


@settings(deadline=None)
@given(audience=st.text(), time=st.integers(1, 10**16 - 1), body=st.binary())
def test_header_round_trip(audience: str, time: int, body: bytes) -> None:
    """What is signed, written as a header and parsed again is the same, and verifies."""
    signature = Signature.make(KEY, audience, time, body)
    assert signature == Signature.parse(str(signature))
    assert signature.verify(KEY, audience)
    assert signature.matches(body)


@settings(deadline=None)
@given(audience=st.text(st.characters()), time=st.integers(1, 10**16 - 1), length=st.integers(0, 10**12 - 1))
def test_what_is_signed(audience: str, time: int, length: int) -> None:
    """The MAC covers protocol, key id, audience, time, nonce, length and digest, each with its length before it."""
    nonce, digest = "0123456789abcdef" * 2, "fedcba9876543210" * 4
    vector = VECTORS["keys"][0]
    key = Key.of(bytes.fromhex(vector["secret"]))
    text = [key.id, audience, str(time), nonce, str(length), digest]
    fields = [b"tornado-slacker/1/request", *(field.encode("utf-8", "surrogatepass") for field in text)]
    mac = straightforward(bytes.fromhex(vector["request_key"]), *fields)
    assert Signature(key.id, time, nonce, length, digest, mac).verify(key, audience)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("", " "),
        ("a", "A"),
        ("a", "a\0"),
        ("prod\ndefault=db", "prod\ndefault=test_db"),
        ("\udc80", "\udc81"),
        ("\u00e4", "a\u0308"),
    ],
)
def test_another_audience(one: str, other: str) -> None:
    """A signature for one audience is worth nothing for another, however alike, nor if it is no Unicode."""
    assert not Signature.make(KEY, one, NOW, BODY).verify(KEY, other)


def test_another_key() -> None:
    """A signature of one key is worth nothing under another."""
    assert not SIGNATURE.verify(Key.of(OTHER_SECRET), AUDIENCE)


def test_nothing_moves_between_fields() -> None:
    """A letter cannot go from one field to its neighbour: 12 and 3 are not 1 and 23."""
    time = Signature.make(KEY, AUDIENCE + "1", 23, BODY)
    moved = Signature(time.key_id, 123, time.nonce, time.length, time.digest, time.mac)
    assert not moved.verify(KEY, AUDIENCE)


def test_digest_given() -> None:
    """The digest of a large body can be made elsewhere, and handed in."""
    signature = Signature.make(KEY, AUDIENCE, NOW, BODY, digest=hashlib.sha256(BODY).hexdigest())
    assert signature.matches(BODY)


@pytest.mark.parametrize("body", [b"", b"a bodY", b"a bod", b"a body ", b"A body"])
def test_another_body(body: bytes) -> None:
    """A signature fits its body alone."""
    assert not SIGNATURE.matches(body)


def test_nonces_differ() -> None:
    """No two signatures are alike, though all they are about is."""
    assert len({Signature.make(KEY, AUDIENCE, NOW, BODY).nonce for _ in range(1000)}) == 1000


def test_nonces_differ_after_a_fork() -> None:
    """Parent and child use different nonces, also where some were drawn before they parted."""
    script = """if True:
        import os, sys
        from slacker.signing import Key, Signature
        def sign():
            print(Signature.make(Key.of("x" * 32), "", 1, b"").nonce)
        sign()
        sys.stdout.flush()
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        for _ in range(100):
            sign()
    """
    output = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert len(set(output.split())) == len(output.split()) == 201


@pytest.mark.parametrize(
    "header",
    [
        "",
        "v1",
        HEADER[:-1],
        HEADER + ";",
        HEADER + "\n",
        "\n" + HEADER,
        HEADER + "\0",
        " " + HEADER,
        HEADER + " ",
        HEADER + "," + HEADER,
        HEADER + ", " + HEADER,
        HEADER + ";" + HEADER,
        HEADER.replace(";", "; "),
        HEADER.replace(";", ";\r\n "),
        HEADER.replace(";", ","),
        HEADER.replace("=", " = "),
        HEADER.upper(),
        HEADER.swapcase(),
        HEADER.replace("v1", "V1"),
        HEADER.replace("v1", "v2"),
        HEADER.replace("v1;", ""),
        ";".join(reversed(HEADER.split(";"))),
        HEADER.rpartition(";")[0],
        HEADER.partition("nonce")[0],
        HEADER + "0" * 10_000,
        "v1;" + "kid=0" * 2_000,
        "x" * 10_000,
        "é" * 100,
        "v1;kid=;ts=;nonce=;len=;dig=;mac=",
        HEADER.replace("kid", "key"),
        *[with_field(name, "") for name in ("kid", "ts", "nonce", "len", "dig", "mac")],
        *[with_field(name, "0" * 63) for name in ("kid", "ts", "nonce", "len", "dig", "mac")],
        *[with_field(name, "g" * size) for name, size in (("kid", 16), ("nonce", 32), ("dig", 64), ("mac", 64))],
        *[with_field(name, "A" * size) for name, size in (("kid", 16), ("nonce", 32), ("dig", 64), ("mac", 64))],
        *[with_field(name, "é" * size) for name, size in (("kid", 16), ("nonce", 32), ("dig", 64), ("mac", 64))],
        *[with_field("ts", time) for time in ("0", "01", "-1", "+1", "1e3", "1_0", " 1", "0x1", "1.0", "1" * 17)],
        *[with_field("len", size) for size in ("00", "06", "-6", "+6", "6 ", "6.0", "1" * 13)],
        *[with_field(name, digit) for name in ("ts", "len") for digit in "\u0661\u06f1\uff11\u00b9\u00bd"],
    ],
)
def test_other_forms(header: str) -> None:
    """Only the one form of a header is one; everything else is nothing, and no error."""
    assert Signature.parse(header) is None


def believed(headers: Iterable[str]) -> list[str]:
    signatures = [(header, Signature.parse(header)) for header in headers]
    return [header for header, signature in signatures if signature and signature.verify(KEY, AUDIENCE)]


def with_character(index: int, character: str) -> str:
    return HEADER[:index] + character + HEADER[index + 1 :]


def test_every_bit_of_the_header() -> None:
    """With any bit of it flipped a header is no longer one, or does not verify."""
    flipped = [with_character(i, chr(ord(HEADER[i]) ^ (1 << bit))) for i in range(len(HEADER)) for bit in range(8)]
    assert believed(flipped) == []


def test_every_other_character_in_the_header() -> None:
    """With any character replaced by any other that a header has, it is no longer one, or does not verify."""
    others = sorted(set(HEADER + string.hexdigits))
    changed = [with_character(i, other) for i in range(len(HEADER)) for other in others if other != HEADER[i]]
    assert believed(changed) == []


def test_every_bit_of_the_body() -> None:
    """With any bit of it flipped a body is not the one that was signed."""
    flips = [(index, bit) for index in range(len(BODY)) for bit in range(8)]
    flipped = [BODY[:index] + bytes([BODY[index] ^ (1 << bit)]) + BODY[index + 1 :] for index, bit in flips]
    assert [body for body in flipped if SIGNATURE.matches(body)] == []


# --- replies ---------------------------------------------------------------------------------------------------------

FRAMES = [(1, 0, b"first"), (2, 7, b""), (0x84, 0xFFFF_FFFF, b"last")]


def sealed(frames: list[tuple[int, int, bytes]] = FRAMES, signature: Signature = SIGNATURE) -> list[bytes]:
    sealer = ReplySealer(KEY, signature)
    return [sealer.seal(*frame) for frame in frames]


def opened(data: bytes, signature: Signature = SIGNATURE, key: Key = KEY) -> list[tuple[int, int, bytes]]:
    return list(ReplyOpener(key, signature, len(data)).feed(data))


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=name_of)
def test_published_reply(vector: dict[str, str]) -> None:
    """A published reply opens, for ever, to its end."""
    signature = Signature.parse(vector["header"])
    assert signature is not None
    frames = opened(bytes.fromhex(vector["reply"]), signature, Key.of(bytes.fromhex(vector["secret"])))
    assert [False] * (len(frames) - 1) + [True] == [bool(kind & 0x80) for kind, _, _ in frames]


@settings(deadline=None)
@given(
    request_mac=st.binary(min_size=32, max_size=32),
    kind=st.integers(0, 255),
    chain=st.integers(0, 2**32 - 1),
    payload=st.binary(),
)
def test_what_is_sealed(request_mac: bytes, kind: int, chain: int, payload: bytes) -> None:
    """A seal covers protocol, request, number, kind, chain and payload, each with its length before it."""
    vector = VECTORS["keys"][0]
    key = Key.of(bytes.fromhex(vector["secret"]))
    sealer = ReplySealer(key, Signature(key.id, 1, "", 0, "", request_mac))
    numbers = [(1).to_bytes(4, "big"), bytes([kind]), chain.to_bytes(4, "big")]
    fields = [b"tornado-slacker/1/reply", request_mac, *numbers, payload]
    mac = straightforward(bytes.fromhex(vector["reply_key"]), *fields)
    sealer.seal(1, 0, b"so that the next is number 1")
    head = len(payload).to_bytes(4, "big") + bytes([kind]) + chain.to_bytes(4, "big")
    assert head + mac + payload == sealer.seal(kind, chain, payload)


@settings(deadline=None)
@given(frames=st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1), st.binary())), size=st.integers(1, 99))
def test_frames_round_trip(frames: list[tuple[int, int, bytes]], size: int) -> None:
    """What is sealed opens again, in whatever pieces it arrives."""
    data = b"".join(sealed(frames))
    opener = ReplyOpener(KEY, SIGNATURE, len(data))
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert frames == [frame for piece in pieces for frame in opener.feed(piece)]


def test_frames_taken_later() -> None:
    """Frames that were not taken are not lost when more bytes come."""
    data = b"".join(sealed())
    opener = ReplyOpener(KEY, SIGNATURE, len(data))
    first = next(opener.feed(data[:100]))
    opener.feed(data[100:120])
    assert [first, *opener.feed(data[120:])] == FRAMES


def test_a_whole_reply_is_not_copied() -> None:
    """A reply that comes in one piece is opened where it is: there may be no room for it twice."""
    data = b"".join(sealed())
    opener = ReplyOpener(KEY, SIGNATURE, len(data))
    opener.feed(data)
    assert opener._buffer is data


def test_verified_one_by_one() -> None:
    """A frame is verified when its turn comes: those before a damaged one can be had."""
    data = bytearray(b"".join(sealed()))
    data[-1] ^= 1
    frames = ReplyOpener(KEY, SIGNATURE, len(data)).feed(bytes(data))
    assert [next(frames), next(frames)] == FRAMES[:2]
    with pytest.raises(ProtocolError, match="frame 2"):
        next(frames)


def test_every_bit_of_the_reply() -> None:
    """With any bit of it flipped a reply does not open to its end."""
    data = b"".join(sealed())
    for index in range(len(data)):
        for bit in range(8):
            flipped = data[:index] + bytes([data[index] ^ (1 << bit)]) + data[index + 1 :]
            try:
                frames = opened(flipped)
            except ProtocolError:
                continue
            assert len(frames) < len(FRAMES), (index, bit)  # the length was: the rest is awaited


@pytest.mark.parametrize(
    "change",
    [
        lambda one, two, three: [two, three],
        lambda one, two, three: [three],
        lambda one, two, three: [one, three],
        lambda one, two, three: [two, one, three],
        lambda one, two, three: [one, three, two],
        lambda one, two, three: [one, one, two, three],
        lambda one, two, three: [one, two, three, three],
        lambda one, two, three: [one, two, three, bytes(41)],
        lambda one, two, three: [one + two[:41] + b"x" + two[41:], three],
    ],
    ids=["first dropped", "two dropped", "middle dropped", "swapped", "swapped", "twice", "twice", "more", "inserted"],
)
def test_frames_in_another_order(change: Callable[..., list[bytes]]) -> None:
    """Frames cannot be dropped before others, moved, repeated or added."""
    with pytest.raises(ProtocolError, match=r"seal|claims"):
        opened(b"".join(change(*sealed())))


@pytest.mark.parametrize("number", range(len(FRAMES)))
def test_frame_of_another_reply(number: int) -> None:
    """A frame of one reply is none of another's, though they say the same at the same place."""
    frames = sealed()
    frames[number] = sealed(signature=Signature.make(KEY, AUDIENCE, NOW, BODY))[number]
    with pytest.raises(ProtocolError, match=f"frame {number} of the reply does not bear"):
        opened(b"".join(frames))


def test_reply_of_another_key() -> None:
    """A reply opens only with the key that the request was signed with."""
    with pytest.raises(ProtocolError, match="seal"):
        opened(b"".join(sealed()), key=Key.of(OTHER_SECRET))


def test_request_key_seals_nothing() -> None:
    """The key of requests is not the key of replies."""
    swapped = Key(KEY.id, KEY.reply, KEY.request)
    with pytest.raises(ProtocolError, match="seal"):
        opened(b"".join(sealed()), key=swapped)


def test_cut_anywhere() -> None:
    """A reply that is cut, wherever, gives the frames before the cut and no more."""
    frames = sealed()
    data = b"".join(frames)
    ends = [sum(map(len, frames[: count + 1])) for count in range(len(frames))]
    for cut in range(len(data)):
        opener = ReplyOpener(KEY, SIGNATURE, len(data))
        assert FRAMES[: sum(end <= cut for end in ends)] == list(opener.feed(data[:cut]))


@pytest.mark.parametrize("size", [1, 20, 41, 1000])
def test_limit(size: int) -> None:
    """A reply of more bytes than allowed is refused as soon as they come."""
    data = sealed()[0]
    opener = ReplyOpener(KEY, SIGNATURE, len(data) - 1)
    with pytest.raises(ProtocolError, match="larger than"):
        for start in range(0, len(data), size):
            list(opener.feed(data[start : start + size]))


def test_frame_that_claims_too_much() -> None:
    """A frame that claims more than the whole reply may have is refused before its bytes are awaited."""
    opener = ReplyOpener(KEY, SIGNATURE, 1000)
    with pytest.raises(ProtocolError, match="claims 1001 bytes"):
        list(opener.feed((1001).to_bytes(4, "big") + bytes(37)))


def test_frame_that_claims_more_than_a_frame_may_have() -> None:
    """Of a reply without an end the frames have one."""
    opener = ReplyOpener(KEY, SIGNATURE, 1 << 60, 1000)
    with pytest.raises(ProtocolError, match="claims 1001 bytes; it may have 1000"):
        list(opener.feed((1001).to_bytes(4, "big") + bytes(37)))
