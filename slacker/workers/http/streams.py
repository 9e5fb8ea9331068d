"""A call whose result comes in chunks: sent as any other, and its answer taken while it still arrives.

What may be sent again is as for other calls (`sender`). A chunk that nobody asks for stays where it is, which holds the
other side up, a connection here and a thread there: so there is a limit to that too.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from typing import final

from ... import wire
from ...chain import Chain
from ...errors import DeadlineExceeded, ProtocolError, Refused, TransportError
from ...outcome import Error, Value
from ...signing import ReplyOpener
from ..decoding import Pace
from .endpoint import Endpoint, is_ours, now
from .line import Held
from .sender import FRAMES, HASH_IN_THREAD, Sender, digest_in_thread
from .transport import Arriving, NotSent, StreamingTransport

__all__ = ["StreamedCall"]


@final
class StreamedCall:
    """One such call.

    Args:
        sender: whose transport and clock it uses.
        endpoint: where to.
        chain: what is called.
        limit: seconds for each chunk: to come, and to be asked for.
        held: has, as long as the answer arrives, what gives it up.
    """

    __slots__ = ("_chain", "_endpoint", "_held", "_limit", "_sender")

    def __init__(self, sender: Sender, endpoint: Endpoint, chain: Chain, limit: float, held: Held) -> None:
        self._sender = sender
        self._endpoint = endpoint
        self._chain = chain
        self._limit = limit
        self._held = held

    async def run(self, encode: Callable[[], wire.EncodedCall], options: str) -> AsyncGenerator[Value | Error, None]:
        """Send it, and yield each chunk as it arrives.

        Args:
            encode: encodes the call, anew for each time it is sent.
            options: those of the request.
        """
        transport = self._sender.transport or self._sender.make_transport(self._endpoint.timeout)
        if not isinstance(transport, StreamingTransport):
            name = type(transport).__name__
            raise TypeError(f"{name} has no stream(), so {self._chain.outline()} cannot be streamed over it")
        unreached = skewed = False
        while True:
            body = wire.envelope([encode()], options)
            try:
                async with aclosing(self._once(transport, body)) as outcomes:
                    async for outcome in outcomes:
                        yield outcome
                return
            except NotSent as error:
                if unreached:
                    raise self._endpoint.not_reached(error) from error
                unreached = True
            except Refused as refused:  # of the whole request, so nothing has come yet
                if skewed and refused.reason == "late":
                    message = f"{self._chain.outline()}: its time had passed before the other side could begin"
                    raise DeadlineExceeded(message, executed=False) from None
                if skewed or "time" not in refused.details:
                    raise
                skewed = True
                self._sender.offset = int(refused.details["time"]) - now()

    async def _once(self, transport: StreamingTransport, body: bytes) -> AsyncGenerator[Value | Error, None]:
        small = len(body) <= HASH_IN_THREAD
        digest = hashlib.sha256(body).hexdigest() if small else await digest_in_thread(body)
        signature, headers = self._endpoint.sign(body, digest, now() + self._sender.offset)
        opener = ReplyOpener(self._endpoint.keyring.signing, signature, sys.maxsize, self._sender.max_reply + FRAMES)
        arrivals = wire.Arrivals()
        pace = Pace()
        loop = asyncio.get_running_loop()
        opened = transport.stream(self._endpoint.url, headers, body)
        arriving = await self._arriving(opened)
        ended = asyncio.Event()  # by the worker's end

        def give_up() -> None:
            ended.set()
            _give_up(arriving)

        self._held.add(give_up)
        try:
            pieces = aiter(arriving)
            due = loop.time() + self._limit
            if not is_ours(arriving):
                began = await _beginning(pieces, due)
                raise self._endpoint.not_ours(arriving.status, arriving.content_type, began)
            while piece := await self._next_piece(pieces, due):
                for frame in opener.feed(piece):
                    await pace.before(len(frame[2]))  # however many came at once
                    outcome = arrivals.take(*frame)
                    if outcome is None:
                        return
                    with self._abandoned_after_limit(give_up):
                        yield outcome
                    due = loop.time() + self._limit
            raise ProtocolError("the stream was cut: its last frame is missing")
        except (ProtocolError, TransportError) as error:
            if ended.is_set():
                message = f"the worker was closed while {self._chain.outline()} was streamed"
                raise TransportError(message, executed=True) from error
            raise
        finally:
            self._held.discard(give_up)
            await opened.__aexit__(None, None, None)

    async def _arriving(self, opened: AbstractAsyncContextManager[Arriving]) -> Arriving:
        """Wait for the answer to begin, which it does with its first chunk."""
        in_time = asyncio.timeout(self._limit)
        ended = asyncio.Event()  # by the worker's end

        def give_up() -> None:
            ended.set()
            with contextlib.suppress(RuntimeError):  # its limit passes just now
                in_time.reschedule(asyncio.get_running_loop().time())

        self._held.add(give_up)
        try:
            async with in_time:
                return await opened.__aenter__()
        except NotSent:
            raise
        except TimeoutError:
            if ended.is_set():
                message = f"the worker was closed while {self._chain.outline()} was on its way; it may run still"
                raise TransportError(message) from None
            message = f"{self._chain.outline()}: no answer of {self._endpoint.url} within {self._limit:g} s"
            raise DeadlineExceeded(message) from None
        except Exception as error:
            raise self._endpoint.broken(error) from error
        finally:
            self._held.discard(give_up)

    async def _next_piece(self, pieces: AsyncIterator[bytes], due: float) -> bytes:
        try:
            async with asyncio.timeout_at(due):
                return await anext(pieces, b"")
        except TimeoutError:
            message = f"{self._chain.outline()}: no chunk came from {self._endpoint.url} for {self._limit:g} s"
            raise DeadlineExceeded(message) from None
        except Exception as error:
            raise self._endpoint.broken(error) from error

    @contextmanager
    def _abandoned_after_limit(self, give_up: Callable[[], None]) -> Iterator[None]:
        """Give the connection up if the block takes longer: whoever reads no further holds a thread there."""
        late = asyncio.Event()

        def end() -> None:
            late.set()
            give_up()

        timer = asyncio.get_running_loop().call_later(self._limit, end)
        try:
            yield
        finally:
            timer.cancel()
        if late.is_set():
            why = f"nobody asked for the next chunk for {self._limit:g} s; the stream is ended"
            raise DeadlineExceeded(f"{self._chain.outline()}: {why}")


async def _beginning(pieces: AsyncIterator[bytes], due: float) -> bytes:
    """Return how the body of what is no reply begins; nothing, if it does not in time."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout_at(due):
            return await anext(pieces, b"")
    return b""


_giving_up: set[asyncio.Task[None]] = set()  # a loop refers to its tasks only weakly


def _give_up(arriving: Arriving) -> None:
    task = asyncio.get_running_loop().create_task(arriving.aclose())
    _giving_up.add(task)
    task.add_done_callback(_giving_up.discard)
