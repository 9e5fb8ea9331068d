"""One request of an `HttpWorker`: sign, send, verify, and send again what certainly did not run.

What may be sent again is decided by one question: did a byte leave? `NotSent` says no, and the request is tried once
more. Whatever else goes wrong after that has ``executed`` None, and is never sent again: the work may have run.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain as in_a_row
from typing import final

from ... import wire
from ...chain import Chain
from ...signing import OpenedFrame, ReplyOpener, Signature
from ..decoding import AT_ONCE, decode
from .call import PendingCall, Reply
from .endpoint import Endpoint, is_ours, now
from .transport import Answer, HttpTransport, NotSent, Transport

__all__ = ["FRAMES", "HASH_IN_THREAD", "Sender", "digest_in_thread"]

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
        self.transport = transport
        self.max_reply = max_reply
        self._max_answer = max_batch * (max_reply + max_reply // 8 + FRAMES)
        self.offset = 0  # milliseconds by which the other side's clock is ahead, as it told us

    async def aclose(self) -> None:
        """Close the transport."""
        if self.transport is not None:
            await self.transport.aclose()

    async def send(self, calls: Sequence[PendingCall]) -> Reply:
        """Send `calls` in one request, and once more if it could not be sent."""
        group = calls[0].group
        assert group is not None  # it is no stream
        endpoint, options = group
        body = wire.envelope([call.encoded for call in calls], options)
        transport = self.transport or self.make_transport(endpoint.timeout)
        digest = hashlib.sha256(body).hexdigest() if len(body) <= HASH_IN_THREAD else await digest_in_thread(body)
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

    def make_transport(self, timeout: float) -> Transport:
        """Make the transport, as the first call needs it, which may take so many seconds."""
        # Two attempts to connect fit into the deadline, so that it finds a call that was certainly not sent.
        connect_timeout = min(5.0, timeout / 3)
        self.transport = HttpTransport(self._max_connections, connect_timeout, max_answer=self._max_answer)
        return self.transport

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


async def digest_in_thread(body: bytes) -> str:
    """Return the SHA-256 of `body` as hexadecimal digits, without holding the loop up."""
    return await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())
