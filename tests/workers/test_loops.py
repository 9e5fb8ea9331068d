"""What is kept for each loop."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from slacker.workers.loops import ByLoop


def test_loops_that_come_while_all_are_looked_at() -> None:
    """All loops can be looked at while others ask for the first time, as loops of other threads may at any moment."""
    by_loop = ByLoop(object)
    loops = [asyncio.new_event_loop() for _ in range(40)]
    first, to_come = loops[:20], iter(loops[20:])

    async def ask() -> None:
        by_loop.here()

    def come(*event: Any) -> None:
        if loop := next(to_come, None):
            loop.run_until_complete(ask())

    for loop in first:
        loop.run_until_complete(ask())
    sys.setprofile(come)  # called in the midst of it, whenever Python code is entered or left
    try:
        found = by_loop.items()
    finally:
        sys.setprofile(None)
        for loop in loops:
            loop.close()
    assert [loop for loop, _ in found][:20] == first
