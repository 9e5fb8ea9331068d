"""`HttpWorker`: what it is given, what each of its calls may take, and what a call that failed is told."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import urllib.parse
import weakref
from collections.abc import AsyncGenerator, Awaitable, Iterable
from contextlib import aclosing
from typing import Any

from ... import wire
from ...arguments import check_count, checked_timeout
from ...chain import Chain
from ...errors import DeadlineExceeded, QueueFull, Refused, SlackerError, TransportError, WorkerClosed
from ...outcome import Error, Outcome, Value
from ...signing import Keyring
from ..base import Worker, log_call, logger, refusal_in
from ..loops import ByLoop
from .call import LATE, PendingCall, Stopped
from .endpoint import MAX_REQUEST, Endpoint, now
from .line import Line
from .sender import Sender
from .streams import StreamedCall
from .transport import Address, Transport, checked_host

__all__ = ["HttpWorker", "checked_url"]

MAX_BATCH = 4
MAX_REPLY = 256 << 20
LARGE_ARGUMENTS = 1 << 20
HEAD = 128
"""Bytes that a request has besides options and calls, and more."""


class HttpWorker(Worker):
    """Replays chains in another server, through its signed hook (`slacker.hook`).

    Whoever holds the key can run code on both sides; there is no unsigned mode. Between hosts use https, or a
    tunnel: the signature keeps requests from being forged and replies from being swapped, not from being read.

    Connections are kept open and bounded, per event loop. Calls that find none free wait in order. Cancelling a
    call that waits means it is never sent; cancelling one that was sent abandons it, and the other side may finish
    it.

    May be shared between loops and threads, and be used on both sides of a fork.

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
        timeout = checked_timeout(timeout)
        host = None if host is None else checked_host(host)
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
        self._sender = Sender(max_connections, transport, max_reply, max_batch)
        self._begin_afresh()
        _workers.add(self)

    def _begin_afresh(self) -> None:
        """Let go of the calls of the process from which this one was forked; for the module."""
        self._lines = ByLoop(functools.partial(Line, self._max_connections, self._max_batch))

    async def run(self, chain: Chain) -> Any:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        outcome, sent = await self._ask(chain, begun)
        if isinstance(outcome, Error):
            outcome, sent = await self._ask_by_their_clock(chain, begun, outcome, sent)
        if logger.isEnabledFor(logging.DEBUG):
            ended = loop.time()
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
        await self._sender.aclose()

    # --- for the engine of DjangoHttpWorker, which finds both in the settings ---------------------------------

    def _endpoint_now(self) -> Endpoint | Awaitable[Endpoint]:
        """Return where the next request goes, or an awaitable of it if it has to be found out."""
        return self._endpoint

    def _options_now(self) -> str:
        """Return the plain data that goes along with the next request, encoded; see `slacker.wire.encode_options`."""
        return _encoded_options(self._max_reply)

    # --- one call ---------------------------------------------------------------------------------------------

    async def _ask(self, chain: Chain, begun: float) -> tuple[Outcome, float | None]:
        """Return what happened to `chain`, and when it was sent."""
        call = None
        try:
            endpoint = self._endpoint_now()
            if not isinstance(endpoint, Endpoint):
                endpoint = await endpoint
            self.check_open()
            limit = chain.options.timeout or endpoint.timeout
            options = self._options_now()
            left = begun + limit - asyncio.get_running_loop().time()  # less than that when it is asked once more
            encoded = self._encode(chain, endpoint, options, left)
            room = endpoint.max_request - len(options) - HEAD
            call = PendingCall(chain, encoded, (endpoint, options), room, begun, begun + limit)
            return await self._line_here(chain).run(call, self._sender.send), call.sent
        except Stopped:
            assert call is not None
            return Error(self._stopped(call), 0), call.sent
        except SlackerError as error:
            return Error(error, 0), call and call.sent

    async def _ask_by_their_clock(
        self, chain: Chain, begun: float, outcome: Error, sent: float | None
    ) -> tuple[Outcome, float | None]:
        """If the other side refused because of the time, ask once more, by its clock.

        A call that it finds late still waits here, so its clock must be ahead.
        """
        if (time_there := _time_there(outcome)) is None:
            return outcome, sent
        self._sender.offset = time_there - now()
        again, sent = await self._ask(chain, begun)
        refused = refusal_in(again)
        if refused is not None and refused.reason == "late":
            message = f"{chain.outline()}: its time had passed before the other side could begin; it did not run"
            again = Error(DeadlineExceeded(message, executed=False), 0)
        return again, sent

    def _encode(
        self, chain: Chain, endpoint: Endpoint, options: str, limit: float, stream: int | None = None
    ) -> wire.EncodedCall:
        deadline = now() + self._sender.offset + int(limit * 1000)
        encoded = wire.encode_call(chain, deadline=deadline, stream=stream)
        about = len(encoded.plain) + len(encoded.pickled)
        if about > LARGE_ARGUMENTS or about > endpoint.max_request >> 1:
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

    async def stream(self, chain: Chain, chunk_size: int) -> AsyncGenerator[list[Any], None]:
        loop = asyncio.get_running_loop()
        endpoint = self._endpoint_now()
        if not isinstance(endpoint, Endpoint):
            endpoint = await endpoint
        self.check_open()
        options = self._options_now()
        limit = chain.options.timeout or endpoint.timeout

        def encode() -> wire.EncodedCall:
            return self._encode(chain, endpoint, options, limit, chunk_size)

        line = self._line_here(chain)
        call = PendingCall(chain, encode(), None, 0, loop.time(), loop.time() + limit)
        try:
            await line.hold(call)
        except Stopped:
            raise self._stopped(call) from None
        begun, outcome = loop.time(), None
        try:
            streamed = StreamedCall(self._sender, endpoint, chain, limit, line.held)
            async with aclosing(streamed.run(encode, options)) as outcomes:
                async for outcome in outcomes:
                    yield outcome.unwrap(chain)
        finally:
            line.release()
            log_call(chain, outcome or Value([]), begun - call.begun, loop.time() - begun)
            del outcome  # a failure's traceback leads to this frame: it would hold itself

    def _line_here(self, chain: Chain) -> Line:
        line = self._lines.here()
        if self._max_queue is not None and not line.free and len(line.waiting) >= self._max_queue:
            raise QueueFull(
                f"{self!r}: {self._max_connections} requests are on their way and {self._max_queue} calls wait "
                f"already (max_queue); {chain.outline()} was not sent. Try again later, or answer that it is busy."
            )
        return line

    # --- what goes wrong --------------------------------------------------------------------------------------

    def _stopped(self, call: PendingCall) -> SlackerError:
        outline = call.chain.outline()
        within = f"within {call.deadline - call.begun:.3g} s"
        if not call.sent and call.stopped == LATE:
            message = f"{outline}: no connection of {self!r} was free {within}; it was not sent"
            return DeadlineExceeded(message, executed=False)
        if not call.sent:
            return WorkerClosed(f"{self!r} was closed: {outline} was still waiting and was not sent")
        if call.stopped == LATE:
            return DeadlineExceeded(f"{outline}: {self!r} had no answer {within}; it may run still")
        return TransportError(f"{self!r} was closed while {outline} was on its way; it may run still")

    def _busy_lines(self) -> list[tuple[asyncio.AbstractEventLoop, Line]]:
        return [(loop, line) for loop, line in self._lines.items() if line.is_busy and not loop.is_closed()]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._endpoint.url!r}, max_connections={self._max_connections})"


_workers: weakref.WeakSet[HttpWorker] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for worker in list(_workers):
        worker._begin_afresh()


os.register_at_fork(after_in_child=_after_fork_in_child)


# --- helpers -------------------------------------------------------------------------------------------------------


def checked_url(url: str) -> str:
    """Return `url` if it can be a hook's address; raise ValueError that says what is wrong with it otherwise."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"the hook's address must be an http:// or https:// URL, got {url!r}")
    if parts.query or parts.fragment or parts.username or parts.password:
        raise ValueError("the hook's address takes no query, fragment or credentials")  # and those are not shown
    Address.of(url)  # raises a ValueError for what is no host or port
    return url


@functools.lru_cache(maxsize=64)
def _encoded_options(max_reply: int) -> str:
    return wire.encode_options({"max_reply": max_reply})


def _time_there(outcome: Error) -> int | None:
    """Return the other side's time, if that is why it refused."""
    refused = refusal_in(outcome)
    return int(refused.details["time"]) if refused is not None and "time" in refused.details else None
