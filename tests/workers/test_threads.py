"""What a pool of threads promises besides the contract: bounds, cancelling, closing, forks, exits, lost wake-ups."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import random
import subprocess
import textwrap
import threading
import time
import types
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from slacker import DeadlineExceeded, QueueFull, RemoteError, Slacker, SlackerError, WorkerClosed, options
from slacker.chain import capture
from slacker.workers import ThreadWorker, local, pool
from tests.waiting import LIVENESS

from . import work
from .work import VAR, Blocker, OutOfStock, Payload

Threads = Callable[[], list[threading.Thread]]
Logged = Callable[[int], list[str]]
RunScript = Callable[[str], subprocess.CompletedProcess[str]]


async def ended(thread: threading.Thread) -> None:
    await asyncio.to_thread(thread.join, LIVENESS)
    assert not thread.is_alive()


# --- how many threads --------------------------------------------------------------------------------------------


async def test_runs_as_many_calls_at_once_as_it_may() -> None:
    """All of max_workers calls run at once: each waits for the others."""
    barrier = threading.Barrier(4)
    async with ThreadWorker(4) as worker:
        passed = await asyncio.gather(*[Slacker(barrier, worker).wait(LIVENESS) for _ in range(4)])
    assert sorted(passed) == [0, 1, 2, 3]


async def test_never_runs_more_calls_at_once_than_it_may(threads: Threads) -> None:
    """Of many calls never more than max_workers run at once."""
    barrier, lock = threading.Barrier(3), threading.Lock()
    running = most = 0

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait(LIVENESS)
        with lock:
            running -= 1

    async with ThreadWorker(3) as worker:
        await asyncio.gather(*[Slacker(call, worker)() for _ in range(30)])
        assert (most, len(threads())) == (3, 3)


async def test_starts_threads_when_there_is_work(threads: Threads) -> None:
    """There is no thread before the first call, and one after it."""
    async with ThreadWorker(4) as worker:
        assert threads() == []
        await Slacker(work.echo, worker)(1)
        assert len(threads()) == 1


async def test_completes_a_burst_of_tiny_calls() -> None:
    """Of thousands of calls at once each gets its own result."""
    async with ThreadWorker(4) as worker:
        futures = [Slacker(work.echo, worker)(number).fetch() for number in range(5_000)]
        assert await asyncio.gather(*futures) == list(range(5_000))


async def test_ends_idle_threads_and_starts_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread without work ends after IDLE_SECONDS, and the next call gets another."""
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.01)
    async with ThreadWorker(1) as worker:
        first = await Slacker(threading.current_thread, worker)()
        await ended(first)
        assert await Slacker(threading.current_thread, worker)() is not first


@pytest.mark.parametrize("idle", [0.0, 0.000_05])
async def test_loses_no_call_to_threads_that_end(monkeypatch: pytest.MonkeyPatch, idle: float) -> None:
    """Calls that come just when threads have been idle for too long all complete."""
    monkeypatch.setattr(pool, "IDLE_SECONDS", idle)
    async with ThreadWorker(2) as worker:
        q = Slacker(work.echo, worker)(1)
        for _ in range(1_000):
            assert await asyncio.gather(q, q, q) == [1, 1, 1]


