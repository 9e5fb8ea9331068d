"""How tests wait for what nobody tells them: they look again and again, and a vain wait ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["LIVENESS", "eventually", "until"]

LIVENESS = 60.0
"""Seconds that nothing takes by far, not even the start of a server: past it something hangs."""

PAUSE = 0.005
"""Seconds between two looks."""

T = TypeVar("T")


def until(condition: Callable[[], T], complaint: str = "", patience: float = LIVENESS) -> T:
    """Wait for `condition()` to be true, and return what it gives. Blocks the thread."""
    end = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < end, complaint or condition
        time.sleep(PAUSE)
    return value


async def eventually(condition: Callable[[], T]) -> T:
    """Do as `until`, in between the turns of the loop; `condition` is called on the loop, and must not wait for it."""
    end = time.monotonic() + LIVENESS  # not the loop's clock, which tests put forward
    while not (value := condition()):
        assert time.monotonic() < end, condition
        await asyncio.sleep(PAUSE)
    return value
