"""Streams: how they end, what slows them down, and what they hold meanwhile; see test_contract.py for what they give.

All parts are in this process, the hook's server too, so that an event tells when the far side was left.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from itertools import count
from typing import Any

import pytest

import slacker
from slacker import DeadlineExceeded, Slacker, TransportError, Worker, adisp, batch, options, stream, wsgi
from slacker.workers import DjangoHttpWorker, DummyWorker, HttpWorker, ThreadWorker
from slacker.workers.http import endpoint
from tests.http.servers import AUDIENCE, KEY, Faulty, HttpServer, make_hook
from tests.waiting import LIVENESS, eventually

from . import work
from .work import Source

ENDLESS = 1_000_000_000
SHORT, LONG = 0.05, 30.0
"""Seconds that pass while the test waits for them, and seconds that never pass."""
LARGE = 100_000
"""Bytes of an item: sockets hold some megabytes, which are not many of these."""

HTTP = (HttpWorker, DjangoHttpWorker)


async def nothing_is_left() -> None:
    """Wait until the loop has no task besides those of the test, one or two."""
    await eventually(lambda: not [task for task in asyncio.all_tasks() if "test" not in str(task.get_coro())])


async def at_rest(source: Source) -> int:
    """Return how many items were made when no more come for a while: at least as long as a hundred turns take."""
    made, turns = -1, 0
    while turns < 100:
        turns = turns + 1 if made == source.made else 0
        made = source.made
        await asyncio.sleep(0.002)
    return made


# --- ends ----------------------------------------------------------------------------------------------------------


async def test_leaving_the_loop(streaming_worker: Worker, source: Source) -> None:
    """``break`` ends the far side."""
    async for item in source.recipe(streaming_worker, ENDLESS):
        if item == 700:
            break
    await source.has_ended()
    await nothing_is_left()


async def test_closing(streaming_worker: Worker, source: Source) -> None:
    """``aclosing`` ends it where its block ends; what was not yet read is gone, and closing twice does nothing."""
    async with aclosing(stream(source.recipe(streaming_worker, ENDLESS))) as items:
        assert [await anext(items) for _ in range(3)] == [0, 1, 2]
    await source.has_ended()
    await items.aclose()

    assert await items.next_chunk() == []


async def test_a_failure_in_the_body(streaming_worker: Worker, source: Source) -> None:
    """An exception in the body of the loop ends the far side, and stays what it is."""
    with pytest.raises(ZeroDivisionError):
        async for item in source.recipe(streaming_worker, ENDLESS):
            item / 0
    await source.has_ended()
    await nothing_is_left()


async def test_letting_go(streaming_worker: Worker, source: Source) -> None:
    """A stream that is dropped half read ends the far side."""
    items = stream(source.recipe(streaming_worker, ENDLESS))
    assert (await items.next_chunk())[:3] == [0, 1, 2]
    del items
    await source.has_ended()
    await nothing_is_left()


async def test_cancelling_the_reader(streaming_worker: Worker, source: Source) -> None:
    """A task that is cancelled while it reads ends the far side."""
    read: list[int] = []

    async def main() -> None:
        async for item in source.recipe(streaming_worker, ENDLESS):
            read.append(item)
            await asyncio.sleep(0)

    task = asyncio.create_task(main())
    await eventually(lambda: read)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await source.has_ended()
    await nothing_is_left()


async def test_chunks_after_items(streaming_worker: Worker) -> None:
    """What iterating has left of a chunk comes before the next one."""
    items = stream(Slacker(range, streaming_worker)(7), 3)

    assert (await anext(items), await items.next_chunk(), await anext(items)) == (0, [1, 2], 3)
    assert [await items.next_chunk() for _ in range(3)] == [[4, 5], [6], []]


async def test_two_at_once(streaming_worker: Worker, source: Source) -> None:
    """Only one may wait for the next items; who comes second is told so, and the first gets them."""
    async with aclosing(stream(source.recipe(streaming_worker, ENDLESS), chunk_size=2)) as items:
        first = asyncio.create_task(items.next_chunk())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="are awaited already"):
            await items.next_chunk()
        assert await first == [0, 1]


async def test_a_batch_that_returns_exceptions(streaming_worker: Worker) -> None:
    """Its items come as they do in a list: results, and exceptions that say at which step they were raised."""
    echo, fail = Slacker(work.echo, streaming_worker), Slacker(work.fail, streaming_worker)
    recipe = batch(echo(1), fail(ValueError, "no"), fail(SystemExit), echo(2), return_exceptions=True)

    awaited, streamed = await recipe, [item async for item in stream(recipe, 2)]

    assert (streamed[0], streamed[3]) == (1, 2)
    assert [(type(item), str(item)) for item in streamed[1:3]] == [(type(item), str(item)) for item in awaited[1:3]]
    assert streamed[1].__notes__ == awaited[1].__notes__


NOT_IN_PLACE = pytest.mark.parametrize(
    "streaming_worker", ["ThreadWorker", "DjangoThreadWorker", "HttpWorker", "DjangoHttpWorker"], indirect=True
)


@NOT_IN_PLACE
async def test_closing_while_somebody_waits(streaming_worker: Worker, source: Source) -> None:
    """aclose() from another task ends the work, and whoever waits for an item finds that there are no more."""
    source.gate = 2
    items = stream(source.recipe(streaming_worker, ENDLESS), chunk_size=1)

    async def read() -> list[int]:
        return [item async for item in items]

    reading = asyncio.create_task(read())
    await eventually(lambda: source.made == 2)
    await items.aclose()
    assert (await reading)[2:] == []
    source.opened.set()
    await source.has_ended()
    assert await items.next_chunk() == []


@NOT_IN_PLACE
async def test_closing_and_cancelling(streaming_worker: Worker, source: Source) -> None:
    """Whoever is cancelled as the stream is closed hears of the cancelling."""
    source.gate = 1
    items = stream(source.recipe(streaming_worker, ENDLESS, LARGE), chunk_size=1)
    await items.next_chunk()
    waiting = asyncio.create_task(items.next_chunk())
    await asyncio.sleep(0)
    closing = asyncio.create_task(items.aclose())
    waiting.cancel()
    await asyncio.wait([waiting, closing])
    assert (waiting.cancelled(), closing.exception()) == (True, None)
    source.opened.set()
    await source.has_ended()


async def test_closing_as_somebody_begins_to_wait(streaming_worker: Worker, source: Source) -> None:
    """So it is in the very turn in which the next items are asked for."""
    items = stream(source.recipe(streaming_worker, ENDLESS, LARGE), chunk_size=1)
    await items.next_chunk()
    waiting = asyncio.create_task(items.next_chunk())
    await asyncio.sleep(0)
    await items.aclose()
    assert len(await waiting) <= 1
    await source.has_ended()
    assert await items.next_chunk() == []


@pytest.mark.parametrize("streaming_worker", ["HttpWorker", "DjangoHttpWorker"], indirect=True)
async def test_closing_the_worker_before_anything_came(streaming_worker: Worker, source: Source) -> None:
    """A stream whose first items are still made when the worker's time to close is over fails with it."""
    source.gate = 0
    reading = asyncio.create_task(stream(source.recipe(streaming_worker, ENDLESS)).next_chunk())
    await eventually(source.begun.is_set)
    await streaming_worker.aclose(SHORT)
    with pytest.raises(TransportError, match=r"closed while items_of\(\.\.\.\) was on its way; it may run still"):
        await reading
    source.opened.set()
    await nothing_is_left()