async def test_a_call_that_finds_the_last_thread_leaving_gets_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call made while the only thread is at its last act runs as soon as that is done."""
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.0)
    last_act = Blocker()

    class Worker(ThreadWorker):
        on_thread_exit = staticmethod(last_act.wait)

    async with Worker(1) as worker:
        await Slacker(work.echo, worker)("a")
        await last_act.begun()
        second = Slacker(work.echo, worker)("b").fetch()
        last_act.release()
        assert await second == "b"


async def test_names_its_threads() -> None:
    """Threads are numbered behind the prefix given, which is ``slacker`` by default."""
    async with ThreadWorker(1) as plain, ThreadWorker(1, thread_name_prefix="slacker-shop") as named:
        for worker, name in ((plain, "slacker-1"), (named, "slacker-shop-1")):
            assert (await Slacker(threading.current_thread, worker)()).name == name


async def test_calls_on_thread_exit_in_each_thread() -> None:
    """on_thread_exit is called once in each thread, as its last act."""
    barrier = threading.Barrier(3)
    began: list[int] = []
    left: list[int] = []

    def call() -> None:
        began.append(threading.get_ident())
        barrier.wait(LIVENESS)

    class Worker(ThreadWorker):
        @staticmethod
        def on_thread_exit() -> None:
            left.append(threading.get_ident())

    async with Worker(3) as worker:
        await asyncio.gather(*[Slacker(call, worker)() for _ in range(3)])
        assert left == []
    assert sorted(left) == sorted(began)


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
async def test_survives_a_failing_on_thread_exit(kind: type[BaseException], logged: Logged) -> None:
    """What on_thread_exit raises is logged, and the thread is gone all the same."""

    class Worker(ThreadWorker):
        @staticmethod
        def on_thread_exit() -> None:
            raise kind("connection")

    async with Worker(1) as worker:
        await Slacker(work.echo, worker)(1)
    assert logged(logging.ERROR) == ["slacker: what a thread does as its last act failed"]


@pytest.mark.parametrize("given", [{"max_workers": 0}, {"max_workers": -1}, {"max_queue": -1}])
def test_refuses_counts_that_are_too_small(given: dict[str, Any]) -> None:
    """A count below the least that makes sense is a ValueError that names it."""
    with pytest.raises(ValueError, match=f"{next(iter(given))} must be at least"):
        ThreadWorker(**given)


@pytest.mark.parametrize("name", ["max_workers", "max_queue"])
@pytest.mark.parametrize("value", [True, "4", 2.5])
def test_refuses_counts_that_are_no_whole_numbers(name: str, value: Any) -> None:
    """A count that is no int, or a bool, is a TypeError that names it."""
    with pytest.raises(TypeError, match=f"{name} must be a whole number, got {value!r}"):
        ThreadWorker(**{name: value})


def test_has_cores_and_four_threads_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default there may be cores + 4 threads, at most 32."""
    for cores, threads in ((2, 6), (64, 32), (None, 5)):
        monkeypatch.setattr(local.os, "cpu_count", lambda cores=cores: cores)
        assert repr(ThreadWorker()) == f"ThreadWorker(max_workers={threads})"


def test_shows_its_bounds() -> None:
    """The repr tells how many calls may run and wait."""
    assert repr(ThreadWorker(2, max_queue=0)) == "ThreadWorker(max_workers=2, max_queue=0)"


# --- threads that cannot be started ------------------------------------------------------------------------------


@pytest.fixture
def no_more_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function from which on the system has no more threads for slacker."""

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("slacker"):
            raise RuntimeError("can't start new thread")
        really_start(thread)

    really_start = threading.Thread.start
    return lambda: monkeypatch.setattr(threading.Thread, "start", start)


async def test_says_when_no_thread_can_be_started(
    no_more_threads: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that no thread can be started for fails, did not run, and is followed by calls that do."""
    async with ThreadWorker(1) as worker:
        no_more_threads()
        with pytest.raises(SlackerError, match=r"no thread could be started \(can't start new thread\)") as caught:
            await Slacker(work.echo, worker)("a")
        assert caught.value.executed is False
        monkeypatch.undo()
        assert await Slacker(work.echo, worker)("b") == "b"


async def test_goes_on_with_fewer_threads_than_it_may(no_more_threads: Callable[[], None]) -> None:
    """Calls that another thread cannot be started for wait for those there are."""
    blocker = Blocker()
    async with ThreadWorker(2) as worker:
        first = Slacker(blocker, worker).wait("a").fetch()
        await blocker.begun()
        no_more_threads()
        second = Slacker(work.echo, worker)("b").fetch()
        blocker.release()
        assert await asyncio.gather(first, second) == ["a", "b"]


