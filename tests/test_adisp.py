"""slacker.adisp: what a generator may yield, what comes back, and what becomes of failures and cancellations."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import logging
import subprocess
import sys
import threading
import traceback
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
import tornado.gen
import tornado.httpclient
import tornado.httpserver
import tornado.ioloop
import tornado.testing
import tornado.web

from slacker import adisp
from slacker.adisp import CallbackDispatcher, async_, process


class Boom(Exception):
    """The failure of these tests, which its text tells from others."""


async def give(value: Any) -> Any:
    return value


async def fail(text: str = "boom") -> Any:
    raise Boom(text)


def fail_at_once(callback: Callable[..., None]) -> None:
    raise Boom("at once")


def cancelled_future() -> asyncio.Future[Any]:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    return future


def new_future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


async def next_turns() -> None:
    """Let the loop turn until what is ready has run, and what that made ready."""
    for _ in range(5):
        await asyncio.sleep(0)


@process
def wait_for(thing: Any) -> Generator[Any, Any, Any]:
    return (yield thing)


@process
def caught(thing: Any) -> Generator[Any, Any, Any]:
    """Return the exception that is raised at the yield."""
    try:
        yield thing
    except BaseException as error:
        return error


class Noted:
    """A generator's view of a wait: what was raised at the yield, and whether ``finally`` ran."""

    def __init__(self) -> None:
        self.raised: BaseException | None = None
        self.cleaned = False

    @process
    def wait(self, thing: Any) -> Generator[Any, Any, Any]:
        try:
            return (yield thing)
        except BaseException as error:
            self.raised = error
            raise
        finally:
            self.cleaned = True


class Part:
    """An awaitable that never ends by itself and notes what becomes of it."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log = log
        self.name = name

    def __await__(self) -> Generator[Any, None, None]:
        self.log.append(f"{self.name} started")
        try:
            yield from new_future().__await__()
        finally:
            self.log.append(f"{self.name} ended")


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, int, str]]]:
    """Return what was logged: logger, level and, of what carries an exception, its text."""

    def records() -> list[tuple[str, int, str]]:
        gc.collect()  # asyncio logs a failure that nobody retrieved when its Future goes
        return [
            (record.name, record.levelno, str(record.exc_info[1]) if record.exc_info else record.getMessage())
            for record in caplog.records
            if record.levelno > logging.INFO
        ]

    return records


# --- process: what a call does and returns --------------------------------------------------------------------


async def test_a_generator_runs_to_its_first_yield_in_the_call() -> None:
    """A call runs the generator as far as its first yield before it returns."""
    steps = []

    @process
    def steps_around_a_yield() -> Generator[Any, Any, None]:
        steps.append("before")
        yield give(None)
        steps.append("after")

    task = steps_around_a_yield()
    assert steps == ["before"]
    await task
    assert steps == ["before", "after"]


async def test_a_call_returns_a_task() -> None:
    """What a call returns is a Task while the generator waits."""
    task = wait_for(give(1))
    assert isinstance(task, asyncio.Task)
    assert await task == 1


async def test_the_result_is_what_the_generator_returns() -> None:
    """The Task's result is the generator's return value."""

    @process
    def add(a: int, *, b: int) -> Generator[Any, Any, int]:
        return (yield give(a)) + (yield give(b))

    assert await add(1, b=2) == 3


async def test_the_failure_is_what_the_generator_raises() -> None:
    """The Task fails with what the generator raises."""

    @process
    def raises_later() -> Generator[Any, Any, None]:
        yield give(None)
        raise Boom("later")

    with pytest.raises(Boom, match="later"):
        await raises_later()


async def test_a_generator_that_ends_before_its_first_yield_gives_a_finished_future() -> None:
    """A generator that never reaches a yield gives its return value in a finished Future."""

    @process
    def wait_unless(known: int | None) -> Generator[Any, Any, int]:
        if known is not None:
            return known
        return (yield give(0))

    future = wait_unless(5)
    assert future.done()
    assert not isinstance(future, asyncio.Task)
    assert future.result() == 5
    assert await wait_unless(None) == 0


async def test_a_generator_that_raises_before_its_first_yield_gives_a_finished_future() -> None:
    """What is raised before the first yield is the failure of a finished Future; the call itself raises nothing."""

    @process
    def raises_at_once() -> Generator[Any, Any, None]:
        raise Boom("first")
        yield

    future = raises_at_once()
    assert future.done()
    assert str(future.exception()) == "first"


async def test_a_generator_cancelled_before_its_first_yield_gives_a_cancelled_future() -> None:
    """CancelledError before the first yield makes a cancelled Future, as it makes a cancelled Task later."""

    @process
    def meets_a_cancellation() -> Generator[Any, Any, None]:
        cancelled_future().result()
        yield

    assert meets_a_cancellation().cancelled()


async def test_a_keyboard_interrupt_before_the_first_yield_passes() -> None:
    """KeyboardInterrupt in the caller's part is the caller's: it is raised by the call."""

    @process
    def interrupted() -> Generator[Any, Any, None]:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        interrupted()


async def test_a_function_without_yield_gives_a_finished_future() -> None:
    """A function that is no generator function gives its return value in a finished Future."""
    assert process(max)(1, 2).result() == 2  # type: ignore[type-var]


async def test_a_function_without_yield_that_raises_gives_a_finished_future() -> None:
    """A function that is no generator function gives its exception in a finished Future."""
    assert isinstance(process(int)("x").exception(), ValueError)  # type: ignore[type-var]


async def test_a_function_without_yield_that_raises_stop_iteration_fails() -> None:
    """StopIteration raised by a plain function is a failure, not a return value."""
    future = process(lambda: next(iter([])))()
    error = future.exception()
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, StopIteration)


async def test_a_generator_object_of_another_kind_is_driven() -> None:
    """Any collections.abc.Generator is a generator: those of Cython are not of the built-in type."""

    class Counting(Generator[Any, Any, Any]):
        sent: list[Any] = []

        def send(self, value: Any) -> Any:
            self.sent.append(value)
            if len(self.sent) == 3:
                raise StopIteration("end")
            return give(len(self.sent))

        def throw(self, *error: Any) -> Any:
            return super().throw(*error)

    assert await process(Counting)() == "end"  # type: ignore[arg-type]
    assert Counting.sent == [None, 1, 2]


async def test_methods_can_be_decorated() -> None:
    """A decorated method gets its instance."""

    class Counter:
        step = 2

        @process
        def count(self, start: int) -> Generator[Any, Any, int]:
            return (yield give(start)) + self.step

    assert await Counter().count(1) == 3


async def test_no_keyword_is_taken_from_the_function() -> None:
    """A decorated function may have parameters of any name."""

    @process
    def takes(self: int, func: int, generator: int, **rest: int) -> Generator[Any, Any, Any]:
        yield give(None)
        return self, func, generator, rest

    assert await takes(self=1, func=2, generator=3, args=4) == (1, 2, 3, {"args": 4})


def test_a_decorated_function_keeps_its_name_and_docstring() -> None:
    """The decorated function looks like the one that was written."""

    @process
    def documented() -> Generator[Any, Any, None]:
        """What it does."""
        yield

    assert (documented.__name__, documented.__doc__) == ("documented", "What it does.")


@pytest.mark.parametrize("thing", [None, 5, "name", classmethod(wait_for)], ids=lambda thing: type(thing).__name__)
@pytest.mark.parametrize("decorator", [process, functools.partial(async_, cbname="on_done"), async_()])
def test_decorating_what_is_not_callable_is_refused(decorator: Any, thing: Any) -> None:
    """A TypeError names the type of what cannot be decorated."""
    if thing is None and decorator is not process:
        thing = NotImplemented  # async_(None) is async_()
    with pytest.raises(TypeError, match=f"takes a .*function, not {type(thing).__qualname__}"):
        decorator(thing)


def test_decorating_a_coroutine_function_is_refused() -> None:
    """A coroutine function needs no process: the TypeError says to await it."""
    with pytest.raises(TypeError, match="give is `async def`: await it directly"):
        process(give)  # type: ignore[arg-type]


def test_decorating_an_async_generator_function_is_refused() -> None:
    """An async generator function cannot be driven by process."""

    async def numbers() -> Any:
        yield 1

    with pytest.raises(TypeError, match="numbers is `async def`"):
        process(numbers)


def test_without_a_running_loop_nothing_runs() -> None:
    """Without a loop a call raises RuntimeError, which names the ways to get one, and nothing of the function runs."""
    ran = []

    @process
    def marked() -> Generator[Any, Any, None]:
        ran.append(1)
        yield

    for call in marked, process(lambda: ran.append(2)):
        with pytest.raises(RuntimeError, match=r"tornado\.ioloop\.IOLoop\.current\(\)\.run_sync\(.*asyncio\.run\("):
            call()
    assert ran == []


def test_run_sync_runs_a_decorated_function() -> None:
    """A decorated function can be handed to Tornado's run_sync, as the error without a loop says."""
    loop = tornado.ioloop.IOLoop(make_current=False)
    try:
        assert loop.run_sync(lambda: wait_for(give(3))) == 3
    finally:
        loop.close()


