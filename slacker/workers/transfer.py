"""What workers that leave the process without a network share: one chain as bytes, and the way back from frames.

The bytes are those of the signed hook, unsealed: nobody but this process and those it started can reach them. Only
bytes are handed to a pool or a pipe, never the user's objects: an exception that loads badly would break a
whole `concurrent.futures.ProcessPoolExecutor`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import TypeAlias

from .. import wire
from ..chain import Chain
from ..errors import DeadlineExceeded
from ..outcome import Error, Outcome
from . import decoding
from .base import logger, refusal_in

__all__ = ["Frames", "decode", "encode"]

Frames: TypeAlias = deque[tuple[int, int, bytes]]
"""Kind, answer and payload of each frame of a reply."""

LARGE_ARGUMENTS = 1 << 20
"""Bytes of a request past which a warning is logged: pickling a megabyte takes some milliseconds of the loop."""


def encode(chain: Chain, options: str = "{}", *, timed: bool = True) -> bytes:
    """Return the envelope of `chain`; log a warning if its arguments are so large that this stalled the loop.

    Args:
        chain: what is called.
        options: plain data that goes along, encoded.
        timed: whether it tells when the call's time is over, by this machine's clock.

    Raises:
        Refused: something in it cannot be pickled; the message names it.
    """
    timeout = chain.options.timeout
    deadline = None if timeout is None or not timed else int((time.time() + timeout) * 1000)
    envelope = wire.envelope([wire.encode_call(chain, deadline=deadline)], options)
    if len(envelope) > LARGE_ARGUMENTS:
        logger.warning(
            "the arguments of %s take %d bytes; pickling them stalls the loop: pass names or keys instead",
            chain.outline(),
            len(envelope),
        )
    return envelope


async def decode(chain: Chain, frames: Frames) -> Outcome:
    """Return the outcome of `chain` that `frames` hold: one a turn of the loop, so that none stalls it. Uses them up.

    Raises:
        Refused, ProtocolError: as `slacker.wire.Answers`.
    """
    (outcome,) = await decoding.decode(wire.Answers([chain]), _used_up(frames))
    refused = refusal_in(outcome)
    if refused is not None and refused.reason == "late":
        message = f"{chain.outline()} was not done within {chain.options.timeout:g} s; it did not run"
        return Error(DeadlineExceeded(message, executed=False), 0)
    return outcome


def _used_up(frames: Frames) -> Iterator[tuple[int, int, bytes]]:
    while frames:
        yield frames.popleft()
