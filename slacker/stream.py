"""Streams: the items of what a recipe gives, in chunks, as they are asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, NoReturn, Self, final

from .chain import Chain
from .workers.base import Worker

__all__ = ["CHUNK_SIZE", "Stream"]

CHUNK_SIZE = 500
"""Items of a chunk where nothing else is said: enough to make the way there and back count little, few enough to be
loaded in a few milliseconds."""


@final
class Stream:
    """An async iterator over the items of what a chain gives.

    Few chunks exist at any time, one here and one or some made ahead: a slow consumer slows the work down. The work
    begins when the first item is asked for. Leaving the loop, being cancelled, `aclose`, or letting go of the stream
    ends it: the far side stops, closes its cursor and is free. `contextlib.aclosing` does that at a certain place.

    A failure comes after the items before it. A stream is one run: it is iterated once.
    """

    def __init__(self, worker: Worker, chain: Chain, chunk_size: int) -> None:
        self._chunks: AsyncGenerator[list[Any], None] = worker.stream(chain, chunk_size)
        self._items: deque[Any] = deque()
        self._outline = chain.outline()
        self._begun = False
        self._asking: asyncio.Task[list[Any]] | None = None
        self._closed = False
        self._cancelled = False

    def __aiter__(self) -> Self:
        if self._begun:
            raise RuntimeError(f"the stream of {self._outline} was iterated already; ask slacker.stream for another")
        self._begun = True
        return self

    async def __anext__(self) -> Any:
        if not self._items:
            self._items.extend(await self.next_chunk())
        if not self._items:
            raise StopAsyncIteration
        return self._items.popleft()

    async def next_chunk(self) -> list[Any]:
        """Return the next items as a list: a chunk, or what iterating has left of one. An empty one at the end.

        For generators under `slacker.adisp.process`, and for callbacks, which cannot write ``async for``.

        Raises:
            Whatever the work raised, after the items before it.
            RuntimeError: somebody else waits for the next ones; or was cancelled when waiting, which ended the work.
        """
        self._begun = True
        if self._closed:
            return []
        if self._items:
            items, self._items = list(self._items), deque()
            return items
        if self._cancelled:
            raise RuntimeError(f"the stream of {self._outline} was cancelled before its end; ask for another")
        if self._asking is not None:
            raise RuntimeError(f"the next items of the stream of {self._outline} are awaited already")
        # By a task of its own, so that the work can be ended while it is waited for.
        asking = self._asking = asyncio.get_running_loop().create_task(self._ask())
        try:
            items = await asking
            return [] if self._closed else items
        except asyncio.CancelledError:
            if not self._closed:
                self._cancelled = True
                await self._chunks.aclose()  # the task may not have begun yet
            elif not _is_being_cancelled():
                return []
            raise
        finally:
            self._asking = None
            del asking  # a failure's traceback leads to this frame: it would hold itself

    async def _ask(self) -> list[Any]:
        return await anext(self._chunks, [])

    async def aclose(self) -> None:
        """End the work, if it has not ended; whoever waits for items finds that there are no more."""
        self._closed = True
        self._items.clear()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        await self._chunks.aclose()

    def __await__(self) -> NoReturn:
        raise TypeError(
            f"the stream of {self._outline} is no result to await; write 'async for item in ...', or await its "
            "next_chunk()"
        )

    def __repr__(self) -> str:
        return f"<Stream {self._outline}>"


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