def test_asyncio_run_runs_a_decorated_function() -> None:
    """A decorated function can be awaited under asyncio.run, as the error without a loop says."""

    async def main() -> Any:
        return await wait_for(give(3))

    assert asyncio.run(main()) == 3


async def test_the_dispatcher_drives_a_generator_object() -> None:
    """CallbackDispatcher drives a generator that one has already and holds its Future."""

    def doubling() -> Generator[Any, Any, int]:
        return 2 * (yield give(4))

    dispatcher = CallbackDispatcher(doubling())
    assert isinstance(dispatcher.future, asyncio.Task)
    assert await dispatcher.future == 8


async def test_a_waiting_generator_needs_no_reference() -> None:
    """A generator that nobody refers to is not collected while it waits, not even together with what it waits for."""
    done = asyncio.Event()

    class Circle:
        pass

    @process
    def unattended() -> Generator[Any, Any, None]:
        circle: Any = Circle()
        circle.future = new_future()
        resume.append(weakref.ref(circle.future))
        yield circle.future
        done.set()

    resume: list[weakref.ref[asyncio.Future[None]]] = []
    unattended()
    await next_turns()
    gc.collect()
    future = resume[0]()
    assert future is not None
    future.set_result(None)
    await done.wait()


async def test_nothing_finished_is_kept() -> None:
    """What has ended is no longer referred to."""
    wait_for(give(1))
    wait_for(async_(wait_for_then_call)(1))
    await next_turns()
    assert adisp._running == set()


# --- contexts -------------------------------------------------------------------------------------------------

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_before_the_first_yield_the_context_is_the_callers() -> None:
    """A variable set before the first yield is set for the caller."""

    @process
    def sets() -> Generator[Any, Any, None]:
        variable.set("before")
        yield give(None)

    task = sets()
    assert variable.get() == "before"
    await task


async def test_a_variable_set_before_the_first_yield_stays_visible() -> None:
    """The context that the generator goes on in is copied after its first part."""

    @process
    def sets() -> Generator[Any, Any, str]:
        variable.set("before")
        yield give(None)
        return variable.get()

    assert await sets() == "before"


async def test_after_the_first_yield_the_context_is_the_generators_own() -> None:
    """A variable set after the first yield is not set for the caller, and the other way round."""

    @process
    def sets() -> Generator[Any, Any, str]:
        yield give(None)
        seen = variable.get()
        variable.set("inside")
        return seen

    task = sets()
    variable.set("outside")
    assert await task == "unset"
    assert variable.get() == "outside"


# --- what may be yielded --------------------------------------------------------------------------------------


async def done_future() -> asyncio.Future[Any]:
    future = new_future()
    future.set_result("result")
    return future