@NOT_IN_PLACE
async def test_cancelling_while_nothing_comes(streaming_worker: Worker, source: Source) -> None:
    """A task that is cancelled while it waits for the next chunk is free at once; the far side ends with its step."""
    source.gate = 2
    items = stream(source.recipe(streaming_worker, ENDLESS, LARGE), chunk_size=1)
    await items.next_chunk()
    await items.next_chunk()
    waiting = asyncio.ensure_future(items.next_chunk())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not source.ended.is_set()
    source.opened.set()
    await source.has_ended()

    for _ in range(2):  # it is not as if these were all
        with pytest.raises(RuntimeError, match=r"the stream of items_of\(\.\.\.\) was cancelled before its end"):
            await items.next_chunk()


async def test_a_failure_after_the_reader_was_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """Work that fails while it makes a chunk that nobody waits for any more is named in slacker's log."""
    begun, may_fail = threading.Event(), threading.Event()

    def fail() -> Iterator[int]:
        begun.set()
        assert may_fail.wait(LIVENESS)  # liveness bound
        raise ValueError("late")
        yield 1

    async with ThreadWorker(1) as worker:
        waiting = asyncio.ensure_future(stream(Slacker(fail, worker)()).next_chunk())
        await eventually(begun.is_set)
        waiting.cancel()
        await asyncio.wait([waiting])
        may_fail.set()
        await eventually(lambda: caplog.records)
    del waiting
    gc.collect()
    assert [f"{fail.__qualname__}() failed after its caller had gone"] == [line.getMessage() for line in caplog.records]


