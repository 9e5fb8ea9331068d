"""What every worker promises, whichever way it runs chains.

`local_worker` stands for those in this process: they hand over the very objects, and the work sees the caller's
context.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from tornado import gen
from tornado.ioloop import IOLoop

import slacker
from slacker import RemoteError, Slacker, Worker, WorkerClosed, chain_of
from slacker.workers import DummyWorker
from tests.waiting import LIVENESS, until

from . import work
from .conftest import NO_STREAMS
from .work import VAR, OutOfStock, Shelf


async def assert_works(worker: Worker) -> None:
    for value in range(20):
        assert await Slacker(work.echo, worker)(value) == value


# --- results -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        NotImplemented,
        ...,
        "text",
        ["a", {"list": (1, 2.5)}],
        work.Payload(),
        work.Payload,
        work.echo,
        ValueError,
        ValueError("a value"),
        SystemExit(3),
        StopIteration("a value"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_returns_the_result_as_it_is(local_worker: Worker, value: Any) -> None:
    """What the work returns is the result, also when it is None, an exception or a class of exceptions."""
    assert await Slacker(work.echo, local_worker)(value) is value


@pytest.mark.parametrize(
    ("record", "result"),
    [
        (lambda q: q.size, 3),
        (lambda q: q("a", "b").titles, ("a", "b")),
        (lambda q: q("a", "b")[1], "b"),
        (lambda q: q("a", "b", "c")[1:], ("b", "c")),
        (lambda q: q("a", "b").find("b"), "b"),
        (lambda q: q("a", "b").find("b", upper=True), "B"),
        (lambda q: q("a", "b").find("b").upper()[0], "B"),
    ],
    ids=["attribute", "call", "item", "slice", "method", "keyword", "all"],
)
async def test_takes_every_kind_of_step(worker: Worker, record: Callable[[Any], Slacker], result: Any) -> None:
    """Attributes, calls, items and slices are taken in the order recorded."""
    assert await record(Slacker(Shelf, worker)) == result


@pytest.mark.parametrize(
    ("root", "record", "result"),
    [
        (math, lambda q: q.sqrt(9), 3.0),
        (work.echo, lambda q: q("a"), "a"),
        (Shelf("a"), lambda q: q[0], "a"),
        (Shelf("a").find, lambda q: q("a"), "a"),
    ],
    ids=["module", "function", "instance", "method"],
)
async def test_starts_from_every_kind_of_root(
    worker: Worker, root: Any, record: Callable[[Any], Slacker], result: Any
) -> None:
    """A chain may start from a module, a function, an instance or a bound method, as from a class."""
    assert await record(Slacker(root, worker)) == result


async def test_returns_the_root_of_a_chain_without_steps(worker: Worker) -> None:
    """A chain without steps gives its root."""
    assert await Slacker(Shelf, worker) is Shelf


# --- exceptions --------------------------------------------------------------------------------------------------


async def test_raises_what_the_work_raised(local_worker: Worker) -> None:
    """An exception comes back with its class, attributes and arguments."""
    with pytest.raises(OutOfStock, match="only 2 of 'Emma' left") as caught:
        await Slacker(work.fail, local_worker)(OutOfStock, "Emma", left=2)
    assert (caught.value.title, caught.value.left) == ("Emma", 2)


@pytest.mark.parametrize(
    ("record", "note"),
    [
        (lambda q: q.titel, "slacker: at step 1, .titel, of Shelf.titel"),
        (lambda q: q("a").find("b").upper(), "slacker: at step 3, .find, of Shelf(...).find(...).upper()"),
        (lambda q: q("a")[7], "slacker: at step 2, [...], of Shelf(...)[...]"),
    ],
    ids=["attribute", "call", "item"],
)
async def test_names_the_step_that_failed(worker: Worker, record: Callable[[Any], Slacker], note: str) -> None:
    """A note on the exception names the step that raised it, without the values of arguments."""
    with pytest.raises((AttributeError, ValueError, IndexError)) as caught:
        await record(Slacker(Shelf, worker))
    assert caught.value.__notes__ == [note]


async def test_names_the_step_once(local_worker: Worker) -> None:
    """One exception object that is raised twice has one note."""
    error = ValueError("a constant")
    for _ in range(2):
        with pytest.raises(ValueError, match="a constant"):
            await Slacker(work.throw, local_worker)(error)
    assert error.__notes__ == ["slacker: at step 1, throw, of throw(...)"]


async def test_keeps_the_notes_of_the_work(worker: Worker) -> None:
    """Notes that the work added stand before ours."""
    error = ValueError("noted")
    error.add_note("by the work")
    with pytest.raises(ValueError, match="noted") as caught:
        await Slacker(work.throw, worker)(error)
    assert caught.value.__notes__ == ["by the work", "slacker: at step 1, throw, of throw(...)"]


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        (StopIteration, ("told",)),
        (StopAsyncIteration, ("told",)),
        (GeneratorExit, ("told",)),
        (SystemExit, ("told",)),
        (asyncio.CancelledError, ("told",)),
        (work.Odd, ("told",)),
        (BaseExceptionGroup, ("told", [SystemExit()])),
    ],
)
async def test_wraps_what_must_not_be_raised_on_a_loop(
    local_worker: Worker, kind: type[BaseException], args: tuple[Any, ...]
) -> None:
    """What means something to a loop or a thread arrives as RemoteError that says what it was, and harms nobody."""
    with pytest.raises(RemoteError, match="told") as caught:
        await Slacker(work.fail, local_worker)(kind, *args)
    error = caught.value
    assert error.executed is True
    assert error.type_name.endswith(kind.__name__)
    assert type(error.__cause__) is kind
    assert error.__notes__ == ["slacker: at step 1, fail, of fail(...)"]
    await assert_works(local_worker)


async def test_survives_every_base_exception(worker: Worker) -> None:
    """Whatever the work raises that is no Exception, or means something to a loop, arrives as RemoteError: it ran."""
    kinds = [StopIteration, StopAsyncIteration, GeneratorExit, SystemExit, asyncio.CancelledError, work.Odd]
    for kind in kinds:
        with pytest.raises(RemoteError, match="told") as caught:
            await Slacker(work.fail, worker)(kind, "told")
        assert (caught.value.type_name.split(".")[-1], caught.value.executed) == (kind.__name__, True)
    await assert_works(worker)


def test_wraps_a_keyboard_interrupt_outside_of_the_main_thread(worker: Worker) -> None:
    """A KeyboardInterrupt that the work raised where no user interrupts arrives as RemoteError."""
    caught: list[RemoteError] = []

    async def main() -> None:
        with pytest.raises(RemoteError, match="KeyboardInterrupt") as info:
            await Slacker(work.fail, worker)(KeyboardInterrupt)
        caught.append(info.value)
        await assert_works(worker)

    thread = threading.Thread(target=asyncio.run, args=[main()])
    thread.start()
    thread.join()
    assert [error.executed for error in caught] == [True]


@pytest.mark.parametrize(
    "error",
    [
        work.StrRaises(),
        work.ReduceRaises(),
        work.TakesNoNote(),
        ValueError("long" * 2_500_000),
        ExceptionGroup("several", [ValueError("a"), OutOfStock("b", left=0)]),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_raises_exceptions_that_misbehave(local_worker: Worker, error: Exception) -> None:
    """An exception comes back as itself, whatever its methods do and however long its message is."""
    with pytest.raises(type(error)) as caught:
        await Slacker(work.throw, local_worker)(error)
    assert caught.value is error
    await assert_works(local_worker)


async def test_wraps_exceptions_whose_str_raises(worker: Worker) -> None:
    """A RemoteError stands in for an exception that has no text to give."""
    with pytest.raises(RemoteError, match=re.escape("<str() of it raised RuntimeError>")):
        await Slacker(work.fail, worker)(work.OddStrRaises)


async def test_survives_a_recursion_error(worker: Worker) -> None:
    """Work that recurses without end raises RecursionError, or through the wire what names it; the next calls pass."""
    with pytest.raises((RecursionError, RemoteError), match="maximum recursion depth exceeded"):
        await Slacker(work.recurse, worker)()
    await assert_works(worker)


async def test_survives_a_memory_error(worker: Worker) -> None:
    """Work that asks for more memory than there is raises MemoryError, and the next calls pass."""
    with pytest.raises(MemoryError):
        await Slacker(bytes, worker)(2**62)
    await assert_works(worker)


async def test_leaves_the_exception_alone_that_the_caller_handles(worker: Worker) -> None:
    """Calls in an except block, successful or not, do not change which exception is being handled."""
    outer = OutOfStock("Emma", left=0)
    handled: list[BaseException | None] = []
    try:
        raise outer
    except OutOfStock:
        await Slacker(work.echo, worker)(1)
        handled.append(sys.exc_info()[1])
        with pytest.raises(ValueError, match="inner"):
            await Slacker(work.fail, worker)(ValueError, "inner")
        handled.append(sys.exc_info()[1])
    assert handled == [outer, outer]


# --- recipes in recipes ------------------------------------------------------------------------------------------


def _shared(record: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return `record`, given one recipe that gives a Shelf of its own each time that it runs."""
    return lambda worker: record(Slacker(Shelf, worker)("a", "b"))