class Awaitable:
    def __await__(self) -> Generator[Any, Any, Any]:
        return give("result").__await__()


@tornado.gen.coroutine
def tornado_coroutine(value: Any) -> Generator[Any, Any, Any]:
    yield tornado.gen.sleep(0)
    return value


@pytest.mark.parametrize(
    "make",
    [
        lambda: give("result"),
        lambda: asyncio.ensure_future(give("result")),
        Awaitable,
        lambda: tornado_coroutine("result"),
        lambda: wait_for(give("result")),
        lambda: tornado.gen.with_timeout(tornado.ioloop.IOLoop.current().time() + 60, tornado_coroutine("result")),
    ],
    ids=["coroutine", "Task", "awaitable", "Tornado Future", "process", "with_timeout"],
)
@pytest.mark.parametrize("alone", [True, False])
async def test_an_awaitable_gives_its_result(make: Callable[[], Any], alone: bool) -> None:
    """A yielded awaitable of any kind, alone or among others, comes back as its result."""
    assert await wait_for(make() if alone else [make()]) == ("result" if alone else ["result"])


async def test_a_finished_future_gives_its_result() -> None:
    """A Future that is done when it is yielded gives its result."""
    assert await wait_for(await done_future()) == "result"


async def test_an_awaitable_is_awaited_even_if_it_is_callable_and_iterable() -> None:
    """Awaitable is asked first: a recorder answers to everything."""

    class Everything(Awaitable):
        def __call__(self, *args: Any) -> Any:
            raise AssertionError("called")

        def __iter__(self) -> Any:
            raise AssertionError("iterated")

    assert await wait_for(Everything()) == "result"
    assert await wait_for([Everything()]) == ["result"]


async def test_a_callable_is_called_even_if_it_is_iterable() -> None:
    """Callable is asked before iterable."""

    class CallableList(list[Any]):
        def __call__(self, callback: Callable[..., None]) -> None:
            callback("called")

    assert await wait_for(CallableList()) == "called"


async def test_an_instance_attribute_does_not_make_an_awaitable() -> None:
    """Whether something is awaitable is asked of its type."""

    class Recorder:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

        def __call__(self, callback: Callable[..., None]) -> None:
            callback("called")

    assert await wait_for(Recorder()) == "called"


async def test_a_dict_gives_a_dict() -> None:
    """A dict of awaitables comes back as a dict with the same keys in the same order."""
    result = await wait_for({"b": give(1), "a": give(2)})
    assert list(result.items()) == [("b", 1), ("a", 2)]


@pytest.mark.parametrize("kind", [OrderedDict, types.MappingProxyType])
async def test_any_mapping_gives_a_dict(kind: Any) -> None:
    """Other mappings come back as dicts too, and are not taken for iterables of their keys."""
    result = await wait_for(kind({"a": give(1)}))
    assert (type(result), result) == (dict, {"a": 1})


@pytest.mark.parametrize("kind", [list, tuple, iter, lambda items: (item for item in items)])
async def test_an_iterable_gives_a_list(kind: Any) -> None:
    """A list, a tuple, an iterator or a generator of awaitables comes back as a list."""
    assert await wait_for(kind([give(1), give(2)])) == [1, 2]


async def test_a_set_gives_a_list() -> None:
    """A set comes back as a list, in the order of the set."""
    futures = {asyncio.ensure_future(give(number)) for number in range(5)}
    expected = [(await future) for future in futures]
    assert await wait_for(futures) == expected


@pytest.mark.parametrize(("empty", "expected"), [([], []), ((), []), ({}, {}), (set(), [])])
async def test_nothing_gives_nothing(empty: Any, expected: Any) -> None:
    """An empty container comes back empty."""
    assert await wait_for(empty) == expected


async def test_containers_nest() -> None:
    """Containers may hold containers, which come back in the same shape, and callables."""
    nested = {"a": [give(1), (give(2), {"b": async_(call)(3)})], "c": []}
    assert await wait_for(nested) == {"a": [1, [2, {"b": 3}]], "c": []}


async def test_one_future_may_stand_in_two_places() -> None:
    """The same Future gives its result wherever it stands."""
    future = asyncio.ensure_future(give(1))
    assert await wait_for([future, {"again": future}]) == [1, {"again": 1}]


@pytest.mark.parametrize(
    ("thing", "name"),
    [(None, "NoneType"), (5, "int"), ("text", "str"), (b"bytes", "bytes"), (bytearray(), "bytearray")],
)
@pytest.mark.parametrize("alone", [True, False])
async def test_anything_else_is_refused_at_the_yield(thing: Any, name: str, alone: bool) -> None:
    """A TypeError raised at the yield says what may be yielded and what came."""
    error = await caught(thing if alone else [thing])
    assert isinstance(error, TypeError)
    assert str(error).startswith("Yield an awaitable, a callable that takes a callback (see adisp.async_), or a dict")
    assert str(error).endswith(f"not {name}.")


async def test_an_exception_object_is_a_result() -> None:
    """An exception that comes as a result is not raised."""
    error = Boom("as a result")
    assert await wait_for(give(error)) is error
    assert await wait_for([give(error)]) == [error]
    assert await wait_for(async_(call)(error)) is error


# --- failures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [fail, lambda: asyncio.ensure_future(fail()), lambda: [fail()], lambda: {"a": [fail()]}],
    ids=["coroutine", "Task", "list", "nested"],
)
async def test_a_failure_is_raised_at_the_yield(make: Callable[[], Any]) -> None:
    """The exception of what was yielded is raised at the yield, where it can be caught."""
    error = await caught(make())
    assert (type(error), str(error)) == (Boom, "boom")


async def test_a_generator_goes_on_after_a_failure_it_caught() -> None:
    """A generator that catches a failure can yield again."""

    @process
    def persistent() -> Generator[Any, Any, int]:
        failures = 0
        for _ in range(3):
            try:
                yield fail()
            except Boom:
                failures += 1
        return failures

    assert await persistent() == 3


