"""The keys that a shared secret is turned into, and the MACs under them: what `slacker.signing` signs and seals with.

    secret --HKDF--> request key, reply key, key id

Each key is for one purpose, so that no request can be taken for a reply.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

__all__ = ["LENGTH", "MIN_SECRET", "Key", "Keyring", "Mac", "hkdf_expand", "hkdf_extract", "with_length"]

MIN_SECRET = 32
"""Bytes of a secret: as many as the digest has, beyond which nothing is gained and below which something is lost."""

LENGTH = struct.Struct(">I")
"""What stands before each field under a MAC; why, says `slacker.signing`."""

_PROTOCOL = b"tornado-slacker/1"


def with_length(field: bytes) -> bytes:
    return LENGTH.pack(len(field)) + field


_REQUEST = with_length(_PROTOCOL + b"/request")
_REPLY = with_length(_PROTOCOL + b"/reply")


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    """Return the pseudo-random key of a secret (RFC 5869, section 2.2, with SHA-256)."""
    return hmac.digest(salt, secret, "sha256")


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    """Return `length` bytes for the purpose `info` (RFC 5869, section 2.3, with SHA-256)."""
    block = expanded = b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        expanded += block
    return expanded[:length]


@final
class Mac:
    """HMAC-SHA256 under one key of at most 64 bytes.

    The states after the padded key are kept and copied: half the time of `hmac.digest` for a short message.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, inner: hashlib._Hash, outer: hashlib._Hash) -> None:
        self._inner = inner
        self._outer = outer

    @staticmethod
    def of(key: bytes) -> Mac:
        padded = key.ljust(64, b"\0")
        inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        return Mac(inner, hashlib.sha256(bytes(byte ^ 0x5C for byte in padded)))

    def after(self, beginning: bytes) -> Mac:
        """Return one for messages that all begin like that."""
        inner = self._inner.copy()
        inner.update(beginning)
        return Mac(inner, self._outer)

    def __call__(self, *parts: bytes | memoryview) -> bytes:
        """Return the MAC of `parts`, one after another."""
        inner = self._inner.copy()
        for part in parts:
            inner.update(part)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


@final
@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Key:
    """What is derived from one secret. Anybody may see its `id`; the MACs have begun with what all begin with."""

    id: str
    request: Mac
    reply: Mac

    @staticmethod
    def of(secret: bytes | str) -> Key:
        """Derive the keys of `secret`, a str as its UTF-8.

        Raises:
            TypeError: `secret` is neither bytes nor str.
            ValueError: it is shorter than 32 bytes.
        """
        if not isinstance(secret, bytes | str):
            raise TypeError(f"a key must be bytes or str, got {type(secret).__name__}")
        raw = secret.encode() if isinstance(secret, str) else secret
        if len(raw) < MIN_SECRET:
            raise ValueError(
                f"a key must have at least {MIN_SECRET} bytes, got {len(raw)}; make one with "
                "python -c 'import secrets; print(secrets.token_hex(32))'"
            )
        return _derive(raw)

    def __repr__(self) -> str:
        return f"<Key {self.id}>"


@functools.lru_cache(maxsize=64)
def _derive(secret: bytes) -> Key:
    derived = functools.partial(hkdf_expand, hkdf_extract(_PROTOCOL, secret))
    reply = Mac.of(derived(b"reply", 32)).after(_REPLY)
    return Key(derived(b"key id", 8).hex(), Mac.of(derived(b"request", 32)).after(_REQUEST), reply)


@final
class Keyring:
    """Keys of several secrets: the first signs, all verify. So a secret can be replaced without a pause.

    Args:
        secrets: at least one, each of at least 32 bytes; a single one may be given by itself.

    Raises:
        TypeError, ValueError: a secret is unusable, or there is none.
    """

    __slots__ = ("_by_id", "signing")

    def __init__(self, secrets: bytes | str | Iterable[bytes | str]) -> None:
        if secrets is None or isinstance(secrets, bytes | str):  # None: a variable of the environment was not set
            secrets = [secrets]
        keys = [Key.of(secret) for secret in secrets]
        if not keys:
            raise ValueError("no key was given: there is no unsigned mode")
        self.signing = keys[0]
        self._by_id = {key.id: key for key in keys}

    def get(self, key_id: str) -> Key | None:
        return self._by_id.get(key_id)

    def __repr__(self) -> str:
        return f"<Keyring {', '.join(self._by_id)}>"