def test_the_loop_ends_with_a_stream_open(streaming_worker: Worker, source: Source) -> None:
    """asyncio.run closes streams that were left open."""
    kept = []

    async def main() -> None:
        kept.append(stream(source.recipe(streaming_worker, ENDLESS)))
        await kept[0].next_chunk()

    asyncio.run(main())
    assert source.ended.wait(LIVENESS)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a loop that nobody shut down
def test_a_loop_that_is_closed_as_it_is(streaming_worker: Worker, source: Source) -> None:
    """Letting go of a stream whose loop was closed ends the far side, too."""
    loop = asyncio.new_event_loop()
    items = stream(source.recipe(streaming_worker, ENDLESS, LARGE), chunk_size=1)
    loop.run_until_complete(items.next_chunk())
    loop.close()
    del items
    gc.collect()
    assert source.ended.wait(LIVENESS)


async def test_threads_are_free_again(source: Source) -> None:
    """The one thread of a pool serves others when a stream was left."""
    async with ThreadWorker(1) as worker:
        async for _ in source.recipe(worker, ENDLESS):
            break
        assert await Slacker(work.echo, worker)("next") == "next"
    assert source.ended.is_set()


async def test_connections_are_free_again(hook: str, source: Source) -> None:
    """The one connection of a worker serves others when a stream was left."""
    async with HttpWorker(hook, key=KEY, audience=AUDIENCE, max_connections=1) as worker:
        async for _ in source.recipe(worker, ENDLESS):
            break
        assert await Slacker(work.echo, worker)("next") == "next"
    await source.has_ended()


async def test_chunks_are_gone_when_they_were_read(streaming_worker: Worker) -> None:
    """A stream holds no chunk that was read, from the first one on, once the next but one has come."""
    items = stream(Slacker(map, streaming_worker)(set, [[number] for number in range(10)]), chunk_size=1)
    read = []
    while chunk := await items.next_chunk():
        read.append(weakref.ref(chunk[0]))
        del chunk
        gc.collect()
        assert [item() for item in read[:-2]] == [None] * len(read[:-2])
    assert len(read) == 10


# --- back-pressure -------------------------------------------------------------------------------------------------


async def test_threads_make_one_chunk_ahead(source: Source) -> None:
    """A thread makes the chunk after the one that was asked for, and no more, until it is asked for that."""
    async with ThreadWorker(1) as worker, aclosing(stream(source.recipe(worker, ENDLESS), chunk_size=10)) as items:
        for asked in range(1, 4):
            await items.next_chunk()
            assert await at_rest(source) == (asked + 1) * 10