async def test_a_failure_that_is_false_is_a_failure() -> None:
    """An exception that is false, because it has a length for example, is raised all the same."""

    class Empty(Exception):
        def __len__(self) -> int:
            return 0

    async def fail_empty() -> None:
        raise Empty

    assert isinstance(await caught(fail_empty()), Empty)
    assert isinstance(await caught([fail_empty()]), Empty)
    assert isinstance(await caught(lambda callback: fail_empty()), Empty)


async def test_a_failure_is_not_the_context_of_what_is_raised_after_it_was_caught() -> None:
    """What a generator raises later does not seem to have happened while an earlier failure was handled."""

    @process
    def raises_something_new() -> Generator[Any, Any, None]:
        with contextlib.suppress(Boom):
            yield fail()
        raise ValueError("new")

    error = await caught(raises_something_new())
    assert error.__context__ is None


async def test_stop_iteration_raised_by_a_callable_is_raised_as_runtime_error() -> None:
    """StopIteration of what was yielded neither ends the generator nor is lost."""

    def stops(callback: Callable[..., None]) -> None:
        raise StopIteration("lost?")

    error = await caught(stops)
    assert isinstance(error, RuntimeError)
    assert repr(error.__cause__) == "StopIteration('lost?')"


async def test_stop_iteration_raised_by_an_awaitable_is_raised_as_runtime_error() -> None:
    """StopIteration of an awaited coroutine does not end the generator."""

    async def stops() -> None:
        raise StopIteration

    assert isinstance(await caught(stops()), RuntimeError)


async def test_stop_iteration_raised_by_the_generator_is_its_failure() -> None:
    """A generator that raises StopIteration fails: it did not return."""

    @process
    def stops() -> Generator[Any, Any, None]:
        yield give(None)
        raise StopIteration

    with pytest.raises(RuntimeError, match="generator raised StopIteration"):
        await stops()


async def test_a_traceback_leads_to_the_yield_and_to_the_origin() -> None:
    """The traceback of a failure shows the line of the yield and where it was raised."""
    task = asyncio.ensure_future(wait_for([fail()]))
    await asyncio.wait([task])
    error = task.exception()
    assert error is not None
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert names.index("wait_for") < names.index("fail")


@pytest.mark.parametrize("shape", [lambda future: future, lambda future: [future]], ids=["alone", "in a list"])
async def test_a_traceback_does_not_get_longer_and_longer(shape: Callable[[Any], Any]) -> None:
    """A Future that failed can be yielded many times: the traceback at the yield gets no longer than the first time."""
    task = asyncio.ensure_future(fail())
    lengths = []

    @process
    def again_and_again() -> Generator[Any, Any, None]:
        for _ in range(5):
            try:
                yield shape(task)
            except Boom as error:
                lengths.append(len(traceback.extract_tb(error.__traceback__)))

    await again_and_again()
    assert lengths == sorted(lengths, reverse=True)


def raise_boom(*args: Any) -> Any:
    raise Boom("raised")


class FailsToStart(Awaitable):
    def __adisp_start__(self) -> Any:
        raise Boom("not started")


def failing_items() -> Iterator[Any]:
    yield give(1)
    raise Boom("while iterating")


@process
def wait_for_what_this_makes(make: Callable[[], Any]) -> Generator[Any, Any, Any]:
    """Wait without a name for what is waited for: a name in a frame of the traceback would make a cycle."""
    return (yield make())


@pytest.mark.parametrize(
    "make",
    [
        fail,
        lambda: asyncio.ensure_future(fail()),
        lambda: [fail(), fail()],
        lambda: {"a": [fail()]},
        lambda: raise_boom,
        lambda: [raise_boom],
        lambda: [FailsToStart()],
        failing_items,
        lambda: [[failing_items()]],
        lambda: lambda callback: fail(),
        lambda: wait_for_what_this_makes(lambda: [fail()]),
        raise_boom,
    ],
)
async def test_a_failure_is_freed_without_the_collector(make: Callable[[], Any]) -> None:
    """A failure is in no reference cycle: it goes, with all that its traceback holds, when its Task goes."""
    gc.collect()
    gc.disable()
    try:
        task = wait_for_what_this_makes(make)
        await asyncio.wait([task])
        failure = weakref.ref(task.exception())
        assert isinstance(failure(), Boom)
        del task
        await next_turns()
        assert failure() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("make", [new_future, lambda: [new_future(), new_future()]], ids=["alone", "list"])
async def test_a_cancellation_is_freed_without_the_collector(make: Callable[[], Any]) -> None:
    """CancelledError, too, is in no reference cycle."""
    raised: list[weakref.ref[BaseException]] = []

    @process
    def note_what_is_raised() -> Generator[Any, Any, None]:
        try:
            yield make()
        except BaseException as error:
            raised.append(weakref.ref(error))
            raise

    gc.collect()
    gc.disable()
    try:
        task = note_what_is_raised()
        await next_turns()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        del task
        await next_turns()
        assert raised[0]() is None
    finally:
        gc.enable()


# --- in parallel ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, lambda parts: dict(enumerate(parts))], ids=["list", "dict"])
async def test_all_parts_start_before_any_ends(kind: Callable[[Any], Any]) -> None:
    """All parts of a container are started at once: here each waits for the other."""
    first, second = asyncio.Event(), asyncio.Event()

    async def meet(mine: asyncio.Event, other: asyncio.Event) -> None:
        mine.set()
        await other.wait()

    await wait_for(kind([meet(first, second), meet(second, first)]))
    assert first.is_set()
    assert second.is_set()