async def test_says_when_the_last_thread_leaves_and_no_other_can_be_started(
    no_more_threads: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that a leaving thread does not take fail when no other can be started; cancelled ones are let go."""
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.0)
    last_act = Blocker()

    class Worker(ThreadWorker):
        on_thread_exit = staticmethod(last_act.wait)

    async with Worker(1) as worker:
        await Slacker(work.echo, worker)("a")
        await last_act.begun()
        no_more_threads()
        cancelled, failing = (Slacker(work.echo, worker)("b").fetch() for _ in range(2))
        cancelled.cancel()
        last_act.release()
        with pytest.raises(SlackerError, match="no thread could be started"):
            await failing


# --- the bound of what waits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_queue", [0, 1, 5])
async def test_refuses_calls_beyond_its_bound(max_queue: int) -> None:
    """While all threads are busy max_queue calls may wait; one more raises QueueFull and did not run."""
    blocker = Blocker()
    async with ThreadWorker(2, max_queue=max_queue) as worker:
        accepted = [Slacker(blocker, worker).wait(number).fetch() for number in range(2 + max_queue)]
        with pytest.raises(QueueFull, match=f"2 workers are busy and {max_queue} calls wait") as caught:
            await Slacker(blocker, worker).wait("one more")
        assert caught.value.executed is False
        blocker.release()
        assert await asyncio.gather(*accepted) == list(range(2 + max_queue))
        assert "one more" not in blocker.values
        assert await Slacker(blocker, worker).wait("after") == "after"


async def test_cancelled_calls_make_room() -> None:
    """A call that is cancelled while it waits makes room for another, and never runs."""
    blocker = Blocker()
    async with ThreadWorker(1, max_queue=1) as worker:
        running = Slacker(blocker, worker).wait("running").fetch()
        await blocker.begun()
        Slacker(blocker, worker).wait("cancelled").fetch().cancel()
        waiting = Slacker(blocker, worker).wait("waiting").fetch()
        with pytest.raises(QueueFull):
            await Slacker(blocker, worker).wait("one more")
        blocker.release()
        await asyncio.gather(running, waiting)
    assert blocker.values == ["running", "waiting"]


# --- cancelling --------------------------------------------------------------------------------------------------


async def test_cancelled_while_waiting_never_runs() -> None:
    """A call that is cancelled while it waits never runs."""
    blocker = Blocker()
    async with ThreadWorker(1) as worker:
        calls = [Slacker(blocker, worker).wait(name).fetch() for name in ("a", "b", "c", "d")]
        await blocker.begun()
        calls[1].cancel()
        calls[3].cancel()
        blocker.release()
    assert blocker.values == ["a", "c"]


@pytest.mark.parametrize("how", ["fetch", "task"])
async def test_cancelled_while_running_frees_the_caller(how: str) -> None:
    """Cancelling a call that runs frees the caller while the work goes on."""
    blocker = Blocker()
    async with ThreadWorker(1) as worker:
        q = Slacker(blocker, worker).wait("a")
        call: asyncio.Future[Any] = q.fetch() if how == "fetch" else asyncio.ensure_future(q)
        await blocker.begun()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        blocker.release()


async def test_a_time_limit_frees_the_caller() -> None:
    """wait_for raises TimeoutError while the work goes on."""
    blocker = Blocker()
    async with ThreadWorker(1) as worker:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Slacker(blocker, worker).wait("a").fetch(), 0.01)
        blocker.release()


async def test_logs_the_exception_of_abandoned_work_once(logged: Logged, caplog: pytest.LogCaptureFixture) -> None:
    """When work fails whose caller was cancelled, its exception is logged, once."""
    blocker = Blocker()
    async with ThreadWorker(1) as worker:
        call = Slacker(blocker, worker).wait_and_fail(OutOfStock("Emma", left=0)).fetch()
        await blocker.begun()
        call.cancel()
        blocker.release()
        await Slacker(work.echo, worker)("its result comes after")
    assert logged(logging.ERROR) == ["Blocker(...).wait_and_fail(...) failed after its caller had gone"]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[0] is OutOfStock


async def test_drops_the_result_of_abandoned_work(logged: Logged) -> None:
    """When work returns whose caller was cancelled, nobody hears of it."""
    blocker = Blocker()
    async with ThreadWorker(1) as worker:
        call = Slacker(blocker, worker).wait("a").fetch()
        await blocker.begun()
        call.cancel()
        blocker.release()
        await Slacker(work.echo, worker)("its result comes after")
    assert logged(logging.WARNING) + logged(logging.ERROR) == []


async def test_abandoned_work_keeps_its_thread_to_the_end() -> None:
    """Work whose caller was cancelled counts as running until it ends, and no longer."""
    blocker = Blocker()
    async with ThreadWorker(1, max_queue=1) as worker:
        abandoned = Slacker(blocker, worker).wait("a").fetch()
        await blocker.begun()
        abandoned.cancel()
        waiting = Slacker(work.echo, worker)("b").fetch()
        with pytest.raises(QueueFull):
            await Slacker(work.echo, worker)("c")
        blocker.release()
        await waiting
        assert await asyncio.gather(*[Slacker(work.echo, worker)(name) for name in "de"]) == ["d", "e"]


# --- closing -----------------------------------------------------------------------------------------------------


async def test_closing_waits_for_accepted_calls(threads: Threads) -> None:
    """aclose returns when running and waiting calls are done and the threads have ended."""
    blocker = Blocker()
    worker = ThreadWorker(1)
    calls = [Slacker(blocker, worker).wait(name).fetch() for name in "ab"]
    await blocker.begun()
    closing = asyncio.create_task(worker.aclose(LIVENESS))
    await asyncio.sleep(0)
    with pytest.raises(WorkerClosed):
        await Slacker(blocker, worker).wait("c")
    assert not closing.done()
    blocker.release()
    await closing
    assert blocker.values == await asyncio.gather(*calls) == ["a", "b"]
    for thread in threads():
        await ended(thread)


async def test_closing_gives_up_on_time(logged: Logged) -> None:
    """Past the time limit calls that wait fail and did not run; those that run are named in one warning and end."""
    blocker = Blocker()
    worker = ThreadWorker(1)
    running = Slacker(blocker, worker).wait("a").fetch()
    waiting, cancelled = (Slacker(work.echo, worker)("b").fetch() for _ in range(2))
    await blocker.begun()
    cancelled.cancel()
    await worker.aclose(timeout=0.01)
    with pytest.raises(WorkerClosed, match=r"echo\(\.\.\.\) did not run") as caught:
        await waiting
    assert caught.value.executed is False
    assert logged(logging.WARNING) == ["slacker: still running 0.01 s after it was closed: Blocker(...).wait(...)"]
    blocker.release()
    assert await running == "a"


async def test_closing_names_no_more_than_ten_calls(logged: Logged) -> None:
    """A warning about many calls names ten and counts the others."""
    blocker = Blocker()
    worker = ThreadWorker(12)
    calls = [Slacker(blocker, worker).wait().fetch() for _ in range(12)]
    await blocker.begun(12)
    await worker.aclose(timeout=0)
    (line,) = logged(logging.WARNING)
    assert line.count("Blocker(...).wait()") == 10
    assert line.endswith(" and 2 more")
    blocker.release()
    await asyncio.gather(*calls)


async def test_closing_gives_up_on_a_last_act_in_silence(logged: Logged) -> None:
    """Past the time limit a thread that is no more than leaving is not worth a warning."""
    last_act = Blocker()

    class Worker(ThreadWorker):
        on_thread_exit = staticmethod(last_act.wait)

    worker = Worker(1)
    await Slacker(work.echo, worker)("a")
    await worker.aclose(timeout=0)
    last_act.release()
    assert logged(logging.WARNING) == []


async def test_two_may_close_at_once() -> None:
    """Each of two aclose calls, one of them on another loop, returns when all is done."""
    blocker = Blocker()
    worker = ThreadWorker(2)
    call = Slacker(blocker, worker).wait("a").fetch()
    await blocker.begun()
    closing = [asyncio.create_task(worker.aclose(LIVENESS)), asyncio.create_task(worker.aclose(LIVENESS))]
    elsewhere = asyncio.create_task(asyncio.to_thread(asyncio.run, worker.aclose(LIVENESS)))
    await asyncio.sleep(0)
    blocker.release()
    await asyncio.gather(*closing, elsewhere)
    assert await call == "a"


async def test_closing_ends_all_idle_threads(threads: Threads) -> None:
    """aclose wakes every idle thread, and all end."""
    barrier = threading.Barrier(8)
    async with ThreadWorker(8) as worker:
        await asyncio.gather(*[Slacker(barrier, worker).wait(LIVENESS) for _ in range(8)])
        idle = threads()
    assert len(idle) == 8
    for thread in idle:
        await ended(thread)


def test_threads_outlive_the_loop_that_closes_the_worker(threads: Threads, logged: Logged) -> None:
    """A loop that is closed while aclose still waits harms no thread."""
    blocker = Blocker()
    worker = ThreadWorker(1)

    async def begin_to_close() -> asyncio.Task[None]:
        Slacker(blocker, worker).wait().fetch()
        await blocker.begun()
        closing = asyncio.create_task(worker.aclose(LIVENESS))
        await asyncio.sleep(0)
        return closing

    loop = asyncio.new_event_loop()
    closing = loop.run_until_complete(begin_to_close())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    (thread,) = threads()
    blocker.release()
    thread.join(LIVENESS)
    assert logged(logging.DEBUG)[-1] == "slacker ended after the loop that closed it"
    closing._log_destroy_pending = False  # type: ignore[attr-defined]


# --- never closed ------------------------------------------------------------------------------------------------


async def test_threads_of_a_forgotten_worker_end(threads: Threads) -> None:
    """When a worker is collected that was never closed, its idle threads end."""
    worker = ThreadWorker(4)
    barrier = threading.Barrier(4)
    await asyncio.gather(*[Slacker(barrier, worker).wait(LIVENESS) for _ in range(4)])
    idle = threads()
    assert len(idle) == 4
    del worker
    gc.collect()
    for thread in idle:
        await ended(thread)


async def test_results_of_a_forgotten_worker_arrive() -> None:
    """When a worker is collected whose calls run or wait, their results still arrive."""
    blocker = Blocker()
    worker = ThreadWorker(1)
    forgotten = weakref.ref(worker)
    calls = [Slacker(blocker, worker).wait(name).fetch() for name in "ab"]
    await blocker.begun()
    del worker
    gc.collect()
    assert forgotten() is None
    blocker.release()
    assert await asyncio.gather(*calls) == ["a", "b"]


async def test_a_worker_that_only_its_own_calls_refer_to_is_collected(threads: Threads) -> None:
    """A worker that goes together with its last waiting call, inside of its own pool, blocks nothing."""

    class Shop:
        def __init__(self) -> None:
            self.worker = ThreadWorker(1)

        def close(self) -> None:
            raise AssertionError("cancelled, so it never runs")

    shop, blocker = Shop(), Blocker()
    running = Slacker(blocker, shop.worker).wait("a").fetch()
    await blocker.begun()
    Slacker(shop, shop.worker).close().fetch().cancel()
    (thread,) = threads()
    del shop
    gc.collect()
    blocker.release()
    assert await running == "a"
    await ended(thread)


def test_letting_go_of_a_worker_does_not_wait_for_its_lock_for_ever() -> None:
    """A worker that is collected while a stuck thread holds the lock of its pool takes no more calls all the same."""
    worker = ThreadWorker(1)
    its_pool = worker._pool
    held, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with its_pool._mutex:
            held.set()
            may_end.wait(LIVENESS)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(LIVENESS)
    del worker
    gc.collect()
    assert its_pool.closed
    may_end.set()
    holder.join()


async def test_a_call_made_by_a_finalizer_inside_of_the_pool_runs() -> None:
    """A call that is made while another call is being queued, as a ``__del__`` may do, runs as well."""
    inner: list[asyncio.Future[Any]] = []

    class Shop:
        def __del__(self) -> None:
            inner.append(Slacker(work.echo, worker)("inner").fetch())

        def close(self) -> None:
            raise AssertionError("cancelled, so it never runs")

    blocker = Blocker()
    async with ThreadWorker(1, max_queue=2) as worker:
        running = Slacker(blocker, worker).wait("a").fetch()
        await blocker.begun()
        Slacker(work.echo, worker)("cancelled").fetch().cancel()
        Slacker(Shop(), worker).close().fetch().cancel()
        outer = Slacker(work.echo, worker)("outer").fetch()  # to make room the cancelled calls go, with them the shop
        blocker.release()
        assert await asyncio.gather(running, outer, *inner) == ["a", "outer", "inner"]


async def test_keeps_nothing_of_a_call(without_gc: None) -> None:
    """Arguments, result, context and exception of a call are freed when the caller lets go, though the thread lives."""
    gone = [threading.Event() for _ in range(4)]

    def watch(*watched: Any) -> None:
        for event, value in zip(gone, watched, strict=True):
            weakref.finalize(value, event.set)

    async def call(worker: ThreadWorker) -> None:
        argument, in_context = Payload(), Payload()
        VAR.set(in_context)  # type: ignore[arg-type]
        result = await Slacker(Payload, worker)()
        await Slacker(work.echo, worker)(argument)
        try:
            await Slacker(work.fail, worker)(OutOfStock, "Emma", left=0)
        except OutOfStock as error:
            watch(argument, in_context, result, error)

    async with ThreadWorker(1) as worker:
        await asyncio.create_task(call(worker))
        for event in gone:
            assert await asyncio.to_thread(event.wait, LIVENESS)


# --- loops and threads -------------------------------------------------------------------------------------------


def test_a_loop_that_is_closed_meanwhile_harms_no_thread(logged: Logged) -> None:
    """A result for a closed loop is dropped, an exception logged, and the thread takes the next call."""
    blocker = Blocker()
    worker = ThreadWorker(1)

    async def begin() -> threading.Thread:
        thread = await Slacker(threading.current_thread, worker)()
        Slacker(blocker, worker).wait("dropped").fetch()
        Slacker(blocker, worker).wait_and_fail(OutOfStock("Emma", left=0)).fetch()
        await blocker.begun()
        return thread

    async def go_on() -> threading.Thread:
        async with worker:
            return await Slacker(threading.current_thread, worker)()

    thread = asyncio.run(begin())
    blocker.release()
    assert asyncio.run(go_on()) is thread
    assert logged(logging.WARNING) == []
    assert logged(logging.ERROR) == ["Blocker(...).wait_and_fail(...) failed after its caller had gone"]


def test_many_loops_share_a_pool() -> None:
    """Of eight loops in eight threads that make thousands of calls each, none gets a wrong result, or too few."""
    worker = ThreadWorker(4)
    failed: list[BaseException] = []

    async def produce(producer: int) -> None:
        for start in range(0, 2_000, 100):
            numbers = [(producer, number) for number in range(start, start + 100)]
            assert await asyncio.gather(*[Slacker(work.echo, worker)(n).fetch() for n in numbers]) == numbers

    def run(producer: int) -> None:
        try:
            asyncio.run(produce(producer))
        except BaseException as error:
            failed.append(error)

    producers = [threading.Thread(target=run, args=[producer]) for producer in range(8)]
    for thread in producers:
        thread.start()
    for thread in producers:
        thread.join()
    asyncio.run(worker.aclose())
    assert failed == []


async def test_survives_a_random_life(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Of 20 000 calls, some of which fail or are cancelled at random, each ends as it must."""
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.000_1)
    caplog.set_level(logging.CRITICAL, "slacker")
    random_life = random.Random(2011)
    calls: dict[asyncio.Future[Any], Any] = {}  # and what each must give: a number, or an exception of that class
    done = 0

    async def settle() -> None:
        nonlocal done
        for result, expected in zip(await asyncio.gather(*calls, return_exceptions=True), calls.values(), strict=True):
            assert result == expected or type(result) is expected
        done += len(calls)
        calls.clear()

    async with ThreadWorker(4) as worker:
        for number in range(20_000):
            fate = random_life.random()
            if fate < 0.1:
                calls[Slacker(work.fail, worker)(ValueError, number).fetch()] = ValueError
            elif fate < 0.15:
                calls[Slacker(work.fail, worker)(SystemExit, number).fetch()] = RemoteError
            else:
                calls[Slacker(work.echo, worker)(number).fetch()] = number
            if fate > 0.9:
                call = random_life.choice(list(calls))
                if call.cancel():
                    calls[call] = asyncio.CancelledError
            if fate > 0.98:
                await asyncio.sleep(0)
            if len(calls) > 100 * random_life.random():
                await settle()
        await settle()
    assert done == 20_000