@pytest.mark.parametrize(
    ("record", "result"),
    [
        (lambda worker: Slacker(work.echo, worker)(Slacker(int)("7")), 7),
        (lambda worker: Slacker(work.echo)([Slacker(int, worker)("7"), {"a": (Slacker(str)(8),)}]), [7, {"a": ("8",)}]),
        (lambda worker: Slacker(Shelf, worker)("a", "b")[Slacker(int)("1")], "b"),
        (lambda worker: Slacker(Shelf, worker)("a", "b")[Slacker(int)("1") :], ("b",)),
        (_shared(lambda q: slacker.batch(q.find("a"), q[1], Slacker(work.echo)(q[1]))), ["a", "b", "b"]),
        (_shared(lambda q: Slacker(work.are_one)(q, [q], Slacker(work.echo)(q))), True),
        (_shared(lambda q: slacker.batch(q[0], q[1])[Slacker(int)("1")]), "b"),
        (_shared(lambda q: slacker.batch(slacker.batch(q[0]), slacker.batch(q[1], q[0]))), [["a"], ["b", "a"]]),
        (lambda worker: slacker.batch(*[Slacker(work.echo, worker)(n) for n in range(300)]), list(range(300))),
        (lambda worker: slacker.batch(Slacker(list, worker)(range(900))), [list(range(900))]),
    ],
    ids=["argument", "deep", "index", "bounds", "batch", "once", "step on a batch", "batches", "many", "long"],
)
async def test_runs_recipes_in_recipes(worker: Worker, record: Callable[[Worker], Any], result: Any) -> None:
    """Recipes as arguments and batches mean the same on every worker, in one call."""
    assert await record(worker) == result


