"""Short calls as turns: one after another, and several at once."""

from __future__ import annotations

import asyncio
from typing import Any

from .measure import Case
from .peers import Call

__all__ = ["at_once", "in_turn"]

KEY = 7  # the number that is counted up, and the primary key that is looked up


def in_turn(name: str, call: Call, times: int) -> Case:
    """Make a call when the one before has ended."""

    async def turn() -> object:
        for _ in range(times):
            result = await call(KEY)
        return _told_apart(result)

    return Case(name, times, turn)


def at_once(name: str, call: Call, together: int, times: int) -> Case:
    """Make so many calls at once by `asyncio.gather`, so many times."""

    async def turn() -> object:
        for _ in range(times):
            results = await asyncio.gather(*[call(KEY) for _ in range(together)])
        return [_told_apart(result) for result in results]

    return Case(name, times * together, turn)


def _told_apart(result: Any) -> object:
    if isinstance(result, int):
        return result
    return result["username"] if isinstance(result, dict) else result.username
