"""Seal and open bytes: whose they are, that they are whole, and that they answer the request at hand.

This module has never heard of pickle, HTTP or Django. With the keys that `slacker.keys` makes of a shared secret it
signs requests with a header of one line, and seals the frames of a reply. Whoever holds the secret can have code run on
both sides: the signature is the wall.

    request:  v1;kid=..;ts=..;nonce=..;len=..;dig=..;mac=..      mac over all of it and the audience
    reply:    length (4) | kind (1) | chain (4) | mac (32) | payload, again and again
              mac over the request's mac, the frame's number, kind, chain and payload

So a frame cannot be moved, swapped with another reply's, or replayed; that none is missing at the end is for
`slacker.wire` to see. Every field under a MAC has its length before it, four bytes, so that none can lend the next
one a letter.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import re
import struct
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, Self, TypeAlias, final

from .errors import ProtocolError
from .keys import LENGTH, Key, Keyring, Mac, with_length

__all__ = ["Key", "Keyring", "OpenedFrame", "ReplyOpener", "ReplySealer", "Signature"]

_FRAME = struct.Struct(">IBI32s")
_FRAME_FIELDS = struct.Struct(">I32s II IB II I")
"""What the MAC of a frame covers between protocol and payload: the request's, number, kind and chain."""
_HEADER = re.compile(
    r"v1;kid=([0-9a-f]{16});ts=([1-9][0-9]{0,15});nonce=([0-9a-f]{32})"
    r";len=(0|[1-9][0-9]{0,11});dig=([0-9a-f]{64});mac=([0-9a-f]{64})"
)


_NONCE_LENGTH, _DIGEST_LENGTH = LENGTH.pack(32), LENGTH.pack(64)


# --- requests ------------------------------------------------------------------------------------------------------


class Signature(NamedTuple):
    """The one header of a request, taken apart. Until `verify` has passed nothing of it can be believed."""

    key_id: str
    time: int
    """Milliseconds since 1970, by the client's clock as corrected by what the server told it."""
    nonce: str
    length: int
    digest: str
    mac: bytes

    @classmethod
    def make(cls, key: Key, audience: str, time: int, body: bytes, *, digest: str | None = None) -> Self:
        """Sign `body`.

        Args:
            key: whose request it is.
            audience: which environment it is meant for; elsewhere it is worth nothing.
            time: milliseconds since 1970.
            body: what the request carries.
            digest: SHA-256 of `body` in hex, where it is known already.
        """
        nonce = _new_nonce()
        digest = hashlib.sha256(body).hexdigest() if digest is None else digest
        mac = _request_mac(key, audience, time, nonce, len(body), digest)
        return cls(key.id, time, nonce, len(body), digest, mac)

    @classmethod
    def parse(cls, header: str) -> Self | None:
        """Return what `header` says, or None if that is not exactly of the form it must have."""
        match = _HEADER.fullmatch(header)
        if match is None:
            return None
        key_id, time, nonce, length, digest, mac = match.groups()
        return cls(key_id, int(time), nonce, int(length), digest, bytes.fromhex(mac))

    def verify(self, key: Key, audience: str) -> bool:
        """Tell whether the holder of `key` signed this for `audience`; the body is a matter of `matches`."""
        expected = _request_mac(key, audience, self.time, self.nonce, self.length, self.digest)
        return self.key_id == key.id and hmac.compare_digest(expected, self.mac)

    def matches(self, body: bytes) -> bool:
        """Tell whether `body` is what was signed."""
        return hashlib.sha256(body).hexdigest() == self.digest

    def __str__(self) -> str:
        return (
            f"v1;kid={self.key_id};ts={self.time};nonce={self.nonce};len={self.length};dig={self.digest};"
            f"mac={self.mac.hex()}"
        )


_nonces: deque[str] = deque()
os.register_at_fork(after_in_child=_nonces.clear)  # or parent and child would use the same


def _new_nonce() -> str:
    try:
        return _nonces.pop()
    except IndexError:  # the system is asked for many at once: after a sleep, asking is a third of what signing takes
        drawn = os.urandom(16 * 64).hex()
        _nonces.extend([drawn[start : start + 32] for start in range(32, len(drawn), 32)])
        return drawn[:32]