async def test_in_place_nothing_is_made_ahead(source: Source) -> None:
    """A DummyWorker makes chunks when they are asked for."""
    async with aclosing(stream(source.recipe(DummyWorker(), ENDLESS), chunk_size=10)) as items:
        for asked in range(1, 4):
            await items.next_chunk()
            assert source.made == asked * 10


@pytest.mark.parametrize("streaming_worker", ["HttpWorker", "DjangoHttpWorker"], indirect=True)
async def test_a_server_waits_for_its_reader(streaming_worker: Worker, source: Source) -> None:
    """Over HTTP the far side is as far ahead as sockets hold, and goes on when it is read on."""
    async with aclosing(stream(source.recipe(streaming_worker, ENDLESS, LARGE), chunk_size=1)) as items:
        await items.next_chunk()
        ahead = await at_rest(source)
        assert ahead * LARGE < 64 << 20
        for _ in range(ahead):
            await items.next_chunk()
        await eventually(lambda: source.made > ahead)


# --- time limits ---------------------------------------------------------------------------------------------------


@NOT_IN_PLACE
async def test_a_chunk_that_takes_too_long(streaming_worker: Worker, source: Source) -> None:
    """The time limit is for each chunk: one that is made for longer ends the stream, after those before it."""
    source.gate = 2
    await Slacker(work.echo, streaming_worker)("the client is ready")
    items = stream(options(source.recipe(streaming_worker, ENDLESS, LARGE), timeout=10 * SHORT), chunk_size=1)
    assert len(await items.next_chunk()) == 1
    assert len(await items.next_chunk()) == 1
    with pytest.raises(DeadlineExceeded, match=r"(nobody made a|no) chunk .*for 0\.5 s") as caught:
        await items.next_chunk()
    source.opened.set()
    await source.has_ended()

    assert caught.value.executed is None
    assert await items.next_chunk() == []


@NOT_IN_PLACE
async def test_a_reader_that_takes_too_long(streaming_worker: Worker, source: Source) -> None:
    """A reader that asks for no chunk for as long as the limit is cut off, and the far side freed."""
    await Slacker(work.echo, streaming_worker)("the client is ready")
    items = stream(options(source.recipe(streaming_worker, ENDLESS, LARGE), timeout=10 * SHORT), chunk_size=1)
    await items.next_chunk()
    await source.has_ended()
    with pytest.raises(DeadlineExceeded, match=r"nobody asked for the next chunk for 0\.5 s"):
        while await items.next_chunk():
            pass


@NOT_IN_PLACE
async def test_time_that_suffices(streaming_worker: Worker) -> None:
    """A limit that no chunk needs changes nothing."""
    assert [n async for n in options(Slacker(range, streaming_worker)(1200), timeout=LONG)] == [*range(1200)]


async def test_no_thread_becomes_free_in_time(source: Source) -> None:
    """A stream that waits for a thread for too long fails, and never begins."""
    blocker = work.Blocker()
    async with ThreadWorker(1) as worker:
        busy = Slacker(blocker.wait, worker)().fetch()
        await blocker.begun()
        with pytest.raises(DeadlineExceeded):
            await stream(options(source.recipe(worker, 1), timeout=SHORT)).next_chunk()
        blocker.release()
        await busy
        assert await Slacker(work.echo, worker)("next") == "next"
    assert source.made == 0


async def test_no_connection_becomes_free_in_time(hook: str, source: Source) -> None:
    """A stream that waits for a connection for too long fails, and was not sent."""
    async with HttpWorker(hook, key=KEY, audience=AUDIENCE, max_connections=1) as worker:
        async with aclosing(stream(source.recipe(worker, ENDLESS))) as items:
            await items.next_chunk()
            with pytest.raises(DeadlineExceeded, match="was not sent") as caught:
                await stream(options(Slacker(range, worker)(3), timeout=SHORT)).next_chunk()
        assert caught.value.executed is False
        assert [n async for n in Slacker(range, worker)(3)] == [0, 1, 2]


