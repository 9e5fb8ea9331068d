"""A stream's way from a pool's thread to a loop: one chunk for each time it is asked for.

    loop:    ask -----------> [ requests ] -----> the thread gives the chunk that it has made, and makes the next
             Future <-------- inbox of the loop <-'

So one chunk at most is made ahead. Whoever stops asking stops the thread; whoever lets go of the `Asker` ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias, final

from ..chain import Chain
from ..outcome import Error, Value
from .inbox import Inbox

__all__ = ["Asker", "Giver"]

_Requests: TypeAlias = "SimpleQueue[asyncio.Future[list[Any]] | None]"
"""Where chunks are awaited; None: nobody will ask any more."""


@final
class Asker:
    """The loop's end."""

    def __init__(self) -> None:
        self.requests: _Requests = SimpleQueue()

    def ask(self) -> asyncio.Future[list[Any]]:
        """Return a Future of the running loop for the next chunk; an empty one is the end."""
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.requests.put(future)
        return future

    def close(self) -> None:
        """Ask no more."""
        self.requests.put(None)

    __del__ = close


@final
class Giver:
    """The thread's end.

    Args:
        chain: what is streamed.
        requests: those of the Asker, to which nothing here refers: it is to be collected when it is let go of.
        inbox: of its loop.
        limit: seconds to wait for the next request; None for no limit.
    """

    def __init__(self, chain: Chain, requests: _Requests, inbox: Inbox, limit: float | None) -> None:
        self._chain = chain
        self._requests = requests
        self._inbox = inbox
        self._limit = limit
        self.began = False

    def give_all(self, outcomes: Generator[Value | Error, None, None]) -> None:
        """Give each outcome as it is asked for, and an empty chunk at the end, until nobody asks any more.

        Raises:
            TimeoutError: nobody did for as long as the limit.
        """
        self.began = True
        try:
            for outcome in outcomes:
                if not self._give(outcome):
                    return
            self._give(Value([]))
        finally:
            outcomes.close()

    def _give(self, outcome: Value | Error) -> bool:
        try:
            future = self._requests.get(timeout=self._limit)
        except Empty:
            raise TimeoutError from None
        if future is None:
            return False
        self._inbox.deliver(future, self._chain, outcome)
        return True