NESTED_FAILURES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "nested": (
        lambda shelf: Slacker(work.echo)([shelf.find("c")]),
        "slacker: at step 3, .find, of Shelf(...).find(...), in echo(...)",
    ),
    "outer": (lambda shelf: Slacker(work.echo)(shelf).lost, "slacker: at step 2, .lost, of echo(...).lost"),
    "batch": (
        lambda shelf: slacker.batch(shelf[0], shelf.find("c"), shelf[1], shelf[0]),
        "slacker: at step 3, .find, of Shelf(...).find(...), in batch(Shelf(...)[...], Shelf(...).find(...), "
        "Shelf(...)[...], Shelf(...)[...]); it is item 2 of 4: 1 ran before it, 2 did not run",
    ),
    "nested in a batch": (
        lambda shelf: slacker.batch(shelf[0], Slacker(work.echo)(shelf.find("c"))),
        "slacker: at step 3, .find, of Shelf(...).find(...), in batch(Shelf(...)[...], echo(...)); "
        "it is item 2 of 2: 1 ran before it, 0 did not run",
    ),
}


@pytest.mark.parametrize("where", NESTED_FAILURES)
async def test_names_the_chain_that_failed(worker: Worker, where: str) -> None:
    """A note names the step and the chain that failed, what that was in, and what of a batch ran."""
    record, note = NESTED_FAILURES[where]
    with pytest.raises((AttributeError, ValueError)) as caught:
        await record(Slacker(Shelf, worker)("a", "b"))
    assert caught.value.__notes__ == [note]


