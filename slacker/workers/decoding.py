"""Long replies, decoded a part at a time: one part in each turn of a loop, whichever reply it is of.

`asyncio.sleep(0)` would keep the parts of one reply apart, but not those of replies that come at once: eight reports
would each decode a part in every turn. And what is decoded are thousands of new objects, none of them garbage, through
which the collector looks less often meanwhile.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import final

from ..outcome import Outcome
from ..signing import OpenedFrame
from ..wire import Answers

__all__ = ["AT_ONCE", "Pace", "decode"]

AT_ONCE = 16 << 10
"""Bytes that may be decoded in one turn, if they are of small parts: it takes a fraction of a millisecond."""

SELDOM = 5_000
"""New objects after which the collector looks through them. With its default, 700, decoding takes a sixth longer; were
it off, it would look through a whole reply at the end.
"""


async def decode(answers: Answers, frames: Iterable[OpenedFrame]) -> list[Outcome]:
    """Have `answers` take `frames`, and return the outcomes.

    Raises:
        Refused, ProtocolError: as `Answers`, and as `frames` does.
    """
    pace = Pace()
    with _collected_seldom():
        for frame in frames:
            await pace.before(len(frame[2]))
            answers.take(*frame)
        return answers.outcomes()


@contextmanager
def _collected_seldom() -> Iterator[None]:
    # Not to be switched off: what had come by the end would then be looked through in one go.
    usual = gc.get_threshold()
    if not 0 < usual[0] < SELDOM:  # it is switched off, or a reply that came before has seen to it
        yield
        return
    gc.set_threshold(SELDOM, 10 * usual[1], usual[2])  # nor through what came before, which takes longest
    ours = gc.get_threshold()
    try:
        yield
    finally:
        if gc.get_threshold() == ours:  # or somebody else has set it meanwhile
            gc.set_threshold(*usual)


@final
class Pace:
    """Has the parts of one reply wait for turns, unless they are small."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = AT_ONCE

    async def before(self, size: int) -> None:
        """Wait, if it is time to, before a part of so many bytes is decoded."""
        self._left -= size
        if self._left < 0:
            await _turn()
            self._left = max(0, AT_ONCE - size)


@final
class _Turns:
    """Those who wait for a turn of one loop; to which nothing here refers."""

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[None]] = deque()

    def call(self) -> None:
        """Let the next one go on, and have the one after it called in the next turn."""
        while self.waiting:
            next_one = self.waiting.popleft()
            if not next_one.done():  # cancelled
                next_one.set_result(None)
                break
        if self.waiting:
            asyncio.get_running_loop().call_soon(self.call)


_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = weakref.WeakKeyDictionary()


async def _turn() -> None:
    """Wait for a later turn of the loop, one that nobody else was given."""
    loop = asyncio.get_running_loop()
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = _Turns()
    future = loop.create_future()
    turns.waiting.append(future)
    if len(turns.waiting) == 1:
        loop.call_soon(turns.call)
    await future
