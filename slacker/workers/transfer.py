"""What workers that leave the process without a network share: one chain as bytes, and the way back from frames.

The bytes are those of the signed hook, unsealed: nobody but this process and those it started can reach them. Only
bytes are handed to a pool or a pipe, never the user's objects: an exception that loads badly would break a
whole `concurrent.futures.ProcessPoolExecutor`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, TypeAlias

from .. import wire
from ..chain import Chain
from ..outcome import Outcome
from .base import logger

__all__ = ["Frames", "decode", "encode"]

Frames: TypeAlias = deque[tuple[int, int, bytes]]
"""Kind, chain number and payload of each frame of a reply."""

LARGE_ARGUMENTS = 1 << 20
"""Bytes of a request past which a warning is logged: pickling a megabyte takes some milliseconds of the loop."""


def encode(chain: Chain, options: Mapping[str, Any] | None = None) -> bytes:
    """Return the envelope of `chain`; log a warning if its arguments are so large that this stalled the loop.

    Raises:
        Refused: something in it cannot be pickled; the message names it.
    """
    envelope = wire.encode_request([chain], options)
    if len(envelope) > LARGE_ARGUMENTS:
        logger.warning(
            "the arguments of %s take %d bytes; pickling them stalls the loop: pass names or keys instead",
            chain.outline(),
            len(envelope),
        )
    return envelope


async def decode(frames: Frames) -> Outcome:
    """Return the outcome that `frames` hold, which are used up: one a turn of the loop, so that none stalls it.

    Raises:
        Refused, ProtocolError: as `slacker.wire.Answers`.
    """
    answers = wire.Answers(1)
    while frames:
        answers.take(*frames.popleft())
        if frames:
            await asyncio.sleep(0)
    return answers.outcomes()[0]