async def test_waits_for_a_connection(hook: str, source: Source) -> None:
    """A stream waits for a connection as a call does, and so do calls for that of a stream."""
    async with HttpWorker(hook, key=KEY, audience=AUDIENCE, max_connections=1) as worker:
        async with aclosing(stream(source.recipe(worker, ENDLESS))) as items:
            await items.next_chunk()
            waiting = asyncio.ensure_future(stream(Slacker(range, worker)(3)).next_chunk())
            call = Slacker(work.echo, worker)("call").fetch()
            cancelled = asyncio.ensure_future(stream(Slacker(range, worker)(4)).next_chunk())
            await asyncio.sleep(0)
            cancelled.cancel()
        assert (await waiting, await call) == ([0, 1, 2], "call")
        with pytest.raises(asyncio.CancelledError):
            await cancelled


async def test_cancelled_when_it_was_just_given_a_connection(hook: str, source: Source) -> None:
    """A stream that is cancelled at the moment that it gets its connection passes it on."""
    async with HttpWorker(hook, key=KEY, audience=AUDIENCE, max_connections=1) as worker:
        items = stream(source.recipe(worker, ENDLESS))
        await items.next_chunk()
        waiting = asyncio.ensure_future(stream(Slacker(range, worker)(3)).next_chunk())
        await asyncio.sleep(0)
        await items.aclose()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await Slacker(work.echo, worker)("next") == "next"


# --- closing the worker --------------------------------------------------------------------------------------------


async def test_closing_waits_for_streams(streaming_worker: Worker, source: Source) -> None:
    """aclose lets a stream that is being read go on to its end."""
    items = stream(source.recipe(streaming_worker, 30), chunk_size=10)
    assert await items.next_chunk() == [*range(10)]
    closing = asyncio.create_task(streaming_worker.aclose())
    await asyncio.sleep(0)

    assert [len(await items.next_chunk()) for _ in range(3)] == [10, 10, 0]
    await closing