async def test_parts_start_in_the_order_written() -> None:
    """The parts of nested containers start from left to right, before the loop turns."""
    order: list[Any] = []

    def starts(name: str) -> Callable[..., None]:
        def caller(callback: Callable[..., None]) -> None:
            order.append(name)
            asyncio.get_running_loop().call_soon(callback, name)
            asyncio.get_running_loop().call_soon(order.append, "turn")

        return caller

    await wait_for([starts("a"), {"key": [starts("b")]}, starts("c")])
    assert order == ["a", "b", "c", "turn", "turn", "turn"]


async def test_the_first_failure_in_the_order_written_is_raised() -> None:
    """Of several failures the leftmost is raised, whichever came first."""
    late = new_future()

    async def fail_late() -> None:
        await late
        raise Boom("left")

    async def fail_early() -> None:
        late.set_result(None)
        raise Boom("right")

    assert str(await caught([[fail_late()], fail_early()])) == "left"


async def test_the_other_failures_are_logged(logged: Callable[[], Any]) -> None:
    """Failures besides the one raised are logged, and no Future complains that nobody retrieved its failure."""
    assert str(await caught([give(0), fail("one"), fail("two"), {"a": fail("three")}])) == "one"
    assert logged() == [("slacker.adisp", logging.ERROR, "two"), ("slacker.adisp", logging.ERROR, "three")]


async def test_one_failed_future_in_two_places_is_one_failure(logged: Callable[[], Any]) -> None:
    """A Future that stands in two places fails once: it is raised and not logged besides."""
    future = asyncio.ensure_future(fail())
    assert str(await caught([future, future])) == "boom"
    assert logged() == []


async def test_all_parts_are_waited_for_when_one_fails() -> None:
    """A failure is raised only when all parts have ended."""
    running = new_future()
    waiting = caught([fail(), running])
    await next_turns()
    assert not waiting.done()
    running.set_result(None)
    assert isinstance(await waiting, Boom)


@pytest.mark.parametrize(
    "broken", [fail_at_once, FailsToStart(), 5, failing_items], ids=["call", "object", "int", "items"]
)
async def test_what_cannot_start_does_not_keep_the_others_from_running(broken: Any) -> None:
    """A part that fails to start has failed; the parts after it run all the same and are waited for."""
    ran = asyncio.Event()

    async def run() -> None:
        await asyncio.sleep(0)
        ran.set()

    error = await caught([broken() if broken is failing_items else broken, run()])
    assert isinstance(error, (Boom, TypeError))
    assert ran.is_set()


async def test_an_iterable_that_fails_half_way_has_what_it_gave_waited_for() -> None:
    """The parts that an iterable gave before it failed run to their end."""
    ran = asyncio.Event()

    async def run() -> None:
        await asyncio.sleep(0)
        ran.set()

    def items() -> Iterator[Any]:
        yield run()
        raise Boom("half way")

    assert str(await caught(items())) == "half way"
    assert ran.is_set()


async def test_a_part_cancelled_by_somebody_else_has_failed() -> None:
    """A part that somebody else cancels raises CancelledError at the yield; the waiting Task is not cancelled."""
    part = new_future()
    waiting = caught([give(1), part])
    await next_turns()
    part.cancel()
    assert isinstance(await waiting, asyncio.CancelledError)
    assert not waiting.cancelled()


async def test_a_cancellation_met_while_starting_is_a_failure_of_that_part() -> None:
    """CancelledError raised by what starts a part is raised at the yield, after the others ended."""
    ended = asyncio.Event()

    async def run() -> None:
        await asyncio.sleep(0)
        ended.set()

    error = await caught([lambda callback: cancelled_future().result(), run()])
    assert isinstance(error, asyncio.CancelledError)
    assert ended.is_set()


async def test_a_future_of_another_loop_is_refused() -> None:
    """A Future of another loop fails to start; the parts beside it run and are waited for."""
    other = asyncio.new_event_loop()
    try:
        ran = asyncio.Event()

        async def run() -> None:
            await asyncio.sleep(0)
            ran.set()

        assert isinstance(await caught([other.create_future(), run()]), ValueError)
        assert ran.is_set()
    finally:
        other.close()


async def test_an_awaitable_starts_itself_if_it_can() -> None:
    """In a container an awaitable that has __adisp_start__ is started by it, and its own Future waited for."""
    future = new_future()

    class Recipe(Awaitable):
        def __adisp_start__(self) -> asyncio.Future[Any]:
            return future

    waiting = wait_for([Recipe()])
    await next_turns()
    future.set_result("from its own Future")
    assert await waiting == ["from its own Future"]


async def test_an_awaitable_alone_is_awaited_without_a_future() -> None:
    """An awaitable that is yielded alone is awaited: starting it would cost a Future for nothing."""

    class Recipe(Awaitable):
        def __adisp_start__(self) -> asyncio.Future[Any]:
            raise AssertionError("started")

    assert await wait_for(Recipe()) == "result"


async def test_a_start_method_of_an_instance_does_not_count() -> None:
    """How an awaitable is started is asked of its type: a recorder has every attribute."""
    recipe: Any = Awaitable()
    recipe.__adisp_start__ = raise_boom
    assert await wait_for([recipe]) == ["result"]


# --- cancellation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("within", [lambda part: part, lambda part: [part], lambda part: {"a": (part, {part})}])
async def test_cancelling_at_once_cancels_what_was_yielded(within: Callable[[Any], Any]) -> None:
    """A Task that is cancelled before its first step cancels the Futures that its generator waits for."""
    part = new_future()

    @process
    def run() -> Generator[Any, Any, None]:
        yield within(part)

    task = run()
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), part.cancelled()) == (True, True)


async def test_cancelling_at_once_closes_coroutines() -> None:
    """A coroutine that was yielded and not begun is closed, so that nobody is told that it was never awaited."""
    coroutine = give("a")

    @process
    def run() -> Generator[Any, Any, None]:
        yield [coroutine, lambda callback: callback()]

    task = run()
    task.cancel()
    await asyncio.wait([task])
    with pytest.raises(RuntimeError, match="cannot reuse"):
        await coroutine


