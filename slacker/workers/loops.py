"""What a worker keeps for each event loop that uses it, without keeping any loop."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar, final

__all__ = ["ByLoop"]

T = TypeVar("T")


@final
class ByLoop(Generic[T]):
    """A value for each loop, made when that asks for the first time, and gone with it.

    The value of the loop that asked last is found several times faster than one in a WeakKeyDictionary. Values must not
    refer to their loops.
    """

    __slots__ = ("_last", "_make", "_values")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, T] = weakref.WeakKeyDictionary()
        self._last: tuple[weakref.ref[asyncio.AbstractEventLoop], T] | None = None

    def here(self) -> T:
        """Return the value of the running loop."""
        loop, last = asyncio.get_running_loop(), self._last
        if last is not None and last[0]() is loop:
            return last[1]
        value = self._values.get(loop)
        if value is None:
            value = self._values.setdefault(loop, self._make())
        self._last = weakref.ref(loop), value
        return value

    def items(self) -> list[tuple[asyncio.AbstractEventLoop, T]]:
        """Return all loops that are left, each with its value."""
        # Not the dictionary's own items(), which raise when a loop of another thread asks for the first time meanwhile.
        loops = [loop for kept in self._values.keyrefs() if (loop := kept()) is not None]
        return [(loop, self._values[loop]) for loop in loops]