def _request_mac(key: Key, audience: str, time: int, nonce: str, length: int, digest: str) -> bytes:
    moment, size = b"%d" % time, b"%d" % length
    fields = (
        *(LENGTH.pack(len(moment)), moment, _NONCE_LENGTH, nonce.encode()),
        *(LENGTH.pack(len(size)), size, _DIGEST_LENGTH, digest.encode()),
    )
    return _mac_for(key, audience)(b"".join(fields))


@functools.lru_cache(maxsize=64)
def _mac_for(key: Key, audience: str) -> Mac:
    # A database may be a file whose name is no Unicode, hence surrogatepass: no two audiences look the same.
    named = audience.encode("utf-8", "surrogatepass")
    return key.request.after(with_length(key.id.encode()) + with_length(named))


# --- replies -------------------------------------------------------------------------------------------------------

OpenedFrame: TypeAlias = tuple[int, int, bytes | memoryview]


@final
class ReplySealer:
    """Seals the frames of one reply, in the order in which they are sent."""

    __slots__ = ("_key", "_number", "_request_mac")

    def __init__(self, key: Key, signature: Signature) -> None:
        self._key = key
        self._request_mac = signature.mac
        self._number = 0

    def seal(self, kind: int, chain: int, payload: bytes) -> bytes:
        mac = _frame_mac(self._key, self._request_mac, self._number, kind, chain, payload)
        self._number += 1
        return _FRAME.pack(len(payload), kind, chain, mac) + payload


@final
class ReplyOpener:
    """Opens the frames of one reply as its bytes arrive.

    Args:
        key, signature: those of the request.
        limit: most bytes of the whole reply.
        frame_limit: most bytes of a frame; by default as many.
    """

    __slots__ = ("_arrived", "_at", "_buffer", "_frame_limit", "_key", "_limit", "_number", "_request_mac")

    def __init__(self, key: Key, signature: Signature, limit: int, frame_limit: int | None = None) -> None:
        self._key = key
        self._request_mac = signature.mac
        self._limit = limit
        self._frame_limit = limit if frame_limit is None else frame_limit
        self._arrived = 0
        self._number = 0
        self._buffer: bytes | memoryview | bytearray = b""
        self._at = 0  # how far the buffer has been opened

    def feed(self, data: bytes | memoryview) -> Iterator[OpenedFrame]:
        """Take some bytes and return an iterator over the frames they complete, each as kind, chain and payload.

        A frame is verified when the iterator comes to it, so that large replies can be taken in pieces.

        Raises:
            ProtocolError: a frame does not verify, or the reply is larger than the limit; nothing more can be read.
        """
        self._arrived += len(data)
        if self._arrived > self._limit:
            raise ProtocolError(f"the reply is larger than the {self._limit} bytes that may come")
        if self._at == len(self._buffer):
            self._buffer = data  # as it is: a reply that came whole is not copied
        elif isinstance(self._buffer, bytearray):
            del self._buffer[: self._at]
            self._buffer += data
        else:
            self._buffer = bytearray(self._buffer[self._at :]) + data
        self._at = 0
        return iter(self._next, None)

    def _next(self) -> OpenedFrame | None:
        begin = self._at + _FRAME.size
        if begin > len(self._buffer):
            return None
        length, kind, chain, mac = _FRAME.unpack_from(self._buffer, self._at)
        end = begin + length
        if end > len(self._buffer):
            if length > self._frame_limit:
                raise ProtocolError(
                    f"frame {self._number} of the reply claims {length} bytes; it may have {self._frame_limit}"
                )
            return None
        payload: bytes | memoryview = memoryview(self._buffer)[begin:end]
        if isinstance(self._buffer, bytearray):  # which cannot grow while somebody looks at it
            payload = bytes(payload)
        if not hmac.compare_digest(mac, _frame_mac(self._key, self._request_mac, self._number, kind, chain, payload)):
            raise ProtocolError(f"frame {self._number} of the reply does not bear the other side's seal")
        self._at = end
        self._number += 1
        return kind, chain, payload


def _frame_mac(key: Key, request_mac: bytes, number: int, kind: int, chain: int, payload: bytes | memoryview) -> bytes:
    fields = _FRAME_FIELDS.pack(32, request_mac, 4, number, 1, kind, 4, chain, len(payload))
    return key.reply(fields, payload)
