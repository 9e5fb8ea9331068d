"""Running a recipe: await, run, fetch and proceed, on asyncio and on Tornado, and without a loop."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tornado import gen
from tornado.ioloop import IOLoop

from slacker import Slacker, Worker, options, run
from slacker.chain import Chain
from slacker.workers import DummyWorker, ThreadWorker


class Counter:
    """Work that counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    def count(self) -> int:
        self.runs += 1
        return self.runs


class Refusal(Exception):
    pass


def refuse(*args: object) -> None:
    raise Refusal


def counting() -> Slacker:
    return Slacker(Counter().count)()


def returning(result: object) -> Slacker:
    return Slacker([result])[0]


def failing(*args: object) -> Slacker:
    return Slacker(refuse)(*args)


class Recorder(Worker):
    """A worker that has room for nothing, and so is false."""

    def __init__(self) -> None:
        self.chains: list[Chain] = []

    async def run(self, chain: Chain) -> Any:
        self.chains.append(chain)

    def __len__(self) -> int:
        return 0


# --- await -----------------------------------------------------------------------------------------------------------


async def test_await() -> None:
    """To await a recipe gives its result."""
    assert await Slacker("text").upper()[:2] == "TE"


async def test_await_raises() -> None:
    """To await a recipe raises what the work raises."""
    with pytest.raises(Refusal):
        await failing()


async def test_await_returns_exceptions() -> None:
    """An exception object that the work returns is a result."""
    result = ValueError("a result")
    assert await returning(result) is result


async def test_awaited_twice() -> None:
    """A recipe that is awaited twice runs twice."""
    q = counting()
    assert [await q, await q] == [1, 2]


async def test_never_awaited() -> None:
    """A recipe that is never awaited does nothing."""
    counter = Counter()
    Slacker(counter).count()
    assert counter.runs == 0


async def test_in_place_without_worker() -> None:
    """A recipe without a worker runs in place."""
    assert await Slacker(threading).current_thread() is threading.current_thread()


async def test_on_its_worker() -> None:
    """A recipe with a worker runs there."""
    async with ThreadWorker(1) as worker:
        assert await Slacker(threading, worker).current_thread() is not threading.current_thread()


@pytest.mark.parametrize("start", [lambda q: q, run, Slacker.fetch], ids=["await", "run", "fetch"])
async def test_any_worker_will_do(start: Callable[[Slacker], Awaitable[object]]) -> None:
    """The worker gets the chain, also one whose truth value is False."""
    worker = Recorder()
    await start(options(counting().real, worker))
    assert [str(chain) for chain in worker.chains] == ["Counter.count().real"]


async def test_gather_of_a_recipe() -> None:
    """`gather(q, q)` is one run, as it is for any awaitable given twice."""
    q = counting()
    assert await asyncio.gather(q, q) == [1, 1]


async def test_wait_for() -> None:
    """`asyncio.wait_for` takes a recipe."""
    assert await asyncio.wait_for(returning(1), 60) == 1


@contextmanager
def endless() -> Iterator[Callable[[], bool]]:
    """Give work that ends with the test."""
    end = threading.Event()
    try:
        yield end.wait
    finally:
        end.set()


async def test_timeout() -> None:
    """`asyncio.timeout` ends waiting for a recipe, whatever becomes of the work."""
    async with ThreadWorker(1) as worker:
        with endless() as work, pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await Slacker(work, worker)()


# --- run -------------------------------------------------------------------------------------------------------------


def test_asyncio_run() -> None:
    """`asyncio.run` takes what `run` returns."""
    assert asyncio.run(run(returning(1))) == 1


async def test_create_task() -> None:
    """`asyncio.create_task` takes what `run` returns."""
    assert await asyncio.create_task(run(returning(1))) == 1


async def test_task_group() -> None:
    """A task group takes what `run` returns, each time for a run of its own."""
    q = counting()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(q)) for _ in range(3)]
    assert {task.result() for task in tasks} == {1, 2, 3}


# --- fetch -----------------------------------------------------------------------------------------------------------


async def test_fetch_is_a_future() -> None:
    """`fetch` returns a Future of the running loop."""
    future = counting().fetch()
    await future
    assert (asyncio.isfuture(future), future.get_loop()) == (True, asyncio.get_running_loop())


async def test_fetch_is_one_run() -> None:
    """A Future that is awaited twice is still one run."""
    future = counting().fetch()
    assert [await future, await future] == [1, 1]


async def test_gather_of_fetches() -> None:
    """`gather(q.fetch(), q.fetch())` is two runs."""
    q = counting()
    assert set(await asyncio.gather(q.fetch(), q.fetch())) == {1, 2}


async def test_fetch_starts_now() -> None:
    """What was fetched runs whether or not somebody awaits it."""
    async with ThreadWorker(1) as worker:
        began = threading.Event()
        Slacker(began, worker).set().fetch()
    assert began.is_set()


async def test_fetch_raises() -> None:
    """The Future fails with what the work raises."""
    future = failing().fetch()
    with pytest.raises(Refusal):
        await future


async def test_fetch_is_kept() -> None:
    """A Future needs no reference: what it runs is not lost to the garbage collector."""
    done = asyncio.Event()
    Slacker(done.set)().fetch()
    await done.wait()


# --- proceed ---------------------------------------------------------------------------------------------------------


def promise() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def reports() -> asyncio.Future[Any]:
    """Return a Future for what the loop's exception handler is called with."""
    reported = promise()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.set_result(context))
    return reported


