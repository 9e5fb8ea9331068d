"""`HttpWorker`: chains replayed by another server, through a signed hook.

    run: encode -> wait in line for a connection -> sign -> POST -> verify and decode, a frame a turn of the loop

What may be sent again is decided by one question: did a byte leave? `NotSent` says no, and the call is tried once
more. Whatever else goes wrong after that has ``executed`` None, and is never sent again: the work may have run.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import logging
import os
import time
import urllib.parse
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import pyqwest

from .. import wire
from ..chain import Chain
from ..errors import DeadlineExceeded, QueueFull, Refused, SlackerError, TransportError, WorkerClosed
from ..outcome import Error, Outcome
from ..signing import Keyring, ReplyOpener, Signature
from .base import Worker, check_count, log_call, logger
from .line import LATE, Line, PendingCall, Reply, Stopped
from .transport import Answer, Arriving, NotSent, PyqwestTransport, Transport, same_process

__all__ = ["Answer", "HttpWorker", "NotSent", "PyqwestTransport", "Transport"]

CONTENT_TYPE = "application/x-tornado-slacker"
MAX_BATCH = 4
MAX_REQUEST = 16 << 20
MAX_REPLY = 256 << 20
HASH_IN_THREAD = 256 << 10
LARGE_ARGUMENTS = 1 << 20


@final
@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go and how they are signed."""

    url: str
    keyring: Keyring
    audience: str = ""
    host: str | None = None
    timeout: float = 20.0
    max_request: int = MAX_REQUEST