async def test_wraps_a_keyboard_interrupt_of_the_work() -> None:
    """A KeyboardInterrupt raised by the work arrives as RemoteError also on a loop in the main thread."""
    async with ThreadWorker(1) as worker:
        with pytest.raises(RemoteError, match="KeyboardInterrupt"):
            await Slacker(work.fail, worker)(KeyboardInterrupt)


async def test_survives_a_job_that_raises() -> None:
    """A subclass's job that raises, where it should return an outcome, fails its call and no other."""

    class Worker(ThreadWorker):
        def replayer(self, chain: Any) -> Any:
            return lambda chain: capture(chain) if chain.steps else work.recurse()

    async with Worker(1) as worker:
        with pytest.raises(RecursionError):
            await Slacker(work.echo, worker)
        assert await Slacker(work.echo, worker)("b") == "b"


async def test_a_time_limit_that_passes_as_the_result_comes() -> None:
    """A call that has just ended is not late any more."""
    async with ThreadWorker(1) as worker:
        future = options(Slacker(work.echo, worker)("a"), timeout=60).fetch()
        assert await future == "a"
        worker._pool._expire(types.SimpleNamespace(future=future))  # type: ignore[arg-type]
        assert future.result() == "a"


async def test_a_time_limit_that_passes_while_the_loop_stands_still() -> None:
    """Work whose time is over before a thread is free does not begin, though no timer of the loop's has said so."""
    async with ThreadWorker(1) as worker:
        first = Slacker(time.sleep, worker)(0.2).fetch()
        second = options(Slacker(work.echo, worker)("a"), timeout=0.1).fetch()
        time.sleep(0.3)  # noqa: ASYNC251 (the loop stands still)
        with pytest.raises(
            DeadlineExceeded, match=r"echo\(\.\.\.\) was not done within 0.1 s; it did not run"
        ) as caught:
            await second
        assert (await first, caught.value.executed) == (None, False)


