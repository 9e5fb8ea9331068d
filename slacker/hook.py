"""The far side of HTTP, without a framework: decide whether a request is authentic, serve it, seal the reply.

`Hook.answer` takes a `Request` and gives a `Reply`; `slacker.wsgi` and Django's view are thin coats around it. The
checks stand in the order of `answer`, and the order is the security: until the signature of the header has been
verified nothing is read, nothing is told, and every refusal is one constant. A body is unpickled only when it is
the very body that a holder of the key signed, for this environment, just now, and for the first time.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import logging
import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import chain as in_a_row
from typing import final

from . import wire
from .nonces import Clock, MemoryNonces, NonceStore, StoreFull, milliseconds
from .signing import Keyring, ReplySealer, Signature

__all__ = ["CONTENT_TYPE", "Config", "Hook", "MemoryNonces", "NonceStore", "Reply", "Request", "StoreFull"]

CONTENT_TYPE = "application/x-tornado-slacker"
LOOPBACK = ("127.0.0.0/8", "::1", "::ffff:127.0.0.0/104")
MAX_REQUEST = 16 << 20
WINDOW = 60_000
"""Milliseconds by which the two clocks may differ."""
START = 2_000
"""Milliseconds before its start from which a process takes requests, though it cannot know if they were served."""

SENT_TOGETHER = 64 << 10
"""Bytes of one answer that are sent in one piece: each that arrives costs the client's loop a turn."""

logger = logging.getLogger("slacker.hook")


@final
@dataclass(frozen=True, slots=True)
class Request:
    """What the hook needs to know of an HTTP request; empty strings for what is absent."""

    method: str
    query: str
    content_type: str
    content_length: str
    encodings: str
    """Transfer-Encoding and Content-Encoding."""
    signature: str
    """The header Slacker-Signature; of several, all with a comma between, as WSGI has it."""
    client: str
    """The peer's address; empty for a unix socket."""
    read: Callable[[int], bytes]
    """Reads up to that many bytes of the body, b"" at its end."""
    streams: bool = True
    """Whether the reply can be sent while it is made."""


@final
@dataclass(frozen=True, slots=True)
class Reply:
    """A status, headers, and a body: whole as a list, or frame by frame as they are made."""

    status: int
    headers: list[tuple[str, str]]
    body: Iterable[bytes]


@final
@dataclass(frozen=True, slots=True)
class Config:
    """How a hook is set up.

    Args:
        keyring: whose requests are served; None refuses all.
        audience: the environment this is; requests for another are refused.
        max_request: most bytes of a body.
        allowed_clients: addresses and networks; an empty string stands for unix sockets.

    Raises:
        ValueError: one of `allowed_clients` is no address.
    """

    keyring: Keyring | None
    audience: str = ""
    max_request: int = MAX_REQUEST
    allowed_clients: tuple[str, ...] = LOOPBACK

    def __post_init__(self) -> None:
        _networks(self.allowed_clients)