async def test_cancelling_raises_at_the_yield() -> None:
    """Cancelling the Task raises CancelledError at the yield, runs finally, and leaves the Task cancelled."""
    noted = Noted()
    task = noted.wait(new_future())
    await next_turns()
    task.cancel()
    await asyncio.wait([task])
    assert isinstance(noted.raised, asyncio.CancelledError)
    assert noted.cleaned
    assert task.cancelled()


async def test_cancelling_cancels_what_is_waited_for() -> None:
    """Cancelling the Task cancels the Future that the generator waits for."""
    future = new_future()
    task = wait_for(future)
    await next_turns()
    task.cancel()
    await asyncio.wait([task])
    assert future.cancelled()


async def test_cancelling_cancels_all_parts_and_waits_for_their_end() -> None:
    """Parts that run in parallel are all cancelled and have ended when CancelledError is raised at the yield."""
    log: list[str] = []

    @process
    def parallel() -> Generator[Any, Any, None]:
        try:
            yield [Part(log, "a"), {"key": Part(log, "b")}]
        except asyncio.CancelledError:
            log.append("raised")
            raise

    task = parallel()
    await next_turns()
    task.cancel()
    await asyncio.wait([task])
    assert log == ["a started", "b started", "a ended", "b ended", "raised"]
    assert task.cancelled()


async def test_a_part_that_failed_before_the_cancellation_is_logged(logged: Callable[[], Any]) -> None:
    """A failure that CancelledError keeps from being raised is logged; the cancelled parts are not."""
    task = wait_for([fail("early"), new_future()])
    await next_turns()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert logged() == [("slacker.adisp", logging.ERROR, "early")]


async def test_a_generator_may_refuse_to_be_cancelled() -> None:
    """A generator that catches CancelledError can yield again and return a result."""

    @process
    def stubborn() -> Generator[Any, Any, str]:
        try:
            yield new_future()
        except asyncio.CancelledError:
            return (yield give("cleaned up"))
        raise AssertionError("not cancelled")

    task = stubborn()
    await next_turns()
    task.cancel()
    assert await task == "cleaned up"


async def test_a_task_cancelled_before_its_first_step_raises_at_the_yield() -> None:
    """Cancelled in the turn it was made, a Task never runs; the generator, which has begun, gets CancelledError."""
    noted = Noted()
    task = noted.wait(new_future())
    task.cancel()
    await asyncio.wait([task])
    assert isinstance(noted.raised, asyncio.CancelledError)
    assert noted.cleaned
    assert task.cancelled()


async def test_a_generator_that_goes_on_after_that_is_closed() -> None:
    """If the Task never ran, nobody drives what the generator yields on CancelledError: it is closed."""
    steps = []

    @process
    def stubborn() -> Generator[Any, Any, None]:
        try:
            try:
                yield new_future()
            except asyncio.CancelledError:
                yield new_future()
        finally:
            steps.append("closed")

    task = stubborn()
    task.cancel()
    await asyncio.wait([task])
    assert steps == ["closed"]


async def test_a_generator_that_returns_after_that_is_done(logged: Callable[[], Any]) -> None:
    """If the Task never ran, what the generator returns on CancelledError is dropped: the Task is cancelled already."""
    task = caught(new_future())
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert logged() == []


async def test_a_failure_while_that_is_cleaned_up_reaches_the_loop() -> None:
    """What the generator raises although its Task never ran goes to the loop's exception handler."""
    contexts: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))

    @process
    def fails_to_clean_up() -> Generator[Any, Any, None]:
        try:
            yield new_future()
        finally:
            raise Boom("in finally")

    task = fails_to_clean_up()
    task.cancel()
    await asyncio.wait([task])
    assert [str(context["exception"]) for context in contexts] == ["in finally"]


async def test_a_timeout_cancels() -> None:
    """asyncio.wait_for and asyncio.timeout stop a generator as they stop a coroutine."""
    noted = Noted()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(noted.wait(new_future()), 0)
    assert noted.cleaned


def test_the_end_of_the_loop_cancels() -> None:
    """A generator that still waits when asyncio.run ends is cancelled, so that its finally runs."""
    noted = Noted()

    async def main() -> None:
        noted.wait(new_future())

    asyncio.run(main())
    assert noted.cleaned


# --- async_ and callbacks -------------------------------------------------------------------------------------


def call(value: Any, callback: Callable[..., None]) -> None:
    callback(value)


def call_soon(value: Any, callback: Callable[..., None]) -> None:
    asyncio.get_running_loop().call_soon(callback, value)


def call_in_thread(value: Any, callback: Callable[..., None]) -> threading.Thread:
    thread = threading.Thread(target=callback, args=(value,))
    thread.start()
    return thread


def call_in_thread_and_join(value: Any, callback: Callable[..., None]) -> None:
    call_in_thread(value, callback).join()


@process
def wait_for_then_call(value: Any, callback: Callable[..., None]) -> Generator[Any, Any, None]:
    callback((yield give(value)))


@pytest.mark.parametrize("func", [call, call_soon, call_in_thread, wait_for_then_call])
@pytest.mark.parametrize("alone", [True, False])
async def test_a_callback_gives_the_result(func: Callable[..., Any], alone: bool) -> None:
    """The callback may be called at once, later, from a thread, or by a generator under process."""
    caller = async_(func)(5)
    assert await wait_for(caller if alone else [caller]) == (5 if alone else [5])


async def test_a_callback_from_a_thread_wakes_the_loop() -> None:
    """A result from another thread takes the loop's thread-safe way: in debug mode asyncio refuses any other."""
    asyncio.get_running_loop().set_debug(True)
    callbacks: list[Any] = []
    waiting = wait_for(callbacks.append)
    await next_turns()
    call_in_thread_and_join(5, callbacks[0])
    assert await waiting == 5


async def test_a_callback_without_a_value_gives_none() -> None:
    """A callback that is called without a value gives None."""
    assert await wait_for(lambda callback: callback()) is None


