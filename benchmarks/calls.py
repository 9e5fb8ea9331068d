"""Short calls as turns: one after another, and several at once."""

from __future__ import annotations

import asyncio
from typing import Any

from .measure import Case
from .peers import Call

__all__ = ["at_once", "in_turn", "times"]

KEY = 7  # the number that is counted up, and the primary key that is looked up


def times(name: str, usual: int) -> int:
    """Return how many repetitions make a turn of usual length: where a call takes ten times as long, fewer."""
    return max(1, usual // 5) if name == "Dask" else usual


def in_turn(name: str, call: Call, calls: int) -> Case:
    """Make a call when the one before has ended."""

    async def turn() -> object:
        for _ in range(calls):
            result = await call(KEY)
        return _told_apart(result)

    return Case(name, calls, turn)


def at_once(name: str, call: Call, together: int, repeated: int) -> Case:
    """Make so many calls together by `asyncio.gather`, and that repeatedly."""

    async def turn() -> object:
        for _ in range(repeated):
            results = await asyncio.gather(*[call(KEY) for _ in range(together)])
        return [_told_apart(result) for result in results]

    return Case(name, repeated * together, turn)


def _told_apart(result: Any) -> object:
    if isinstance(result, int):
        return result
    return result["username"] if isinstance(result, dict) else result.username
