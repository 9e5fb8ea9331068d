"""`HttpWorker`: chains replayed by another server, through a signed hook.

    run: encode -> wait for a connection -> sign -> POST -> verify and decode, a frame a turn of the loop

What may be sent again is decided by one question: did a byte leave? `NotSent` says no, and the call is tried once
more. Whatever else goes wrong after that has ``executed`` None, and is never sent again: the work may have run.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import os
import time
import urllib.parse
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar, cast, final

import pyqwest

from .. import wire
from ..chain import Chain
from ..errors import DeadlineExceeded, QueueFull, Refused, SlackerError, TransportError, WorkerClosed
from ..outcome import Error, Outcome
from ..signing import Keyring, ReplyOpener, Signature
from .base import Worker, log_call, logger

__all__ = ["Answer", "HttpWorker", "NotSent", "PyqwestTransport", "Transport"]

CONTENT_TYPE = "application/x-tornado-slacker"
MAX_REQUEST = 16 << 20
MAX_REPLY = 256 << 20
HASH_IN_THREAD = 256 << 10
LARGE_ARGUMENTS = 1 << 20

T = TypeVar("T")
Frames: TypeAlias = Iterator[tuple[int, int, bytes]]


class NotSent(Exception):
    """For transports: no byte of the request left, so that it may be sent again."""


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response, whole."""

    status: int
    content_type: str
    body: bytes