async def test_returns_exceptions_of_a_batch(worker: Worker) -> None:
    """A batch that returns exceptions has them in their places, with notes, and runs all; the next calls pass."""
    shelf = Slacker(Shelf, worker)("a", "b")
    first, error, last = await slacker.batch(shelf[0], shelf.find("c"), shelf[1], return_exceptions=True)
    assert (first, type(error), len(error.__notes__), last) == ("a", ValueError, 1, "b")
    assert error.__notes__[0].startswith("slacker: at step 3, .find, of Shelf(...).find(...), in batch(")
    await assert_works(worker)


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, StopIteration, asyncio.CancelledError, work.Odd])
async def test_returns_what_must_not_be_raised_on_a_loop(worker: Worker, kind: type[BaseException]) -> None:
    """What means something to a loop or a thread is a RemoteError among the results, and harms nobody."""
    failing = Slacker(work.fail, worker)(kind, "told")
    nested = Slacker(work.echo)(failing)
    results = await slacker.batch(failing, nested, Slacker(work.echo)(1), return_exceptions=True)
    assert [type(result) for result in results[:2]] == [RemoteError, RemoteError]
    assert (results[0].type_name.endswith(kind.__name__), results[0].message, results[2]) == (True, "told", 1)
    await assert_works(worker)


async def test_runs_no_item_after_a_failure(local_worker: Worker) -> None:
    """The items after the first that failed are not run, and one that failed is not run again."""
    ran: list[int] = []
    note = Slacker(ran, local_worker).append
    failing = Slacker(work.fail)(LookupError, "no")
    with pytest.raises(LookupError):
        await slacker.batch(note(1), failing, note(2))
    await slacker.batch(note(3), failing, failing, note(4), return_exceptions=True)
    assert ran == [1, 3, 4]


async def test_needs_a_database_for_a_transaction(worker: Worker) -> None:
    """A worker without databases refuses to be atomic, at once; none knows this alias."""
    with pytest.raises(ValueError, match="nowhere"):
        slacker.options(Slacker(work.echo, worker)(1), atomic="nowhere")


# --- context -----------------------------------------------------------------------------------------------------


async def test_shows_the_work_the_callers_context(local_worker: Worker) -> None:
    """The work sees the caller's context variables as they were when the call was made."""
    VAR.set("the caller's")
    assert await Slacker(work.get_var, local_worker)() == "the caller's"


async def test_keeps_changes_of_the_context_in_the_work(local_worker: Worker) -> None:
    """Context variables that the work sets are seen neither by the caller nor by the next call."""
    VAR.set("the caller's")
    for _ in range(8):
        assert await Slacker(work.swap_var, local_worker)("the work's") == "the caller's"
    assert VAR.get() == "the caller's"


async def test_keeps_the_contexts_of_parallel_tasks_apart(local_worker: Worker) -> None:
    """Each of many tasks sees its own context variables in its work."""

    async def task(name: str) -> str:
        VAR.set(name)
        await asyncio.sleep(0)
        return await Slacker(work.swap_var, local_worker)("the work's")

    names = [str(number) for number in range(100)]
    assert await asyncio.gather(*map(task, names)) == names


# --- closing -----------------------------------------------------------------------------------------------------


async def test_refuses_calls_once_closed(worker: Worker) -> None:
    """A call after aclose raises WorkerClosed, and did not run."""
    await worker.aclose()
    shelf: list[int] = []
    with pytest.raises(WorkerClosed, match="did not run") as caught:
        await Slacker(shelf, worker).append(1)
    assert (caught.value.executed, shelf) == (False, [])


async def test_may_be_closed_twice(worker: Worker) -> None:
    """A second aclose does nothing."""
    await Slacker(work.echo, worker)(1)
    await worker.aclose()
    await worker.aclose()