async def test_a_callback_takes_one_value() -> None:
    """A callback with two values raises TypeError where it is called."""
    assert isinstance(await caught(lambda callback: callback(1, 2)), TypeError)


async def test_async_decorates_without_arguments() -> None:
    """@async_ makes a function of one with a parameter callback."""

    @async_
    def add(a: int, b: int, callback: Callable[..., None]) -> None:
        callback(a + b)

    assert await wait_for(add(1, b=2)) == 3


async def test_async_decorates_with_arguments() -> None:
    """@async_(cbname=..., cbwrapper=...) names the callback's parameter and wraps the callback."""

    def negative(callback: Callable[..., None]) -> Callable[[int], None]:
        return lambda value: callback(-value)

    @async_(cbname="on_done", cbwrapper=negative)
    def add(a: int, b: int, on_done: Callable[..., None]) -> None:
        on_done(a + b)

    assert await wait_for(add(1, 2)) == -3


async def test_async_is_also_a_function() -> None:
    """async_(func, cbname=...) makes a function fit for process that is not ours to decorate."""

    def add(a: int, b: int, on_done: Callable[..., None]) -> None:
        on_done(a + b)

    assert await wait_for(async_(add, cbname="on_done")(1, 2)) == 3


async def test_async_decorates_methods() -> None:
    """A method under async_ gets its instance."""

    class Adder:
        by = 2

        @async_
        def add(self, a: int, callback: Callable[..., None]) -> None:
            callback(a + self.by)

    assert await wait_for(Adder().add(1)) == 3


async def test_async_over_process_composes() -> None:
    """@async_ over @process makes a generator that another can yield, alone and in parallel."""

    @async_
    @process
    def double(x: int, callback: Callable[..., None]) -> Generator[Any, Any, None]:
        callback(2 * (yield give(x)))

    @process
    def main() -> Generator[Any, Any, Any]:
        one = yield double(1)
        return [one, *(yield [double(2), double(3)])]

    assert await main() == [2, 4, 6]


def test_a_call_of_an_async_function_runs_nothing() -> None:
    """Nothing runs before the dispatcher calls what the call gave, and each call of that runs once."""
    calls: list[Any] = []

    @async_
    def noted(value: Any, callback: Any) -> str:
        calls.append((value, callback))
        return "returned"

    caller = noted(1)
    assert calls == []
    assert caller("first") == "returned"  # type: ignore[arg-type]
    assert caller("second") == "returned"  # type: ignore[arg-type]
    assert calls == [(1, "first"), (1, "second")]


def test_async_takes_no_keyword_but_the_callbacks() -> None:
    """Parameters named like those of async_ reach the function."""
    given: list[Any] = []

    @async_(cbname="on_done")
    def noted(**kwargs: Any) -> None:
        given.append(kwargs)

    noted(func=1, cbname=2, cbwrapper=3, callback=4, args=5)(None)  # type: ignore[arg-type]
    assert given == [{"func": 1, "cbname": 2, "cbwrapper": 3, "callback": 4, "args": 5, "on_done": None}]


def test_a_callback_given_by_hand_is_refused() -> None:
    """The callback comes from the yield: a second one is a TypeError before anything runs."""
    with pytest.raises(TypeError, match="call: leave out 'callback', the yield passes one"):
        async_(call)(1, callback=print)


def test_an_async_function_keeps_its_name() -> None:
    """What async_ makes looks like what was written."""
    assert (async_(call).__name__, async_(call)(1).__name__) == ("call", "call")  # type: ignore[attr-defined]


async def test_a_callable_that_raises_raises_at_the_yield() -> None:
    """What the callable raises is raised at the yield, even if it called the callback before."""

    def calls_and_raises(callback: Callable[..., None]) -> None:
        callback(1)
        raise Boom("after the callback")

    assert str(await caught(fail_at_once)) == "at once"
    assert str(await caught(calls_and_raises)) == "after the callback"


@pytest.mark.parametrize("call_again", [call, call_soon, call_in_thread_and_join])
async def test_a_second_call_of_the_callback_is_ignored(
    call_again: Callable[..., None], logged: Callable[[], Any]
) -> None:
    """The first call of a callback counts. However many follow, one warning names the function."""
    callbacks = []

    @async_
    def generous(callback: Callable[..., None]) -> None:
        callbacks.append(callback)
        callback("first")

    assert await wait_for(generous()) == "first"
    for _ in range(3):
        call_again("later", callbacks[0])
    await next_turns()
    message = f"{generous.__qualname__} called its callback a second time: only the first call counts"
    assert logged() == [("slacker.adisp", logging.WARNING, message)]


@pytest.mark.parametrize("calls", [1, 2])
async def test_a_call_after_the_cancellation_is_ignored(calls: int, logged: Callable[[], Any]) -> None:
    """A callback that is called after the generator was cancelled does nothing, quietly."""
    callbacks: list[Any] = []
    task = wait_for(callbacks.append)
    await next_turns()
    task.cancel()
    await asyncio.wait([task])
    for _ in range(calls):
        callbacks[0]("late")
    assert task.cancelled()
    assert logged() == []


@pytest.mark.parametrize("call_it", [call, call_in_thread_and_join])
def test_a_call_after_the_loop_was_closed_is_ignored(call_it: Callable[..., None], logged: Callable[[], Any]) -> None:
    """A callback that is called when its loop is closed does nothing, quietly, in any thread."""
    callbacks: list[Any] = []

    async def main() -> asyncio.Future[Any]:
        task = wait_for(callbacks.append)
        await next_turns()
        return task

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # it hears that the Task was never finished
    task = loop.run_until_complete(main())
    loop.close()
    call_it("late", callbacks[0])
    assert not task.done()
    assert logged() == []
    adisp._running.discard(task)