async def test_what_takes_long_to_free_holds_nobody_up() -> None:
    """What the work leaves in its context is freed by its thread, while others are called."""
    freed = threading.Event()

    class Slow:
        def __del__(self) -> None:
            freed.wait(LIVENESS)  # liveness bound

    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")
    async with ThreadWorker(2) as worker:
        slow = Slacker(lambda: variable.set(Slow()) and None, worker)().fetch()
        for number in range(10):
            assert await Slacker(work.echo, worker)(number) == number
        freed.set()
        await slow


async def test_survives_a_log_that_raises(monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    """A handler of the log that raises in a thread costs that thread, and no call."""
    threads: list[threading.Thread] = []
    died: list[Any] = []

    class Worker(ThreadWorker):
        @staticmethod
        def on_thread_exit() -> None:
            threads.append(threading.current_thread())

    monkeypatch.setattr(threading, "excepthook", lambda args: died.append(args.exc_value))
    failure = RuntimeError("disk full")
    monkeypatch.setattr(logging.getLogger("slacker"), "filters", [lambda record: work.throw(failure)])
    async with Worker(1) as worker:
        assert await asyncio.gather(*[Slacker(work.echo, worker)(name) for name in "abc"]) == ["a", "b", "c"]
    for thread in threads:
        await ended(thread)
    assert died == [failure] * 3


# --- forks -------------------------------------------------------------------------------------------------------

FORK = """
import asyncio, os, threading, warnings
from slacker import Slacker
from slacker.workers import ThreadWorker
from tests.workers.work import Blocker, LIVENESS, with_pid

warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process that has threads
worker = ThreadWorker(2)

async def use(calls=200):
    results = await asyncio.wait_for(asyncio.gather(*[Slacker(with_pid, worker)(n) for n in range(calls)]), LIVENESS)
    assert results == [(os.getpid(), n) for n in range(calls)], results

def in_child(main):
    child = os.fork()
    if not child:
        code = 1
        try:
            main()
            code = 0
        finally:
            os._exit(code)
    return child

def assert_well(child):
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(
            """
            asyncio.run(use())
            child = in_child(lambda: asyncio.run(use()))
            asyncio.run(use())
            assert_well(child)
            """,
            id="between loops",
        ),
        pytest.param(
            """
            async def main():
                await use()
                child = in_child(lambda: asyncio.run(use()))
                await use()
                assert_well(child)
            asyncio.run(main())
            """,
            id="under a loop",
        ),
        pytest.param(
            """
            async def main():
                blocker = Blocker()
                calls = [Slacker(blocker, worker).wait(n).fetch() for n in range(4)]
                await blocker.begun(2)
                child = in_child(lambda: asyncio.run(use()))
                assert_well(child)
                blocker.release()
                assert await asyncio.gather(*calls) == [0, 1, 2, 3]
            asyncio.run(main())
            """,
            id="with calls running and waiting",
        ),
        pytest.param(
            """
            held, may_end = threading.Event(), threading.Event()
            def hold():
                with worker._pool._mutex:
                    held.set()
                    may_end.wait(LIVENESS)
            asyncio.run(use())
            holder = threading.Thread(target=hold)
            holder.start()
            held.wait(LIVENESS)
            child = in_child(lambda: asyncio.run(use()))
            assert_well(child)
            may_end.set()
            holder.join()
            asyncio.run(use())
            """,
            id="while a lost thread holds the lock",
        ),
        pytest.param(
            """
            asyncio.run(use())
            child = in_child(lambda: asyncio.run(worker.aclose()))
            assert_well(child)
            asyncio.run(use())
            """,
            id="closed in the child",
        ),
    ],
)
def test_begins_afresh_in_a_forked_child(run_script: RunScript, script: str) -> None:
    """Parent and child both go on with the worker after a fork, and each gets its own results."""
    done = run_script(FORK + textwrap.dedent(script))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- the end of the interpreter ----------------------------------------------------------------------------------

EXIT = """
import asyncio
import contextvars
from slacker import Slacker
from slacker.workers import ThreadWorker
from tests.workers.work import Blocker, echo

worker = ThreadWorker(1)
"""


def test_the_end_of_the_interpreter_waits_for_nothing_and_says_so(run_script: RunScript) -> None:
    """An interpreter that exits abandons running and drops waiting calls, and names them in one line."""
    done = run_script(
        EXIT
        + """
async def main():
    blocker = Blocker()
    Slacker(blocker, worker).wait().fetch()
    await blocker.begun()
    Slacker(echo, worker)("password").fetch()
    Slacker(echo, worker)("cancelled").fetch().cancel()

asyncio.run(main())
"""
    )
    assert done.stderr == (
        "the interpreter ends with calls unfinished; dropped while waiting: echo(...); "
        "abandoned while running: Blocker(...).wait()\n"
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("last", ["", "asyncio.run(worker.aclose())"], ids=["idle", "closed"])
def test_the_end_of_the_interpreter_is_quiet_when_all_is_done(run_script: RunScript, last: str) -> None:
    """An interpreter that exits with idle threads, or after aclose, prints nothing."""
    done = run_script(
        EXIT
        + """
async def main():
    assert await Slacker(echo, worker)("a") == "a"

asyncio.run(main())
"""
        + last
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
