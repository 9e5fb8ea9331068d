"""What only the DummyWorker shows of streams: it passes them through the wire format without a wire."""

from __future__ import annotations

import threading

import pytest

from slacker import Refused, Slacker
from slacker.workers import DummyWorker

from . import work


async def test_what_cannot_be_sent_is_not_streamed() -> None:
    """With `pickled` a stream whose arguments cannot be pickled is refused, as it would be over a network."""
    with pytest.raises(Refused, match="cannot be pickled"):
        [item async for item in Slacker(work.echo, DummyWorker(pickled=True))([threading.Lock()])]