@final
class Hook:
    """Serves authentic requests. May be shared between threads, and made before a fork.

    Args:
        config: returns the set-up, asked for each request, so that settings are read when they are used.
        far_side: what is done with the calls of a request; by default they are replayed, and nothing else is done.
        nonces: which requests were seen; by default `MemoryNonces`. Unless they outlive the process, requests from
            before the start are refused.
        now: the clock.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        far_side: wire.FarSide = wire.PLAIN,
        nonces: NonceStore | None = None,
        now: Clock | None = None,
    ) -> None:
        self._config = config
        self._far_side = far_side
        self._now = now or milliseconds
        self._nonces = MemoryNonces(now=self._now) if nonces is None else nonces
        self._begin()
        _hooks.add(self)

    def start(self) -> None:
        """Begin afresh, as in a forked child: what parent and siblings serve from then on is not known here."""
        if isinstance(self._nonces, MemoryNonces):
            self._nonces.begin_afresh()
        self._begin()

    def _begin(self) -> None:
        self._process = os.urandom(4).hex()
        self._denials = _Denials(self._now)
        self._oldest = 0 if getattr(self._nonces, "outlives_process", True) else self._now() - START

    def answer(self, request: Request) -> Reply:
        """Serve `request` if it is authentic, refuse it otherwise. Raises nothing but what `config` raises."""
        config = self._config()
        # 1. What can be told from the outside.
        if request.method != "POST":
            return _bare(405, ("Allow", "POST"))
        if request.content_type != CONTENT_TYPE or request.query or request.encodings:
            return self._deny(request, "not the form of a request")
        if not _is_allowed(request.client, config.allowed_clients):
            return self._deny(request, "an address that is not allowed")
        # 2. The header, on its own.
        signature = Signature.parse(request.signature)
        if signature is None or request.content_length != str(signature.length):
            return self._deny(request, "no signature of the right form")
        key = config.keyring.get(signature.key_id) if config.keyring else None
        if key is None:
            return self._deny(request, "a key that is not known here")
        if signature.length > config.max_request:
            return _bare(413)
        # 3. Its signature.
        if not signature.verify(key, config.audience):
            return self._deny(request, "a wrong signature, or one for another audience")
        # 4. The body, of which only the signed length is read. From here on refusals are signed.
        body = _read(request.read, signature.length)
        sealer = ReplySealer(key, signature)
        if not signature.matches(body):
            return _refuse(sealer, "bad-request", "the body is not the one that was signed")
        # 5. Now.
        now = self._now()
        if abs(now - signature.time) > WINDOW or signature.time < self._oldest:
            return _refuse(sealer, "clock-skew", "the clocks differ, or this server has just started", time=now)
        # 6. For the first time.
        try:
            if not self._nonces.add(signature.nonce, signature.time + WINDOW):
                return _refuse(sealer, "duplicate", "this very request was served before")
        except StoreFull as error:
            return _refuse(sealer, "unavailable", f"this request cannot be remembered: {error}")
        # 7. and 8. What it says.
        far_side = self._far_side if request.streams else dataclasses.replace(self._far_side, stream=None)
        return _reply(sealer, wire.serve(body, far_side, self._now), ("Slacker-Process", self._process))

    def _deny(self, request: Request, why: str) -> Reply:
        self._denials.note(request.client, why)
        return _bare(403)


_hooks: weakref.WeakSet[Hook] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for hook in list(_hooks):
        hook.start()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _reply(sealer: ReplySealer, frames: Generator[wire.Frame, None, None], *headers: tuple[str, str]) -> Reply:
    first = next(frames)
    fixed = [("Content-Type", CONTENT_TYPE), ("Cache-Control", "no-store"), ("X-Accel-Buffering", "no")]
    if first.kind & wire.Kind.LAST:
        sealed = sealer.seal(*first)
        return Reply(200, [*fixed, *headers, ("Content-Length", str(len(sealed)))], [sealed])
    return Reply(200, [*fixed, *headers], _in_turn(sealer, first, frames))


def _in_turn(
    sealer: ReplySealer, first: wire.Frame, frames: Generator[wire.Frame, None, None]
) -> Generator[bytes, None, None]:
    held = bytearray()
    try:
        for frame in in_a_row([first], frames):
            held += sealer.seal(*frame)
            if len(held) >= SENT_TOGETHER or isinstance(frame, wire.AwaitedFrame) or frame.kind & wire.Kind.LAST:
                yield bytes(held)
                held.clear()
    finally:
        frames.close()  # the client may have gone: what has not begun never does, and a stream ends


def _refuse(sealer: ReplySealer, reason: str, message: str, **details: object) -> Reply:
    refusal = wire.refusal(reason, message, details=details)
    return _reply(sealer, (frame for frame in [refusal]))


def _bare(status: int, *headers: tuple[str, str]) -> Reply:
    fixed = [("Content-Type", "text/plain"), ("Content-Length", "0"), ("Cache-Control", "no-store")]
    return Reply(status, [*fixed, *headers], [])


def _read(read: Callable[[int], bytes], length: int) -> bytes:
    """Return that many bytes, or those that came before the client went."""
    parts: list[bytes] = []
    try:
        while length > 0 and (part := read(length)):
            parts.append(part)
            length -= len(part)
    except OSError:
        pass
    return b"".join(parts)


# --- addresses -----------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def _is_allowed(client: str, allowed: tuple[str, ...]) -> bool:
    if not client:
        return "" in allowed
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return False
    return any(address in network for network in _networks(allowed))


@functools.lru_cache(maxsize=64)
def _networks(allowed: tuple[str, ...]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(text, strict=False) for text in allowed if text != ""]


# --- the log -------------------------------------------------------------------------------------------------------


@final
class _Denials:
    """One line in the log for many denied requests: whoever knocks must not be able to fill it."""

    EVERY = 10_000

    def __init__(self, now: Clock) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._count = 0
        self._logged = -self.EVERY

    def note(self, client: str, why: str) -> None:
        with self._lock:
            self._count += 1
            now = self._now()
            if abs(now - self._logged) < self.EVERY:  # abs: should the clock go back, the log shall not go silent
                return
            count, self._count, self._logged = self._count, 0, now
        logger.warning("denied %d request(s); the last came from %r with %s", count, client or "a unix socket", why)