@pytest.mark.parametrize("result", [1, None, [], ValueError("a result")], ids=repr)
async def test_callback(result: object) -> None:
    """The callback gets the result, whatever it is, an exception object included."""
    done = promise()
    returning(result).proceed(done.set_result)
    assert await done is result


async def test_callback_on_the_loop() -> None:
    """The callback runs on the loop that called, wherever the work did."""
    done = promise()
    async with ThreadWorker(1) as worker:
        Slacker(threading, worker).current_thread().proceed(lambda _: done.set_result(threading.current_thread()))
        assert await done is threading.current_thread()


async def test_callback_only_on_success() -> None:
    """A failure goes to `on_error`, and only there."""
    results: list[object] = []
    failed = promise()
    failing().proceed(results.append, failed.set_result)
    assert (type(await failed), results) == (Refusal, [])


async def test_on_error_only_on_failure() -> None:
    """A result goes to the callback, and only there."""
    errors: list[object] = []
    done = promise()
    returning(1).proceed(done.set_result, errors.append)
    assert (await done, errors) == (1, [])


async def test_no_on_error() -> None:
    """Without `on_error` a failure goes to the loop's exception handler."""
    reported = reports()
    failing().proceed(promise().set_result)
    assert isinstance((await reported)["exception"], Refusal)


async def test_no_on_error_names_the_recipe() -> None:
    """What is reported names the recipe, without its values."""
    reported = reports()
    failing("hunter2").proceed()
    assert (await reported)["message"] == "refuse(...) failed, and proceed() was given no on_error"


@pytest.mark.parametrize(
    "proceed",
    [lambda: returning(1).proceed(refuse), lambda: failing().proceed(None, refuse)],
    ids=["callback", "on_error"],
)
async def test_failing_callback(proceed: Callable[[], None]) -> None:
    """A callback that raises is reported to the loop's exception handler."""
    reported = reports()
    proceed()
    assert isinstance((await reported)["exception"], Refusal)


async def test_failing_callback_tells_no_values(caplog: pytest.LogCaptureFixture) -> None:
    """What is logged of a callback that raises has no argument of the recipe: it may be a password."""
    called = promise()

    def fail(_result: object) -> None:
        called.set_result(None)
        raise Refusal

    with caplog.at_level(logging.DEBUG):
        Slacker(hash)("hunter2").proceed(fail)
        await called
    assert ("Refusal" in caplog.text, "hunter2" in caplog.text) == (True, False)


async def test_no_callback() -> None:
    """Without callbacks a recipe just runs."""
    done = asyncio.Event()
    Slacker(done.set)().proceed()
    await done.wait()


async def async_callback(_result: object) -> None: ...


@pytest.mark.parametrize("given", [1, "print", async_callback, counting()], ids=["int", "str", "async def", "recipe"])
@pytest.mark.parametrize("name", ["callback", "on_error"])
async def test_wrong_callback(name: str, given: Any) -> None:
    """A callback that cannot be called, or would do nothing when called, is refused, and nothing is started."""
    counter = Counter()
    with pytest.raises(TypeError, match=f"{name} must be a plain function or None, got .*; nothing was started"):
        Slacker(counter).count().proceed(**{name: given})
    await asyncio.sleep(0)
    assert counter.runs == 0


async def test_callback_context() -> None:
    """A callback sees the context variables of whoever called `proceed`."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("at the call")
    done = promise()
    returning(1).proceed(lambda _: done.set_result(variable.get()))
    variable.set("later")
    assert await done == "at the call"


def test_end_of_the_loop() -> None:
    """A call that the end of its loop cancels calls nothing back."""
    called: list[object] = []

    class Forever(Worker):
        async def run(self, chain: Chain) -> Any:
            await promise()

    async def main() -> None:
        options(counting(), Forever()).proceed(called.append, called.append)

    asyncio.run(main())
    assert called == []


# --- Tornado ---------------------------------------------------------------------------------------------------------


def test_run_sync() -> None:
    """`IOLoop.run_sync` takes a function that returns a recipe."""
    loop = IOLoop(make_current=False)
    assert loop.run_sync(lambda: returning(1)) == 1
    loop.close()


@pytest.mark.parametrize(
    ("yielded", "result"),
    [
        (returning(1), 1),
        ([returning(1), returning(2)], [1, 2]),
        ({"a": returning(1), "b": returning(2)}, {"a": 1, "b": 2}),
    ],
    ids=["recipe", "list", "dict"],
)
async def test_gen_coroutine(yielded: object, result: object) -> None:
    """Under `tornado.gen.coroutine` a recipe can be yielded, also several in a list or dict."""

    @gen.coroutine
    def work() -> Any:
        return (yield yielded)

    assert await work() == result


async def test_gen_coroutine_raises() -> None:
    """What the work raises is raised at the yield."""

    @gen.coroutine
    def work() -> Any:
        with pytest.raises(Refusal):
            yield failing()

    await work()


# --- no loop ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("worker", [None, DummyWorker(), ThreadWorker(1)], ids=["none", "DummyWorker", "ThreadWorker"])
@pytest.mark.parametrize("start", [Slacker.fetch, Slacker.proceed], ids=["fetch", "proceed"])
def test_no_loop(start: Callable[[Slacker], object], worker: Worker | None) -> None:
    """Without a running loop there is nowhere to bring a result to: the error says how to get one."""
    counter = Counter()
    with pytest.raises(RuntimeError, match=r"IOLoop\.current\(\)\.run_sync\(.*asyncio\.run\(slacker\.run\(q\)\)"):
        start(Slacker(counter, worker).count())
    assert counter.runs == 0