class HttpWorker(Worker):
    """Replays chains in another server, through its signed hook (`slacker.hook`).

    Whoever holds the key can run code on both sides; there is no unsigned mode. Between hosts use https, or a
    tunnel: the signature keeps requests from being forged and replies from being swapped, not from being read.

    Connections are kept open and bounded, per event loop. Calls that find none free wait in order. Cancelling a
    call that waits means it is never sent; cancelling one that was sent abandons it, and the other side may finish
    it.

    May be shared between loops and threads. A worker that was used before a fork cannot be used in the child.

    Args:
        url: of the hook, ``http://`` or ``https://``.
        key: the shared secret, at least 32 bytes; or several, of which the first signs and all verify.
        max_connections: most requests on their way at once; the server should have as many threads.
        max_queue: most calls that may wait for a connection; one more raises `QueueFull`. None for no bound.
        max_batch: most calls that share one request while calls wait for a connection, if they are small; 1 for none.
            They are performed one after another, each by itself, and answered together.
        timeout: seconds until the answer must have arrived, waiting, sending and working included. Decoding it is
            not: what has arrived is delivered.
        max_reply: most bytes of a result; a larger one is refused by the other side.
        max_request: most bytes of a request, as the other side has it.
        audience: names the environment, as the other side has it: elsewhere the requests are worth nothing.
        transport: another HTTP client; it is closed with the worker.
        host: the Host header, where it differs from the URL's.

    Raises:
        TypeError, ValueError: an argument is not usable, above all a key that is missing or too short.
    """

    def __init__(
        self,
        url: str,
        *,
        key: bytes | str | Iterable[bytes | str],
        max_connections: int = 8,
        max_queue: int | None = 1000,
        timeout: float = 20.0,
        max_batch: int = MAX_BATCH,
        max_reply: int = MAX_REPLY,
        max_request: int = MAX_REQUEST,
        audience: str = "",
        transport: Transport | None = None,
        host: str | None = None,
    ) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, got {timeout!r}")
        self._endpoint = Endpoint(checked_url(url), Keyring(key), audience, host, timeout, max_request)
        self._set_up(max_connections, max_queue, max_batch, max_reply, transport)

    def _set_up(
        self,
        max_connections: int = 8,
        max_queue: int | None = 1000,
        max_batch: int = MAX_BATCH,
        max_reply: int = MAX_REPLY,
        transport: Transport | None = None,
    ) -> None:
        check_count("max_connections", max_connections, least=1)
        check_count("max_batch", max_batch, least=1)
        if max_queue is not None:
            check_count("max_queue", max_queue, least=0)
        self._max_connections = max_connections
        self._max_queue = max_queue
        self._max_batch = max_batch
        self._max_reply = max_reply
        self._transport = transport
        self._home: int | None = None  # the process in which the first call was made
        self._offset = 0  # milliseconds by which the other side's clock is ahead, as it told us
        self._lines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Line] = weakref.WeakKeyDictionary()

    async def run(self, chain: Chain) -> Any:
        begun = time.perf_counter()
        outcome, sent = await self._ask(chain, begun)
        if logger.isEnabledFor(logging.DEBUG):
            ended = time.perf_counter()
            log_call(chain, outcome, (sent or ended) - begun, ended - (sent or ended))
        try:
            return outcome.unwrap(chain)
        finally:
            del outcome  # a failure's traceback leads to this frame: it would hold itself

    async def aclose(self, timeout: float = 10.0) -> None:
        """Take no more calls, wait for those that were accepted, and close the connections.

        Args:
            timeout: seconds to wait. After that calls still waiting fail with `WorkerClosed`, and those on their way
                with `TransportError`: the other side may finish them.
        """
        await super().aclose(timeout)
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while self._busy_lines() and loop.time() < end:  # noqa: ASYNC110 (calls of other threads' loops set no event)
            await asyncio.sleep(0.01)
        for other, line in self._busy_lines():
            with contextlib.suppress(RuntimeError):  # closed meanwhile, and its calls with it
                other.call_soon_threadsafe(line.stop)
        if self._transport is not None and self._home in (None, os.getpid()):
            await self._transport.aclose()

    # --- for subclasses ---------------------------------------------------------------------------------------

    async def endpoint(self) -> Endpoint:
        """Return where the next request goes; asked for each call."""
        return self._endpoint

    def options(self) -> str:
        """Return the plain data that goes along with the next request, encoded; see `slacker.wire.encode_options`."""
        return _encoded_options(self._max_reply)

    def hint(self, status: int) -> str:
        """Return the likely cause of an HTTP status that did not come from the hook."""
        return {
            403: "the key, the audience or this host's address is not one that the hook accepts, or no hook is there",
            404: "no hook is at this address",
            405: "no hook is at this address",
            413: "the request is larger than the hook, or a proxy before it, allows",
        }.get(status, "something else than the hook answered")

    # --- one call ---------------------------------------------------------------------------------------------

    async def _ask(self, chain: Chain, begun: float) -> tuple[Outcome, float | None]:
        """Return what happened to `chain`, and when it was sent."""
        outcome, sent = await self._try(chain, begun)
        if _is_late(outcome):
            # It still waits, so the other side's clock must be ahead: what was said of the time there is right.
            assert isinstance(outcome, Error)
            self._offset = int(outcome.exception.details["time"]) - _now()  # type: ignore[attr-defined]  # a Refused
            outcome, sent = await self._try(chain, begun)
        if _is_late(outcome):
            message = f"{chain.outline()}: its time had passed before the other side could begin; it did not run"
            outcome = Error(DeadlineExceeded(message, executed=False), 0)
        return outcome, sent

    async def _try(self, chain: Chain, begun: float) -> tuple[Outcome, float | None]:
        call = None
        try:
            endpoint = await self.endpoint()
            self.check_open()
            if self._home != os.getpid():
                self._home = same_process(repr(self), self._home)
            seconds = (chain.options.timeout or endpoint.timeout) - (time.perf_counter() - begun)
            options = self.options()
            encoded = self._encode(chain, endpoint, options, seconds)
            line = self._line_here(chain)
            call = PendingCall(chain, encoded, (endpoint, options), seconds, begun)
            return await line.run(call), call.sent
        except Stopped:
            assert call is not None
            return Error(self._stopped(call, endpoint), 0), call.sent
        except SlackerError as error:
            return Error(error, 0), call and call.sent

    def _encode(self, chain: Chain, endpoint: Endpoint, options: str, seconds: float) -> wire.EncodedCall:
        encoded = wire.encode_call(chain, deadline=_now() + self._offset + int(seconds * 1000))
        if len(encoded.pickled) > LARGE_ARGUMENTS or len(encoded.pickled) > endpoint.max_request >> 1:
            size = len(wire.envelope([encoded], options))
            if size > endpoint.max_request:
                raise Refused(
                    f"the request of {chain.outline()} has {size} bytes; max_request allows {endpoint.max_request}",
                    reason="too-big",
                )
            if size > LARGE_ARGUMENTS:
                logger.warning(
                    "the arguments of %s take %d bytes; pickling them stalls the loop: pass names or keys instead",
                    chain.outline(),
                    size,
                )
        return encoded

    def _line_here(self, chain: Chain) -> Line:
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            line = self._lines.setdefault(loop, Line(self._max_connections, self._max_batch, self._send))
        if self._max_queue is not None and not line.free and len(line.waiting) >= self._max_queue:
            raise QueueFull(
                f"{self!r}: {self._max_connections} requests are on their way and {self._max_queue} calls wait "
                f"already (max_queue); {chain.outline()} was not sent. Try again later, or answer that it is busy."
            )
        return line

    # --- one request ------------------------------------------------------------------------------------------

    async def _send(self, calls: Sequence[PendingCall]) -> Reply:
        """Send `calls`, and again what certainly did not run: once for each of the two causes that may pass."""
        endpoint, options = calls[0].group
        body = wire.envelope([call.encoded for call in calls], options)
        transport = self._transport or await self._make_transport(endpoint.timeout)
        digest = await _digest(body)
        unreached = skewed = False
        while True:
            try:
                return await self._attempt(transport, endpoint, [call.chain for call in calls], body, digest)
            except NotSent as error:
                if unreached:
                    raise _not_reached(endpoint, error) from error
                unreached = True
            except Refused as refused:
                if skewed or refused.reason != "clock-skew":
                    raise
                skewed = True
                self._offset = int(refused.details["time"]) - _now()

    async def _make_transport(self, timeout: float) -> Transport:
        # Two attempts to connect fit into the deadline, so that it finds a call that was certainly not sent. In a
        # thread, because the first transport of a process takes a tenth of a second.
        made = await asyncio.to_thread(PyqwestTransport, self._max_connections, min(5.0, timeout / 3))
        self._transport = self._transport or made  # another call may have been faster
        return self._transport

    async def _attempt(
        self, transport: Transport, endpoint: Endpoint, chains: Sequence[Chain], body: bytes, digest: str
    ) -> Reply:
        """Send `body` and return what decodes the answer, of which the first frame has been taken."""
        signature, headers = self._sign(endpoint, body, digest)
        try:
            answer = await transport.post(endpoint.url, headers, body)
        except NotSent:
            raise
        except Exception as error:
            raise _broken(endpoint, error) from error
        if not _is_ours(answer):
            raise self._not_ours(endpoint, answer.status, answer.content_type, answer.body)
        frames = ReplyOpener(endpoint.keyring.signing, signature, len(answer.body)).feed(answer.body)
        answers = wire.Answers(chains)
        for frame in frames:
            answers.take(*frame)
            break

        async def decode() -> list[Outcome]:
            for frame in frames:
                await asyncio.sleep(0)  # one frame a turn: a long result must not stall the loop
                answers.take(*frame)
            return answers.outcomes()

        return decode

    def _sign(self, endpoint: Endpoint, body: bytes, digest: str) -> tuple[Signature, dict[str, str]]:
        key = endpoint.keyring.signing
        signature = Signature.make(key, endpoint.audience, _now() + self._offset, body, digest=digest)
        headers = {"content-type": CONTENT_TYPE, "slacker-signature": str(signature)}
        if endpoint.host is not None:
            headers["host"] = endpoint.host
        return signature, headers

    # --- what goes wrong --------------------------------------------------------------------------------------

    def _not_ours(self, endpoint: Endpoint, status: int, content_type: str, body: bytes) -> TransportError:
        shown = "".join(char for char in body[:200].decode("utf-8", "replace") if char.isprintable())
        return TransportError(
            f"{endpoint.url} answered {status} {content_type[:100]}: {self.hint(status)}. It began: {shown}",
            status=status,
        )

    def _stopped(self, call: PendingCall, endpoint: Endpoint) -> SlackerError:
        outline = call.chain.outline()
        within = f"within {call.chain.options.timeout or endpoint.timeout:g} s"
        if not call.sent and call.stopped == LATE:
            message = f"{outline}: no connection to {endpoint.url} was free {within}; it was not sent"
            return DeadlineExceeded(message, executed=False)
        if not call.sent:
            return WorkerClosed(f"{self!r} was closed: {outline} was still waiting and was not sent")
        if call.stopped == LATE:
            return DeadlineExceeded(f"{outline}: no answer of {endpoint.url} {within}; it may run still")
        return TransportError(f"{self!r} was closed while {outline} was on its way; it may run still")

    def _busy_lines(self) -> list[tuple[asyncio.AbstractEventLoop, Line]]:
        return [(loop, line) for loop, line in list(self._lines.items()) if line.calls and not loop.is_closed()]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._endpoint.url!r}, max_connections={self._max_connections})"