class Transport(Protocol):
    """Sends one POST and returns what comes back; the seam for another HTTP client.

    It must follow no redirect, decompress nothing, heed no proxy that was not asked for, and never send a request
    twice. It keeps no time: a call that takes too long is cancelled.
    """

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send `body`. When cancelled, give the connection up.

        Raises:
            NotSent: certainly no byte of the request left.
            Exception: anything else; the request may have arrived.
        """

    async def aclose(self) -> None:
        """Close what is held open."""


@final
class PyqwestTransport:
    """The transport used by default: pyqwest, with everything it could do by itself switched off.

    Args:
        max_connections: connections kept open for the next request.
        connect_timeout: seconds until a connection must stand.

    Raises:
        RuntimeError: one was made before this process was forked. What then runs pyqwest is not copied by a fork, so
            that every request would wait for ever.
    """

    _home: ClassVar[int | None] = None  # the process in which the first one was made

    def __init__(self, max_connections: int, connect_timeout: float = 5.0) -> None:
        PyqwestTransport._home = _same_process("an HTTP transport", PyqwestTransport._home)
        self._transport = pyqwest.HTTPTransport(
            tls_include_system_certs=True,
            http_version=pyqwest.HTTPVersion.HTTP1,
            # Without a proxy of its own it would obey HTTP_PROXY; this one is never used for anything.
            proxy=pyqwest.Proxy("http://127.0.0.1:1", no_proxy="*,0.0.0.0/0,::/0"),
            connect_timeout=connect_timeout,
            pool_max_idle_per_host=max_connections,
            enable_gzip=False,
            enable_brotli=False,
            enable_zstd=False,
            enable_cookie_store=False,
            follow_redirects=False,
            enable_otel=False,
        )
        self._client = pyqwest.Client(self._transport)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        try:
            response = await self._client.post(url, headers, body)
        except ConnectionError as error:  # refused, no such name, no TLS: before anything was written
            raise NotSent(str(error)) from error
        return Answer(response.status, response.headers.get("content-type", ""), response.content)

    async def aclose(self) -> None:
        await self._transport.aclose()


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
        max_reply: int = MAX_REPLY,
        max_request: int = MAX_REQUEST,
        audience: str = "",
        transport: Transport | None = None,
        host: str | None = None,
    ) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, got {timeout!r}")
        self._endpoint = Endpoint(checked_url(url), Keyring(key), audience, host, timeout, max_request)
        self._set_up(max_connections, max_queue, max_reply, transport)

    def _set_up(self, max_connections: int, max_queue: int | None, max_reply: int, transport: Transport | None) -> None:
        if max_connections < 1:
            raise ValueError(f"max_connections must be at least 1, got {max_connections}")
        if max_queue is not None and max_queue < 0:
            raise ValueError(f"max_queue must be at least 0, or None, got {max_queue}")
        self._max_connections = max_connections
        self._max_queue = max_queue
        self._max_reply = max_reply
        self._transport = transport
        self._home: int | None = None  # the process in which the first call was made
        self._offset = 0  # milliseconds by which the other side's clock is ahead, as it told us
        self._lines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = weakref.WeakKeyDictionary()

    async def run(self, chain: Chain) -> Any:
        call = _Call()
        outcome = await self._ask(chain, call)
        ended = time.perf_counter()
        sent = call.sent or ended
        log_call(chain, outcome, sent - call.begun, ended - sent)
        return outcome.unwrap(chain)

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

    def options(self) -> dict[str, Any]:
        """Return the plain data that goes along with the next request."""
        return {}

    def hint(self, status: int) -> str:
        """Return the likely cause of an HTTP status that did not come from the hook."""
        return {
            403: "the key, the audience or this host's address is not one that the hook accepts, or no hook is there",
            404: "no hook is at this address",
            405: "no hook is at this address",
            413: "the request is larger than the hook, or a proxy before it, allows",
        }.get(status, "something else than the hook answered")

    # --- one call ---------------------------------------------------------------------------------------------

    async def _ask(self, chain: Chain, call: _Call) -> Outcome:
        try:
            endpoint = await self.endpoint()
            self.check_open()
            if self._home != os.getpid():
                self._home = _same_process(repr(self), self._home)
            body = self._encode(chain, endpoint)
            exchange = partial(self._exchange, endpoint, body)
            frames, answers = await self._line_here(chain).run(call, endpoint.timeout, exchange)
            for frame in frames:
                await asyncio.sleep(0)  # one frame a turn: a long result must not stall the loop
                answers.take(*frame)
            return answers.outcomes()[0]
        except _Stopped:
            return Error(self._stopped(chain, call, endpoint), 0)
        except NotSent as error:
            return Error(_not_reached(endpoint, error), 0)
        except SlackerError as error:
            return Error(error, 0)

    def _encode(self, chain: Chain, endpoint: Endpoint) -> bytes:
        body = wire.encode_request([chain], {**self.options(), "max_reply": self._max_reply})
        if len(body) > endpoint.max_request:
            message = (
                f"the request of {chain.outline()} has {len(body)} bytes; max_request allows {endpoint.max_request}"
            )
            raise Refused(message, reason="too-big")
        if len(body) > LARGE_ARGUMENTS:
            logger.warning(
                "the arguments of %s take %d bytes; pickling them stalls the loop: pass names or keys instead",
                chain.outline(),
                len(body),
            )
        return body

    def _line_here(self, chain: Chain) -> _Line:
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            line = self._lines.setdefault(loop, _Line(self._max_connections))
        if self._max_queue is not None and not line.free and len(line.waiting) >= self._max_queue:
            raise QueueFull(
                f"{self!r}: {self._max_connections} requests are on their way and {self._max_queue} calls wait "
                f"already (max_queue); {chain.outline()} was not sent. Try again later, or answer that it is busy."
            )
        return line

    async def _exchange(self, endpoint: Endpoint, body: bytes) -> tuple[Frames, wire.Answers]:
        """Send `body`, and again what certainly did not run: once for each of the two causes that may pass."""
        transport = self._transport or await self._make_transport(endpoint.timeout)
        digest = await _digest(body)
        unreached = skewed = False
        while True:
            try:
                return await self._attempt(transport, endpoint, body, digest)
            except NotSent:
                if unreached:
                    raise
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
        self, transport: Transport, endpoint: Endpoint, body: bytes, digest: str
    ) -> tuple[Frames, wire.Answers]:
        """Send `body` and return the frames of the answer, of which the first has been taken."""
        key = endpoint.keyring.signing
        signature = Signature.make(key, endpoint.audience, _now() + self._offset, body, digest=digest)
        headers = {"content-type": CONTENT_TYPE, "slacker-signature": str(signature)}
        if endpoint.host is not None:
            headers["host"] = endpoint.host
        try:
            answer = await transport.post(endpoint.url, headers, body)
        except NotSent:
            raise
        except Exception as error:
            message = f"{endpoint.url}: the connection failed after the request may have left: {error!r}"
            raise TransportError(message) from error
        if answer.status != 200 or answer.content_type.partition(";")[0] != CONTENT_TYPE:
            raise self._not_ours(endpoint, answer)
        frames = ReplyOpener(key, signature, len(answer.body)).feed(answer.body)
        answers = wire.Answers(1)  # TODO
        for frame in frames:
            answers.take(*frame)
            break
        return frames, answers

    def _not_ours(self, endpoint: Endpoint, answer: Answer) -> TransportError:
        shown = "".join(char for char in answer.body[:200].decode("utf-8", "replace") if char.isprintable())
        return TransportError(
            f"{endpoint.url} answered {answer.status} {answer.content_type[:100]}: {self.hint(answer.status)}. "
            f"It began: {shown}",
            status=answer.status,
        )

    def _stopped(self, chain: Chain, call: _Call, endpoint: Endpoint) -> SlackerError:
        within = f"within {endpoint.timeout:g} s"
        if not call.sent and call.stopped == "late":
            message = f"{chain.outline()}: no connection to {endpoint.url} was free {within}; it was not sent"
            return DeadlineExceeded(message, executed=False)
        if not call.sent:
            return WorkerClosed(f"{self!r} was closed: {chain.outline()} was still waiting and was not sent")
        if call.stopped == "late":
            return DeadlineExceeded(f"{chain.outline()}: no answer of {endpoint.url} {within}; it may run still")
        return TransportError(f"{self!r} was closed while {chain.outline()} was on its way; it may run still")

    def _busy_lines(self) -> list[tuple[asyncio.AbstractEventLoop, _Line]]:
        return [(loop, line) for loop, line in list(self._lines.items()) if line.calls and not loop.is_closed()]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._endpoint.url!r}, max_connections={self._max_connections})"


# --- waiting and deadlines -----------------------------------------------------------------------------------------


class _Stopped(Exception):
    """A call was stopped; which, when and why stands in its `_Call`."""


@final
class _Call:
    """One call: since when it waits, when it got its connection, how long it may take, and why it was stopped."""

    __slots__ = ("begun", "cancels", "deadline", "sent", "stopped", "task")

    def __init__(self) -> None:
        self.task = cast("asyncio.Task[Any]", asyncio.current_task())
        self.cancels = self.task.cancelling()
        self.begun = time.perf_counter()
        self.sent: float | None = None
        self.deadline = math.inf
        self.stopped = ""

    def stop(self, why: str) -> None:
        if not self.stopped:
            self.stopped = why
            self.task.cancel()


@final
class _Line:
    """The calls of one loop: as many on their way as there are connections, the others waiting in order.

    One timer, armed for the first deadline, serves them all; `asyncio.timeout` would arm and disarm one for each
    call, a tenth of what a call costs the loop. Nothing here refers to the loop, which is kept weakly.
    """

    __slots__ = ("_armed_for", "calls", "free", "waiting")

    def __init__(self, connections: int) -> None:
        self.free = connections
        self.waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self.calls: set[_Call] = set()
        self._armed_for = math.inf

    async def run(self, call: _Call, timeout: float, work: Callable[[], Awaitable[T]]) -> T:
        """Await `work()` as soon as a connection is free, and return what it returns.

        Raises:
            _Stopped: the deadline passed, or `stop` was called.
        """
        loop = asyncio.get_running_loop()
        call.deadline = loop.time() + timeout
        self.calls.add(call)
        if call.deadline < self._armed_for:
            self._arm(loop, call.deadline)
        try:
            if self.free:
                self.free -= 1
            else:
                await self._turn(loop.create_future())
            call.sent = time.perf_counter()
            try:
                return await work()
            finally:
                self._pass_on()
        except BaseException as error:
            # As asyncio.timeout does: take our own cancelling back, and see whether there was another.
            if call.stopped and call.task.uncancel() <= call.cancels and isinstance(error, asyncio.CancelledError):
                raise _Stopped from None
            raise
        finally:
            self.calls.discard(call)

    async def _turn(self, turn: asyncio.Future[None]) -> None:
        self.waiting[turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self.waiting.pop(turn, None)
            else:  # it was given a connection just before
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self.waiting:
            turn, _ = self.waiting.popitem(last=False)
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1

    def stop(self) -> None:
        for call in list(self.calls):
            call.stop("closed")

    def _arm(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        self._armed_for = deadline
        loop.call_at(deadline, self._on_deadline, loop, deadline)

    def _on_deadline(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        if deadline != self._armed_for:  # a call with an earlier one came later, and armed the timer that counts
            return
        self._armed_for = math.inf
        now = max(deadline, loop.time())
        for call in list(self.calls):
            if call.deadline <= now:
                call.stop("late")
        following = min([call.deadline for call in self.calls if not call.stopped], default=math.inf)
        if following < math.inf:
            self._arm(loop, following)


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


def _same_process(what: str, home: int | None) -> int:
    process = os.getpid()
    if home not in (None, process):
        raise RuntimeError(
            f"{what} was used before this process was forked, and its connections do not survive that. "
            "Fork first, as tornado.process.fork_processes does, and make or use the worker afterwards."
        )
    return process


async def _digest(body: bytes) -> str:
    if len(body) <= HASH_IN_THREAD:
        return hashlib.sha256(body).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())


def _not_reached(endpoint: Endpoint, error: NotSent) -> TransportError:
    failure = TransportError(f"{endpoint.url} cannot be reached, nothing was sent: {error}", executed=False)
    failure.__cause__ = error
    return failure


def _now() -> int:
    return time.time_ns() // 1_000_000