async def test_closing_does_not_wait_for_ever_for_threads(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    """A pool that is closed while nobody reads a stream names it in a warning when its time is up."""
    worker = ThreadWorker(1)
    items = stream(source.recipe(worker, ENDLESS), chunk_size=10)
    await items.next_chunk()
    await worker.aclose(timeout=SHORT)

    assert re.search(r"still running 0.05 s after it was closed: items_of\(\.\.\.\)", caplog.text)
    await items.aclose()
    await source.has_ended()


async def test_closing_does_not_wait_for_ever_for_servers(hook: str, source: Source) -> None:
    """An HttpWorker that is closed while nobody reads a stream gives it up when its time is up."""
    worker = HttpWorker(hook, key=KEY, audience=AUDIENCE)
    items = stream(source.recipe(worker, ENDLESS, LARGE), chunk_size=1)
    await items.next_chunk()
    await worker.aclose(timeout=SHORT)
    await source.has_ended()
    with pytest.raises(TransportError, match=r"closed while items_of\(\.\.\.\) was streamed") as caught:
        while await items.next_chunk():
            pass

    assert caught.value.executed is True


# --- ways to read --------------------------------------------------------------------------------------------------


async def test_in_a_generator_of_adisp(streaming_worker: Worker) -> None:
    """Under adisp.process one asks for the next chunk."""

    @adisp.process
    def main() -> Any:
        items = stream(Slacker(range, streaming_worker)(5), chunk_size=2)
        chunks = []
        while chunk := (yield items.next_chunk()):
            chunks.append(chunk)
        return chunks

    assert await main() == [[0, 1], [2, 3], [4]]


async def test_with_callbacks(streaming_worker: Worker) -> None:
    """Callbacks ask for the next chunk by a task."""
    items = stream(Slacker(range, streaming_worker)(5), chunk_size=2)
    chunks: list[list[int]] = []
    done = asyncio.Event()

    def on_chunk(task: asyncio.Task[list[int]]) -> None:
        chunks.append(task.result())
        if chunks[-1]:
            ask()
        else:
            done.set()

    def ask() -> None:
        asyncio.ensure_future(items.next_chunk()).add_done_callback(on_chunk)

    ask()
    await done.wait()

    assert chunks == [[0, 1], [2, 3], [4], []]


async def test_two_readers_at_once(streaming_worker: Worker) -> None:
    """A second reader of a stream while the first one waits is a mistake, and harms neither the first nor the next."""
    items = stream(Slacker(range, streaming_worker)(5), chunk_size=2)
    first, second = await asyncio.gather(items.next_chunk(), items.next_chunk(), return_exceptions=True)

    assert first == [0, 1]
    assert second == [2, 3] or isinstance(second, RuntimeError)
    await items.aclose()


async def test_a_stream_is_one_run(streaming_worker: Worker) -> None:
    """Iterating a stream twice is a RuntimeError; a recipe gives another stream each time."""
    recipe = Slacker(range, streaming_worker)(3)
    items = stream(recipe)

    assert [n async for n in items] == [0, 1, 2]
    with pytest.raises(RuntimeError, match=r"the stream of range\(...\) was iterated already; ask slacker.stream for"):
        [n async for n in items]
    assert [n async for n in recipe] == [n async for n in recipe] == [0, 1, 2]


async def test_after_its_first_chunk_it_was_begun() -> None:
    """``async for`` over a stream of which a chunk was taken is a mistake, too."""
    items = stream(Slacker(range)(3), chunk_size=1)
    await items.next_chunk()
    with pytest.raises(RuntimeError, match="was iterated already"):
        aiter(items)
    await items.aclose()


async def test_a_stream_is_nothing_to_await() -> None:
    """Awaiting a stream is a TypeError that says what to write."""
    with pytest.raises(TypeError, match=r"the stream of range\(...\) is no result to await; write 'async for item in"):
        await stream(Slacker(range)(3))


@pytest.mark.parametrize(("size", "kind"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_sizes_of_chunks(size: Any, kind: type[Exception]) -> None:
    """A chunk size is a whole number, and at least 1."""
    with pytest.raises(kind, match="chunk_size must be"):
        stream(Slacker(range)(3), chunk_size=size)


def test_what_is_no_recipe() -> None:
    """Only recipes can be streamed; and a stream reads like what it is of."""
    with pytest.raises(TypeError, match="expected a Slacker, got range"):
        stream(range(3))  # type: ignore[arg-type]
    assert repr(stream(Slacker(range)(3))) == "<Stream range(...)>"


async def test_workers_of_others() -> None:
    """A worker that does not implement streams refuses them at once, by its name."""

    class Mine(Worker):
        async def run(self, chain: Any) -> Any:
            raise AssertionError("nothing runs")

        def __repr__(self) -> str:
            return "Mine()"

    with pytest.raises(TypeError, match=r"^Mine\(\) cannot stream range\(...\); ThreadWorker, HttpWorker and Django"):
        stream(Slacker(range, Mine())(3))
    with pytest.raises(TypeError, match=r"^Mine\(\) cannot stream"):
        [n async for n in Slacker(range, Mine())(3)]


async def test_at_the_most_talkative_log_level(streaming_worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """With DEBUG on a stream gives what it gives, and no argument is in the log."""
    caplog.set_level(logging.DEBUG)

    assert [item async for item in Slacker(work.echo, streaming_worker)(["secret"])] == ["secret"]
    assert "secret" not in caplog.text


# --- HTTP ----------------------------------------------------------------------------------------------------------


async def test_nothing_listens() -> None:
    """A stream that cannot be sent fails with TransportError, and did not run."""
    with HttpServer() as server:
        url = server.url
    async with HttpWorker(url, key=KEY, audience=AUDIENCE) as worker:
        with pytest.raises(TransportError, match="nothing was sent") as caught:
            await stream(Slacker(range, worker)(3)).next_chunk()
    assert caught.value.executed is False


async def test_something_else_answers(hook: str) -> None:
    """An answer that is not the hook's is a TransportError with its status."""
    async with HttpWorker(hook, key=KEY[::-1], audience=AUDIENCE) as worker:
        with pytest.raises(TransportError, match="answered 403") as caught:
            await stream(Slacker(range, worker)(3)).next_chunk()
    assert caught.value.status == 403


async def test_a_transport_without_streams() -> None:
    """Over a transport that has no stream() streams are refused, by its name."""

    class Whole:
        async def post(self, *args: Any) -> Any:
            raise AssertionError("nothing is sent")

        async def aclose(self) -> None:
            pass

    async with HttpWorker("http://127.0.0.1/", key=KEY, transport=Whole()) as worker:
        with pytest.raises(TypeError, match=r"^Whole has no stream\(\), so range\(...\) cannot be streamed over it"):
            await stream(Slacker(range, worker)(3)).next_chunk()


async def test_arguments_that_cannot_be_pickled(hook: str) -> None:
    """A stream that cannot be sent for its arguments names the one."""
    async with HttpWorker(hook, key=KEY, audience=AUDIENCE) as worker:
        with pytest.raises(slacker.Refused, match="cannot be pickled"):
            await stream(Slacker(list, worker)(x for x in ())).next_chunk()
        assert await Slacker(work.echo, worker)("next") == "next"


async def test_arguments_that_are_too_large(hook: str) -> None:
    """A stream whose request would be larger than allowed is refused before anything is sent, as a call is."""
    async with HttpWorker(hook, key=KEY, audience=AUDIENCE, max_request=1000) as worker:
        with pytest.raises(slacker.Refused, match="max_request allows 1000") as caught:
            await stream(Slacker(list, worker)(bytes(2000))).next_chunk()
    assert (caught.value.reason, caught.value.executed) == ("too-big", False)


async def test_items_that_cannot_be_pickled(streaming_worker: Worker) -> None:
    """An item that cannot leave a process ends a stream that has to; those before it came."""
    recipe = Slacker(work.with_a_lock_at, streaming_worker)(3)
    items = stream(recipe, chunk_size=2)
    if not isinstance(streaming_worker, HTTP) and not getattr(streaming_worker, "_pickled", False):
        assert len([item async for item in items]) == 4
        return
    assert await items.next_chunk() == [0, 1]
    with pytest.raises(slacker.RemoteError, match="cannot be pickled"):
        await items.next_chunk()


# --- HTTP, when it goes wrong --------------------------------------------------------------------------------------


def served(now: Callable[[], int]) -> HttpServer:
    """Return a hook on a port of its own, with another clock."""
    return HttpServer(wsgi.application(make_hook(now=now)))


@pytest.mark.parametrize("ahead", [30_000, 120_000, -30_000, -120_000])
async def test_clocks_that_differ(ahead: int) -> None:
    """A stream is asked for again, by the other side's clock, if that is why it was refused."""
    with served(lambda: endpoint.now() + ahead) as server:
        async with HttpWorker(server.url, key=KEY, audience=AUDIENCE) as worker:
            assert [n async for n in options(Slacker(range, worker)(3), timeout=10)] == [0, 1, 2]


async def test_clocks_that_run_away() -> None:
    """It is asked for again once: another refusal is the answer."""
    times = count(endpoint.now(), 1_000_000)
    with served(lambda: next(times)) as server:
        async with HttpWorker(server.url, key=KEY, audience=AUDIENCE) as worker:
            with pytest.raises(slacker.Refused) as caught:
                await stream(Slacker(range, worker)(3)).next_chunk()
    assert caught.value.executed is False
    assert server.requests == 2


async def test_late_by_either_clock() -> None:
    """What is refused as late, and as late again by the other side's clock, has not run, as with other calls."""
    times = count(endpoint.now() + 30_000, 20_000)
    with served(lambda: next(times)) as server:
        async with HttpWorker(server.url, key=KEY, audience=AUDIENCE) as worker:
            with pytest.raises(DeadlineExceeded, match="before the other side could begin") as caught:
                await stream(options(Slacker(range, worker)(3), timeout=10)).next_chunk()
    assert caught.value.executed is False


async def test_the_loops_executor_holds_up_no_stream(hook: str) -> None:
    """A stream needs no thread of the loop's executor, which may have too few and is bound to no limit."""
    busy, free = ThreadPoolExecutor(1), threading.Event()
    asyncio.get_running_loop().set_default_executor(busy)
    busy.submit(free.wait)
    try:
        async with HttpWorker(hook, key=KEY, audience=AUDIENCE) as worker, asyncio.timeout(LONG):  # liveness bound
            assert [item async for item in Slacker(range, worker)(3)] == [0, 1, 2]
    finally:
        free.set()


async def test_no_answer_in_time(hook: str) -> None:
    """A server that does not begin to answer within the limit ends the stream; it may have begun."""
    opened = threading.Event()

    def answer(environ: Any, start_response: Any) -> Any:
        assert opened.wait(LONG)  # liveness bound
        start_response("503 Busy", [("Content-Length", "0")])
        return []

    with HttpServer(answer) as server:
        async with HttpWorker(server.url, key=KEY, audience=AUDIENCE) as worker:
            with pytest.raises(DeadlineExceeded, match="no answer of http") as caught:
                await stream(options(Slacker(range, worker)(3), timeout=10 * SHORT)).next_chunk()
            opened.set()
    assert caught.value.executed is None


async def test_a_connection_that_breaks_before_the_answer(hook: str) -> None:
    """A connection that ends when the request has left is a TransportError; it may have begun."""
    faulty = Faulty(int(hook.rpartition(":")[2].strip("/")))
    faulty.script.append(lambda connection: (connection.read_request(), connection.close()))
    try:
        async with HttpWorker(faulty.url, key=KEY, audience=AUDIENCE) as worker:
            with pytest.raises(TransportError, match="the connection failed") as caught:
                await stream(Slacker(range, worker)(3)).next_chunk()
            assert [n async for n in Slacker(range, worker)(3)] == [0, 1, 2]
    finally:
        await asyncio.to_thread(faulty.close)
    assert caught.value.executed is None


async def test_a_connection_that_breaks_in_the_middle(source: Source) -> None:
    """A connection that ends in the middle of a stream is an error after the items before it."""
    with HttpServer() as server:
        async with HttpWorker(server.url, key=KEY, audience=AUDIENCE) as worker:
            items = stream(source.recipe(worker, ENDLESS, LARGE), chunk_size=1)
            assert len(await items.next_chunk()) == 1
            server.hang_up()
            with pytest.raises((TransportError, slacker.ProtocolError), match=r"connection failed|was cut") as caught:
                while await items.next_chunk():
                    pass
    assert caught.value.executed is None
    await source.has_ended()


async def test_a_dummy_that_pickles_refuses_what_cannot_be_sent() -> None:
    """DummyWorker(pickled=True) shows what cannot be sent in a stream, too."""
    with pytest.raises(slacker.Refused, match="cannot be pickled"):
        await stream(Slacker(list, DummyWorker(pickled=True))(x for x in ())).next_chunk()


def test_a_dummy_lets_the_users_interrupt_pass() -> None:
    """A KeyboardInterrupt in a stream on a DummyWorker in the main thread is the user's, and ends the loop."""
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(stream(Slacker(work.fail, DummyWorker())(KeyboardInterrupt)).next_chunk())