async def test_is_closed_by_async_with(worker: Worker) -> None:
    """``async with`` gives the worker itself and closes it at the end."""
    async with worker as same:
        assert same is worker
        await assert_works(worker)
    with pytest.raises(WorkerClosed):
        await Slacker(work.echo, worker)(1)


# --- logging -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "ended"), [(work.echo, "ok"), (work.throw, "ValueError")])
async def test_logs_one_line_a_call(
    worker: Worker, logged: Callable[[int], list[str]], function: Callable[[Any], Any], ended: str
) -> None:
    """At DEBUG a call logs one line: its outline without argument values, how it ended and the times."""
    await asyncio.gather(Slacker(function, worker)(ValueError("password")), return_exceptions=True)
    (line,) = logged(logging.DEBUG)
    assert re.fullmatch(rf"{function.__name__}\(\.\.\.\): {ended}, waited \d+\.\d+ s, ran \d+\.\d+ s", line)


async def test_logs_nothing_at_higher_levels(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """Above DEBUG calls log nothing, whether they fail or not."""
    caplog.set_level(logging.INFO, "slacker")
    await assert_works(worker)
    with pytest.raises(ValueError, match="failed"):
        await Slacker(work.fail, worker)(ValueError, "failed")
    assert caplog.records == []


def test_has_a_repr_like_the_code_that_made_it(local_worker: Worker) -> None:
    """The repr is the call of the class."""
    assert re.fullmatch(rf"{type(local_worker).__name__}\((max_workers=4)?\)", repr(local_worker))


# --- loops -------------------------------------------------------------------------------------------------------


def test_leaves_nothing_behind_of_many_loops(
    worker: Worker, open_descriptors: Callable[[], int], threads: Callable[[], list[threading.Thread]]
) -> None:
    """A worker used from one loop after another keeps no loop, no descriptor and no more threads than it may."""
    loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()

    async def main() -> None:
        loops.add(asyncio.get_running_loop())
        assert await Slacker(work.echo, worker)("a") == "a"

    asyncio.run(main())
    before = open_descriptors()
    for _ in range(50):
        asyncio.run(main())
    # A few may come, as Dask's client connects to a process when it first has a result of it; one for each loop is a
    # leak. The hook's, in this process, notices a bit later that a connection has ended.
    until(lambda: open_descriptors() < before + 10)
    assert list(loops) == []
    assert len(threads()) <= 4


def test_serves_two_loops_at_once(worker: Worker) -> None:
    """Loops in two threads that share a worker get each its own results."""
    start = threading.Barrier(2)
    results: dict[str, list[str]] = {}

    async def main(name: str) -> None:
        start.wait(LIVENESS)
        results[name] = await asyncio.gather(*[Slacker(work.echo, worker)(f"{name}{n}") for n in range(300)])

    threads = [threading.Thread(target=lambda name=name: asyncio.run(main(name))) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {name: [f"{name}{n}" for n in range(300)] for name in "ab"}


def test_runs_under_tornado(worker: Worker) -> None:
    """A recipe is yielded in a coroutine of Tornado's on an IOLoop."""

    @gen.coroutine
    def main() -> Any:
        first = yield Slacker(work.echo, worker)("a")
        both = yield [Slacker(work.echo, worker)(first), Slacker(work.echo, worker)("b")]
        return both

    loop = IOLoop(make_current=False)
    try:
        assert loop.run_sync(main) == ["a", "b"]
    finally:
        loop.close(all_fds=True)


async def test_runs_inside_of_work(local_worker: Worker) -> None:
    """Work may use the same local_worker itself, on a loop of its own."""
    assert await Slacker(work.run_nested, local_worker)(local_worker, "a") == "a"
    await assert_works(local_worker)


# --- submit ------------------------------------------------------------------------------------------------------


async def test_submit_returns_a_future_of_the_running_loop(worker: Worker) -> None:
    """submit() starts the chain and returns a Future of the running loop for its result."""
    future = worker.submit(chain_of(Slacker(work.echo)("a")))
    assert isinstance(future, asyncio.Future)
    assert future.get_loop() is asyncio.get_running_loop()
    assert await future == "a"


async def test_submit_is_one_run(local_worker: Worker) -> None:
    """A Future that is awaited twice is one run."""
    runs: list[int] = []
    future = Slacker(runs, local_worker).append(1).fetch()
    await asyncio.gather(future, future)
    assert runs == [1]


async def test_submit_works_with_wait_for(worker: Worker) -> None:
    """wait_for returns the result of a Future that is done in time."""
    assert await asyncio.wait_for(Slacker(work.echo, worker)("a").fetch(), LIVENESS) == "a"


async def test_submit_can_time_out(worker: Worker) -> None:
    """A time limit that has passed frees the caller, and the next calls pass."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await Slacker(work.echo, worker)("a").fetch()
    await assert_works(worker)


async def test_submit_can_be_cancelled(worker: Worker) -> None:
    """Cancelling the Future frees whoever awaits it, and the next calls pass."""
    future = Slacker(work.echo, worker)("a").fetch()
    assert future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future
    await assert_works(worker)


def test_submit_needs_a_running_loop(worker: Worker) -> None:
    """Without a running loop submit() raises a RuntimeError that names the way to get one."""
    with pytest.raises(RuntimeError, match="run_sync"):
        worker.submit(chain_of(Slacker(work.echo)("a")))


async def test_run_is_what_a_task_takes(worker: Worker) -> None:
    """A recipe's coroutine runs in a task group, and its failure cancels the others."""
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(slacker.run(Slacker(work.fail, worker)(ValueError, "a")))
            group.create_task(asyncio.sleep(LIVENESS))
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


# --- streams -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 500, 1001])
async def test_streams_what_a_list_would_hold(streaming_worker: Worker, count: int) -> None:
    """``async for`` gives the items that the result has, in their order, however many chunks they make."""
    assert [item async for item in Slacker(range, streaming_worker)(count)] == list(range(count))


@pytest.mark.parametrize(("size", "sizes"), [(1, [1] * 6), (2, [2, 2, 2]), (4, [4, 2]), (6, [6]), (500, [6])])
async def test_streams_in_chunks(streaming_worker: Worker, size: int, sizes: list[int]) -> None:
    """Chunks have the size that was asked for, but for the last one; an empty one is the end, and stays it."""
    stream = slacker.stream(Slacker(range, streaming_worker)(6), chunk_size=size)
    chunks = [await stream.next_chunk() for _ in range(len(sizes) + 2)]

    assert [len(chunk) for chunk in chunks] == [*sizes, 0, 0]
    assert [item for chunk in chunks for item in chunk] == [*range(6)]


@pytest.mark.parametrize("items", [[1, 2], (1, 2), {1: "a", 2: "b"}.keys(), "12"], ids=str)
async def test_streams_whatever_is_iterable(local_worker: Worker, items: Any) -> None:
    """What can be iterated can be streamed."""
    assert [str(item) async for item in Slacker(items, local_worker)] == ["1", "2"]


async def test_streams_batches_and_recipes_in_recipes(streaming_worker: Worker) -> None:
    """Any recipe can be streamed: one with others among its arguments, and a batch."""
    count = Slacker(len, streaming_worker)("abc")

    assert [item async for item in Slacker(range)(count)] == [0, 1, 2]
    assert [item async for item in slacker.batch(count, Slacker(work.echo)(count))] == [3, 3]


async def test_streams_what_came_before_a_failure(streaming_worker: Worker) -> None:
    """A failure comes after all items before it, with its step in a note; then the stream is at its end."""
    stream = slacker.stream(Slacker(work.fail_after, streaming_worker)(5), chunk_size=2)
    items: list[int] = []
    with pytest.raises(ValueError, match="no more than 5") as caught:
        async for item in stream:
            items.append(item)

    assert items == [0, 1, 2, 3, 4]
    assert caught.value.__notes__ == ["slacker: at step 1, fail_after, of fail_after(...)"]
    assert "fail_after" in str(caught.value.__cause__ or "".join(traceback.format_tb(caught.value.__traceback__)))
    assert await stream.next_chunk() == []
    await assert_works(streaming_worker)


async def test_streams_nothing_of_a_step_that_fails(streaming_worker: Worker) -> None:
    """A step that fails before there is anything to iterate raises when the first item is asked for."""
    with pytest.raises(AttributeError) as caught:
        [item async for item in Slacker(Shelf, streaming_worker)("a").titel]

    assert caught.value.__notes__ == ["slacker: at step 2, .titel, of Shelf(...).titel"]


@pytest.mark.parametrize("value", [None, 7, work.Payload()], ids=["None", "int", "object"])
async def test_streams_nothing_else(streaming_worker: Worker, value: Any) -> None:
    """What is not iterable is a TypeError that names its type."""
    name = type(value).__name__
    with pytest.raises(TypeError, match=f"{name} objects cannot be streamed, for they are not iterable"):
        [item async for item in Slacker(work.echo, streaming_worker)(value)]
    await assert_works(streaming_worker)


@pytest.mark.parametrize("kind", [StopIteration, GeneratorExit, SystemExit, asyncio.CancelledError, work.Odd])
async def test_streams_wrap_what_must_not_be_raised_on_a_loop(
    streaming_worker: Worker, kind: type[BaseException]
) -> None:
    """What means something to a loop or a generator arrives as RemoteError in a stream, too."""
    with pytest.raises(RemoteError, match=kind.__name__) as caught:
        [item async for item in Slacker(work.fail, streaming_worker)(kind)]

    assert caught.value.executed is True
    await assert_works(streaming_worker)


async def test_streams_see_the_callers_context(local_worker: Worker) -> None:
    """The work of a stream sees the caller's context variables, and keeps to itself what it sets."""
    VAR.set("the caller's")

    assert [value async for value in Slacker(work.swap_var, local_worker)(["the", "work's"])] == list("the caller's")
    assert [value async for value in Slacker(work.get_var, local_worker)()] == list("the caller's")


async def test_streams_nothing_once_closed(streaming_worker: Worker, source: work.Source) -> None:
    """A stream that begins after aclose raises WorkerClosed, and did not run."""
    await streaming_worker.aclose()
    with pytest.raises(WorkerClosed, match="did not run") as caught:
        [item async for item in source.recipe(streaming_worker, 1)]

    assert (caught.value.executed, source.made) == (False, 0)


async def test_streams_begin_when_they_are_read(streaming_worker: Worker, source: work.Source) -> None:
    """A stream that nobody reads does nothing, and may be closed."""
    stream = slacker.stream(source.recipe(streaming_worker, 1))
    await stream.aclose()

    assert source.made == 0
    assert [item async for item in stream] == []


@pytest.mark.parametrize("worker", NO_STREAMS, indirect=True)
async def test_refuses_streams_by_name(worker: Worker) -> None:
    """A worker that cannot stream says so at once, by its name, and that others can."""
    with pytest.raises(TypeError, match=rf"^{type(worker).__name__}\(.*cannot stream range\(...\); ThreadWorker, "):
        slacker.stream(Slacker(range, worker)(3))


# --- in place ----------------------------------------------------------------------------------------------------


async def test_dummy_hides_the_running_loop() -> None:
    """Work on a DummyWorker finds no running loop, and afterwards there is one again."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        await Slacker(asyncio.get_running_loop, DummyWorker())()
    assert asyncio.get_running_loop()


def test_dummy_lets_the_users_interrupt_pass() -> None:
    """A KeyboardInterrupt during work on a DummyWorker in the main thread is the user's, and ends the loop."""
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(slacker.run(Slacker(work.fail, DummyWorker())(KeyboardInterrupt)))


async def test_dummy_runs_in_the_callers_thread() -> None:
    """Work on a DummyWorker runs in the thread that awaits it."""
    assert await Slacker(threading.get_ident, DummyWorker())() == threading.get_ident()


async def test_an_exception_that_takes_no_attributes(local_worker: Worker) -> None:
    """An exception whose class refuses assignment arrives as itself."""
    with pytest.raises(work.Frozen) as caught:
        await Slacker(work.raise_frozen, local_worker)()

    assert caught.value.code == 7