# --- helpers -------------------------------------------------------------------------------------------------------


def checked_url(url: str) -> str:
    """Return `url` if it can be a hook's address; raise ValueError that says what is wrong with it otherwise."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"the hook's address must be an http:// or https:// URL, got {url!r}")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError(f"the hook's address takes no query, fragment or credentials, got {url!r}")
    pyqwest.Request("POST", url)  # raises a ValueError for what it could not send to
    return url


@functools.lru_cache(maxsize=64)
def _encoded_options(max_reply: int) -> str:
    return wire.encode_options({"max_reply": max_reply})


async def _digest(body: bytes) -> str:
    if len(body) <= HASH_IN_THREAD:
        return hashlib.sha256(body).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())


def _is_ours(answer: Answer | Arriving) -> bool:
    return answer.status == 200 and answer.content_type.partition(";")[0] == CONTENT_TYPE


def _is_late(outcome: Outcome) -> bool:
    if not isinstance(outcome, Error):
        return False
    error = outcome.exception
    return isinstance(error, Refused) and error.reason == "late"


def _not_reached(endpoint: Endpoint, error: NotSent) -> TransportError:
    return TransportError(f"{endpoint.url} cannot be reached, nothing was sent: {error}", executed=False)


def _broken(endpoint: Endpoint, error: Exception) -> TransportError:
    return TransportError(f"{endpoint.url}: the connection failed after the request may have left: {error!r}")


def _now() -> int:
    return time.time_ns() // 1_000_000