@pytest.mark.parametrize(
    "make",
    [fail, lambda: wait_for(fail()), lambda: process(raise_boom)(), lambda: asyncio.ensure_future(fail())],
    ids=["coroutine", "process", "process at once", "Task"],
)
async def test_a_failure_before_the_callback_is_raised_at_the_yield(make: Callable[[], Any]) -> None:
    """An awaitable that the callable returned and that fails before the callback was called does not leave a hang."""
    assert isinstance(await caught(lambda callback: make()), Boom)


async def test_a_returned_awaitable_starts_itself_if_it_can() -> None:
    """What a callable returns is started like any part."""

    class Recipe(Awaitable):
        def __adisp_start__(self) -> asyncio.Future[Any]:
            return asyncio.ensure_future(fail("started"))

    assert str(await caught(lambda callback: Recipe())) == "started"


async def test_a_failure_after_the_callback_is_logged(logged: Callable[[], Any]) -> None:
    """An awaitable that fails after the callback was called cannot be raised: it is logged."""
    ended = asyncio.Event()

    @async_
    @process
    def fails_afterwards(callback: Callable[..., None]) -> Generator[Any, Any, None]:
        callback("result")
        try:
            yield fail("afterwards")
        finally:
            ended.set()

    assert await wait_for(fails_afterwards()) == "result"
    await ended.wait()
    await next_turns()
    assert logged() == [("slacker.adisp", logging.ERROR, "afterwards")]


async def test_an_awaitable_that_ends_first_leaves_the_callback_to_come() -> None:
    """A callable whose awaitable ends well may have handed the callback on: it is still waited for."""
    handed: list[Any] = []
    waiting = wait_for(lambda callback: give(handed.append(callback)))
    await next_turns()
    assert not waiting.done()
    handed[0]("later")
    assert await waiting == "later"


async def test_a_returned_awaitable_that_is_cancelled_raises_at_the_yield() -> None:
    """A returned Future that somebody cancels before the callback was called raises CancelledError at the yield."""
    waiting = caught(lambda callback: cancelled_future())
    await next_turns()
    assert waiting.done()
    assert isinstance(waiting.result(), asyncio.CancelledError)


async def test_cancelling_cancels_what_the_callable_returned() -> None:
    """Cancelling the waiting generator cancels the awaitable that the callable returned."""
    inner = Noted()
    task = wait_for(lambda callback: inner.wait(new_future()))
    await next_turns()
    task.cancel()
    await asyncio.wait([task])
    await next_turns()
    assert isinstance(inner.raised, asyncio.CancelledError)


async def test_a_result_does_not_cancel_what_the_callable_returned() -> None:
    """After its callback a function may have more to do, unattended: it goes on to its end."""
    more, ended = new_future(), asyncio.Event()

    @async_
    @process
    def does_more(callback: Callable[..., None]) -> Generator[Any, Any, None]:
        callback("result")
        yield more
        ended.set()

    assert await wait_for(does_more()) == "result"
    gc.collect()
    more.set_result(None)
    await ended.wait()


async def test_what_the_callable_returned_needs_no_reference() -> None:
    """A returned coroutine that nobody refers to is not collected while it has more to do after its callback."""
    unreferred: list[weakref.ref[asyncio.Future[None]]] = []
    ended = asyncio.Event()

    @async_
    async def does_more(callback: Callable[..., None]) -> None:
        callback("result")
        more = new_future()
        unreferred.append(weakref.ref(more))
        await more
        ended.set()

    assert await wait_for(does_more()) == "result"
    gc.collect()
    more = unreferred[0]()
    assert more is not None
    more.set_result(None)
    await ended.wait()


async def test_many_callbacks_at_once_do_not_recurse() -> None:
    """A generator may yield callables that call back at once as often as it likes."""
    many = sys.getrecursionlimit() + 10

    @process
    def count() -> Generator[Any, Any, int]:
        total = 0
        for _ in range(many):
            total += yield async_(call)(1)
        return total

    assert await count() == many


# --- in the company of Tornado --------------------------------------------------------------------------------


class PageHandler(tornado.web.RequestHandler):
    @process
    def get(self, page: str) -> Generator[Any, Any, None]:
        if page == "missing":
            raise tornado.web.HTTPError(404)
        first, second = yield [give("one "), tornado_coroutine("two ")]
        third = yield async_(call_in_thread)("three")
        if page == "broken":
            raise tornado.web.HTTPError(410)
        self.write(first + second + third)


@contextlib.asynccontextmanager
async def served() -> Any:
    """Serve PageHandler on the loopback; give a function that fetches a page of it."""
    socket, port = tornado.testing.bind_unused_port()
    server = tornado.httpserver.HTTPServer(tornado.web.Application([("/(.*)", PageHandler)]))
    server.add_socket(socket)
    client = tornado.httpclient.AsyncHTTPClient(force_instance=True)
    try:
        yield lambda page: client.fetch(f"http://127.0.0.1:{port}/{page}", raise_error=False)
    finally:
        client.close()
        server.stop()
        await server.close_all_connections()


@pytest.mark.parametrize(
    ("page", "code", "body"), [("page", 200, b"one two three"), ("missing", 404, None), ("broken", 410, None)]
)
async def test_a_handler_method_can_be_decorated(page: str, code: int, body: bytes | None) -> None:
    """Tornado waits for a decorated handler method, and answers with what it wrote or with its HTTPError."""
    async with served() as fetch:
        response = await fetch(page)
    assert response.code == code
    assert body is None or response.body == body


async def test_a_task_can_be_yielded_under_gen_coroutine() -> None:
    """What a decorated function returns can be yielded under tornado.gen.coroutine, also in a list."""

    @tornado.gen.coroutine
    def outer() -> Generator[Any, Any, Any]:
        one = yield wait_for(give(1))
        return [one, *(yield [wait_for(give(2)), wait_for(give(3))])]

    assert await outer() == [1, 2, 3]


def test_the_module_needs_no_other() -> None:
    """adisp imports the standard library only."""
    code = f"import runpy, sys; runpy.run_path({adisp.__file__!r}); print({{'slacker', 'tornado'}} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "set()\n"
