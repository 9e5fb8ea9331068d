"""Long replies: a part in each turn of the loop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from slacker.chain import Call, Chain
from slacker.wire import Answers, encode_request, serve
from slacker.workers.decoding import AT_ONCE, SELDOM, Pace, decode

LARGE = Chain(list, (Call(((bytes(AT_ONCE),) * 1200,), {}),))


def frames() -> Iterator[Any]:
    return iter(list(serve(encode_request([LARGE]))))


async def test_replies_take_turns() -> None:
    """Of several replies that come at once one part is decoded in each turn, whichever reply it is of."""
    turns = [0]

    async def count() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())

    taken: list[int] = []
    takes = Answers.take

    def take(self: Answers, *frame: Any) -> None:
        taken.append(turns[0])
        takes(self, *frame)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Answers, "take", take)
        await asyncio.gather(*[decode(Answers([LARGE]), frames()) for _ in range(3)])
    counting.cancel()
    await asyncio.wait([counting])

    assert len(taken) == len(set(taken)) == 3 * len(list(frames()))


async def test_a_turn_that_is_not_wanted_any_more() -> None:
    """Whoever is cancelled while it waits gives its turn to the next one."""
    first, second, third = [asyncio.create_task(Pace().before(AT_ONCE + 1)) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    third.cancel()
    await second
    await asyncio.wait([first, third])

    assert (first.cancelled(), second.cancelled(), third.cancelled()) == (True, False, True)


async def test_small_parts_do_not_wait() -> None:
    """Parts that are small together are decoded at once."""
    pace = Pace()
    waiting = pace.before(AT_ONCE // 2)

    with pytest.raises(StopIteration):  # it ended without having waited for anything
        waiting.send(None)


@pytest.mark.parametrize("usual", [(700, 10, 10), (0, 10, 10), (50_000, 20, 20)], ids=["usual", "off", "seldom"])
async def test_the_collector_looks_less_often(usual: tuple[int, int, int]) -> None:
    """While replies are decoded the collector looks at most so often, and afterwards as before."""
    seen: set[int] = set()

    def watched() -> Iterator[Any]:
        for frame in frames():
            seen.add(gc.get_threshold()[0])
            yield frame

    before = gc.get_threshold()
    gc.set_threshold(*usual)
    try:
        await decode(Answers([LARGE]), watched())
        after = gc.get_threshold()
        await asyncio.gather(*[decode(Answers([LARGE]), frames()) for _ in range(2)])
        assert gc.get_threshold() == after == usual
    finally:
        gc.set_threshold(*before)
    assert seen == {usual[0] if usual[0] != 700 else SELDOM}


async def test_who_else_sets_how_often_the_collector_looks_has_the_last_word() -> None:
    """What the application sets while a reply is decoded stays as it is."""

    def changing() -> Iterator[Any]:
        gc.set_threshold(50_000, 20, 20)
        yield from frames()

    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    try:
        await decode(Answers([LARGE]), changing())
        assert gc.get_threshold()[:2] == (50_000, 20)
    finally:
        gc.set_threshold(*before)
