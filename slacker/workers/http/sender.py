"""One request of an `HttpWorker`: sign, send, verify, and send again what certainly did not run.

What may be sent again is decided by one question: did a byte leave? `NotSent` says no, and the request is tried once
more. Whatever else goes wrong after that has ``executed`` None, and is never sent again: the work may have run.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from functools import partial
from itertools import chain as in_a_row
from typing import final

from ... import wire
from ...chain import Chain
from ...errors import DeadlineExceeded, ProtocolError, Refused, TransportError
from ...outcome import Error, Value
from ...signing import OpenedFrame, ReplyOpener, Signature
from ..decoding import AT_ONCE, Pace, decode
from .call import PendingCall, Reply
from .endpoint import Endpoint, is_ours, now
from .line import Held
from .transport import Answer, Arriving, HttpTransport, NotSent, StreamingTransport, Transport

__all__ = ["Sender"]

HASH_IN_THREAD = 256 << 10
FRAMES = 64 << 10
"""Bytes of a reply that are no result, or its eighth, whichever is more: what frames have besides."""


@final
class Sender:
    """Sends requests to a hook; may be shared between loops.

    Args:
        max_connections: kept open by the transport.
        transport: what sends the bytes; made when it is first needed, if there is none.
        max_reply: most bytes of a result.
        max_batch: most calls of a request.
    """

    def __init__(self, max_connections: int, transport: Transport | None, max_reply: int, max_batch: int) -> None:
        self._max_connections = max_connections
        self._transport = transport
        self._max_reply = max_reply
        self._max_answer = max_batch * (max_reply + max_reply // 8 + FRAMES)
        self.offset = 0  # milliseconds by which the other side's clock is ahead, as it told us

    async def aclose(self) -> None:
        """Close the transport."""
        if self._transport is not None:
            await self._transport.aclose()

    async def send(self, calls: Sequence[PendingCall]) -> Reply:
        """Send `calls` in one request, and once more if it could not be sent."""
        group = calls[0].group
        assert group is not None  # it is no stream
        endpoint, options = group
        body = wire.envelope([call.encoded for call in calls], options)
        transport = self._transport or self._make_transport(endpoint.timeout)
        digest = hashlib.sha256(body).hexdigest() if len(body) <= HASH_IN_THREAD else await _digest(body)
        signature, headers = endpoint.sign(body, digest, now() + self.offset)
        try:
            answer = await transport.post(endpoint.url, headers, body)
        except NotSent:
            signature, answer = await self._send_again(transport, endpoint, body, digest)
        except Exception as error:
            raise endpoint.broken(error) from error
        if not is_ours(answer):
            raise endpoint.not_ours(answer.status, answer.content_type, answer.body)
        frames = ReplyOpener(endpoint.keyring.signing, signature, len(answer.body)).feed(answer.body)
        return _begin_to_decode([call.chain for call in calls], frames)

    def _make_transport(self, timeout: float) -> Transport:
        # Two attempts to connect fit into the deadline, so that it finds a call that was certainly not sent.
        connect_timeout = min(5.0, timeout / 3)
        self._transport = HttpTransport(self._max_connections, connect_timeout, max_answer=self._max_answer)
        return self._transport

    async def _send_again(
        self, transport: Transport, endpoint: Endpoint, body: bytes, digest: str
    ) -> tuple[Signature, Answer]:
        signature, headers = endpoint.sign(body, digest, now() + self.offset)
        try:
            return signature, await transport.post(endpoint.url, headers, body)
        except NotSent as error:
            raise endpoint.not_reached(error) from error
        except Exception as error:
            raise endpoint.broken(error) from error

    # --- streams ----------------------------------------------------------------------------------------------

    async def stream(
        self,
        endpoint: Endpoint,
        chain: Chain,
        encode: Callable[[], wire.EncodedCall],
        options: str,
        limit: float,
        held: Held,
    ) -> AsyncGenerator[Value | Error, None]:
        """Send a call whose result comes in chunks, and yield each as it arrives.

        Args:
            endpoint: where to.
            chain: what is called.
            encode: encodes it, anew for each time it is sent.
            options: those of the request.
            limit: seconds for each chunk: to come, and to be asked for.
            held: has, as long as the answer arrives, what gives it up.
        """
        transport = self._transport or self._make_transport(endpoint.timeout)
        if not isinstance(transport, StreamingTransport):
            name = type(transport).__name__
            raise TypeError(f"{name} has no stream(), so {chain.outline()} cannot be streamed over it")
        unreached = skewed = False
        while True:
            body = wire.envelope([encode()], options)
            try:
                async with aclosing(self._stream_once(transport, endpoint, chain, body, limit, held)) as outcomes:
                    async for outcome in outcomes:
                        yield outcome
                return
            except NotSent as error:
                if unreached:
                    raise endpoint.not_reached(error) from error
                unreached = True
            except Refused as refused:  # of the whole request, so nothing has come yet
                if skewed or "time" not in refused.details:
                    raise
                skewed = True
                self.offset = int(refused.details["time"]) - now()

    async def _stream_once(
        self, transport: StreamingTransport, endpoint: Endpoint, chain: Chain, body: bytes, limit: float, held: Held
    ) -> AsyncGenerator[Value | Error, None]:
        signature, headers = endpoint.sign(body, await _digest(body), now() + self.offset)
        opener = ReplyOpener(endpoint.keyring.signing, signature, sys.maxsize, self._max_reply + FRAMES)
        arrivals = wire.Arrivals()
        pace = Pace()
        loop = asyncio.get_running_loop()
        opened = transport.stream(endpoint.url, headers, body)
        arriving = await _arriving(opened, endpoint, chain, limit, held)
        ended = asyncio.Event()  # by the worker's end

        def give_up() -> None:
            ended.set()
            _give_up(arriving)

        held.add(give_up)
        try:
            pieces = aiter(arriving)
            due = loop.time() + limit
            if not is_ours(arriving):
                began = await _beginning(pieces, due)
                raise endpoint.not_ours(arriving.status, arriving.content_type, began)
            while piece := await _next_piece(pieces, endpoint, chain, limit, due):
                for frame in opener.feed(piece):
                    await pace.before(len(frame[2]))  # however many came at once
                    outcome = arrivals.take(*frame)
                    if outcome is None:
                        return
                    with _abandoned_after(limit, give_up, chain):
                        yield outcome
                    due = loop.time() + limit
            raise ProtocolError("the stream was cut: its last frame is missing")
        except (ProtocolError, TransportError) as error:
            if ended.is_set():
                message = f"the worker was closed while {chain.outline()} was streamed"
                raise TransportError(message, executed=True) from error
            raise
        finally:
            held.discard(give_up)
            await opened.__aexit__(None, None, None)


def _begin_to_decode(chains: Sequence[Chain], frames: Iterator[OpenedFrame]) -> Reply:
    """Return the outcomes, or what decodes them if that may take a while; a refusal of all is raised here."""
    first = next(frames, None)
    if first is not None and len(first[2]) <= AT_ONCE:
        if (only := wire.only_value(chains, *first)) is not None:
            return [only]
        answers = wire.Answers(chains)
        answers.take(*first)
        return answers.outcomes() if answers.complete else partial(decode, answers, frames)
    return partial(decode, wire.Answers(chains), frames if first is None else in_a_row([first], frames))


_giving_up: set[asyncio.Task[None]] = set()  # a loop refers to its tasks only weakly


def _give_up(arriving: Arriving) -> None:
    task = asyncio.get_running_loop().create_task(arriving.aclose())
    _giving_up.add(task)
    task.add_done_callback(_giving_up.discard)


async def _arriving(
    opened: AbstractAsyncContextManager[Arriving], endpoint: Endpoint, chain: Chain, limit: float, held: Held
) -> Arriving:
    """Wait for the answer to begin, which it does with its first chunk."""
    in_time = asyncio.timeout(limit)
    ended = asyncio.Event()  # by the worker's end

    def give_up() -> None:
        ended.set()
        in_time.reschedule(asyncio.get_running_loop().time())

    held.add(give_up)
    try:
        async with in_time:
            return await opened.__aenter__()
    except NotSent:
        raise
    except TimeoutError:
        if ended.is_set():
            message = f"the worker was closed while {chain.outline()} was on its way; it may run still"
            raise TransportError(message) from None
        raise DeadlineExceeded(f"{chain.outline()}: no answer of {endpoint.url} within {limit:g} s") from None
    except Exception as error:
        raise endpoint.broken(error) from error
    finally:
        held.discard(give_up)


async def _beginning(pieces: AsyncIterator[bytes], due: float) -> bytes:
    """Return how the body of what is no reply begins; nothing, if it does not in time."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout_at(due):
            return await anext(pieces, b"")
    return b""


async def _next_piece(
    pieces: AsyncIterator[bytes], endpoint: Endpoint, chain: Chain, limit: float, due: float
) -> bytes:
    try:
        async with asyncio.timeout_at(due):
            return await anext(pieces, b"")
    except TimeoutError:
        raise DeadlineExceeded(f"{chain.outline()}: no chunk came from {endpoint.url} for {limit:g} s") from None
    except Exception as error:
        raise endpoint.broken(error) from error


@contextmanager
def _abandoned_after(limit: float, give_up: Callable[[], None], chain: Chain) -> Iterator[None]:
    """Give the connection up if the block takes longer than that: whoever reads no further holds a thread there."""
    late = asyncio.Event()

    def end() -> None:
        late.set()
        give_up()

    timer = asyncio.get_running_loop().call_later(limit, end)
    try:
        yield
    finally:
        timer.cancel()
    if late.is_set():
        message = f"{chain.outline()}: nobody asked for the next chunk for {limit:g} s; the stream is ended"
        raise DeadlineExceeded(message)


async def _digest(body: bytes) -> str:
    return await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())
