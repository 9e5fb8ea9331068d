"""The way of outcomes back to a loop: by an eventfd and without, for many at once, and when the loop is gone."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import subprocess
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from slacker import DeadlineExceeded, Slacker
from slacker.chain import Chain
from slacker.outcome import Error, Outcome, Value
from slacker.workers import ThreadWorker
from slacker.workers.inbox import Inbox, inbox_of
from tests.waiting import LIVENESS

from . import work

CHAIN = Chain(work.echo)


def refuse(*args: object) -> NoReturn:
    raise OSError(errno.EMFILE, "Too many open files")


class WithoutReaders(asyncio.SelectorEventLoop):
    def add_reader(self, *args: object) -> NoReturn:
        raise NotImplementedError


class WithoutRoom(asyncio.SelectorEventLoop):
    add_reader = refuse


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def in_thread(function: Callable[[], object]) -> None:
    """Run `function` in another thread, while this one, and its loop, stand still."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@pytest.fixture(params=["eventfd", "call_soon_threadsafe"])
def rings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Make inboxes wake their loop one way or the other, and note each time that one does."""
    rung: list[Any] = []

    def counted(ring: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any) -> Any:
            rung.append(args)
            return ring(*args)

        return wrapper

    if request.param == "eventfd":
        monkeypatch.setattr(os, "eventfd_write", counted(os.eventfd_write))
    else:
        monkeypatch.delattr(os, "eventfd")
        ring = asyncio.BaseEventLoop.call_soon_threadsafe
        monkeypatch.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", counted(ring))
    return rung


# --- delivering --------------------------------------------------------------------------------------------------


async def test_settles_futures_either_way(rings: list[Any]) -> None:
    """A result or an exception from another thread settles its Future."""
    inbox, loop = inbox_of(asyncio.get_running_loop()), asyncio.get_running_loop()
    good, bad = loop.create_future(), loop.create_future()
    in_thread(lambda: inbox.deliver(good, CHAIN, Value("a")))
    in_thread(lambda: inbox.deliver(bad, CHAIN, Error(ValueError("b"), 0)))
    assert await good == "a"
    with pytest.raises(ValueError, match="b"):
        await bad


async def test_wakes_the_loop_once_for_many(rings: list[Any]) -> None:
    """Outcomes that come while the loop is busy wake it once, and all are there."""
    loop = asyncio.get_running_loop()
    inbox = inbox_of(loop)
    futures = [loop.create_future() for _ in range(100)]
    in_thread(lambda: [inbox.deliver(future, CHAIN, Value(n)) for n, future in enumerate(futures)])
    assert len(rings) == 1
    assert await asyncio.gather(*futures) == list(range(100))


async def test_names_no_failure_of_what_did_not_run(rings: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    """Whoever had gone was told already that it did not run; whatever ran and failed is logged."""
    loop = asyncio.get_running_loop()
    for error in (DeadlineExceeded("late", executed=False), ValueError("ran")):
        gone, last = loop.create_future(), loop.create_future()
        gone.cancel()
        inbox_of(loop).deliver(gone, CHAIN, Error(error, 0))
        inbox_of(loop).deliver(last, CHAIN, Value("a"))
        await last
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["ran"]


async def test_wakes_the_loop_again_later(rings: list[Any]) -> None:
    """Outcomes that come after the loop has looked wake it again."""
    loop = asyncio.get_running_loop()
    for number in range(3):
        future = loop.create_future()
        in_thread(lambda future=future: inbox_of(loop).deliver(future, CHAIN, Value("a")))
        assert await future == "a"
        assert len(rings) == number + 1


@pytest.mark.parametrize("loop_factory", [WithoutReaders, WithoutRoom])
def test_does_without_a_reader(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], open_descriptors: Callable[[], int]
) -> None:
    """On a loop that takes no reader outcomes arrive all the same, and no descriptor is left open."""

    async def main() -> None:
        async with ThreadWorker(2) as worker:
            assert await asyncio.gather(*[Slacker(work.echo, worker)(n) for n in range(50)]) == list(range(50))

    before = open_descriptors()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert open_descriptors() == before


async def test_does_without_a_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no descriptor is left for an eventfd outcomes arrive all the same."""
    monkeypatch.setattr(os, "eventfd", refuse)
    async with ThreadWorker(2) as worker:
        assert await asyncio.gather(*[Slacker(work.echo, worker)(n) for n in range(50)]) == list(range(50))


async def test_survives_a_false_alarm() -> None:
    """A loop that takes the bell for rung when it is not, as libuv may, misses nothing."""
    loop = asyncio.get_running_loop()
    inbox = inbox_of(loop)
    future = loop.create_future()
    in_thread(lambda: inbox.deliver(future, CHAIN, Value("a")))
    assert inbox._bell is not None
    os.eventfd_read(inbox._bell)
    inbox._answer_bell()
    assert future.result() == "a"


async def test_goes_on_after_a_log_that_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the log of an abandoned failure raises, the outcomes behind it arrive all the same."""
    loop = asyncio.get_running_loop()
    raised: list[Any] = []
    loop.set_exception_handler(lambda loop, context: raised.append(context["exception"]))
    failure = RuntimeError("disk full")
    monkeypatch.setattr(logging.getLogger("slacker"), "filters", [lambda record: work.throw(failure)])
    inbox = inbox_of(loop)
    abandoned, future = loop.create_future(), loop.create_future()
    abandoned.cancel()
    in_thread(lambda: inbox.deliver(abandoned, CHAIN, Error(ValueError("a"), 0)))
    in_thread(lambda: inbox.deliver(future, CHAIN, Value("b")))
    assert await future == "b"
    assert raised == [failure]


# --- one for each loop -------------------------------------------------------------------------------------------


async def test_a_loop_has_one_inbox() -> None:
    """All who ask for the inbox of a loop get the same."""
    loop = asyncio.get_running_loop()
    assert inbox_of(loop) is inbox_of(loop)
    assert inbox_of(loop).belongs_to(loop)


async def open_bell() -> int:
    """Return the descriptor of the running loop's inbox."""
    descriptor = inbox_of(asyncio.get_running_loop())._bell
    assert descriptor is not None
    assert is_open(descriptor)
    return descriptor


def test_its_descriptor_goes_with_the_loop(without_gc: None) -> None:
    """When a loop is closed and freed, the descriptor of its inbox is closed."""
    assert not is_open(asyncio.run(open_bell()))


def test_its_descriptor_goes_with_the_next_loop_at_the_latest() -> None:
    """When a loop is closed but kept, the descriptor of its inbox is closed once another loop has one."""
    loop = asyncio.new_event_loop()
    descriptor = loop.run_until_complete(open_bell())
    loop.close()
    asyncio.run(open_bell())
    assert not is_open(descriptor)


def test_its_descriptor_stays_while_a_thread_may_ring() -> None:
    """While somebody may still deliver to a closed loop the descriptor stays open, so that no other file is hit."""

    async def inbox() -> Inbox:
        return inbox_of(asyncio.get_running_loop())

    held = asyncio.run(inbox())
    gc.collect()
    asyncio.run(inbox())
    assert held._bell is not None
    assert is_open(held._bell)


# --- loops that are gone -----------------------------------------------------------------------------------------


def late(loop: asyncio.AbstractEventLoop, *outcomes: Outcome) -> tuple[Inbox, Callable[[], None]]:
    """Return the inbox of `loop`, and a function that delivers `outcomes` to it."""

    async def inbox_and_futures() -> tuple[Inbox, list[asyncio.Future[Any]]]:
        return inbox_of(loop), [loop.create_future() for _ in outcomes]

    inbox, futures = loop.run_until_complete(inbox_and_futures())

    def deliver() -> None:
        for future, outcome in zip(futures, outcomes, strict=True):
            inbox.deliver(future, CHAIN, outcome)

    return inbox, deliver


def test_drops_what_comes_after_the_loop_is_closed(rings: list[Any], logged: Callable[[int], list[str]]) -> None:
    """Outcomes for a closed loop are dropped at once, and exceptions among them logged."""
    loop = asyncio.new_event_loop()
    inbox, deliver = late(loop, Value("a"), Error(ValueError("b"), 0))
    loop.close()
    deliver()
    assert len(inbox._arrived) == 0
    assert logged(logging.ERROR) == ["echo failed after its caller had gone"]


def test_drops_what_a_loop_did_not_fetch_any_more(rings: list[Any], logged: Callable[[int], list[str]]) -> None:
    """Outcomes that a loop was closed before it fetched are dropped when the next loop starts, exceptions logged."""
    loop = asyncio.new_event_loop()
    inbox, deliver = late(loop, Value("a"), Error(ValueError("b"), 0))
    deliver()
    loop.close()
    assert len(inbox._arrived) == 2
    loop = asyncio.new_event_loop()
    late(loop)
    loop.close()
    assert len(inbox._arrived) == 0
    assert logged(logging.ERROR) == ["echo failed after its caller had gone"]


def test_many_threads_may_drop_at_once() -> None:
    """Threads that all bring outcomes for one closed loop get into no trouble."""
    loop = asyncio.new_event_loop()
    inbox, _deliver = late(loop)
    futures = [loop.create_future() for _ in range(4)]
    loop.close()
    start, failed = threading.Barrier(4), []

    def deliver(future: asyncio.Future[Any]) -> None:
        start.wait(LIVENESS)
        try:
            for _ in range(5_000):
                inbox.deliver(future, CHAIN, Value("a"))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=deliver, args=[future]) for future in futures]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (failed, list(inbox._arrived)) == ([], [])


# --- forks -------------------------------------------------------------------------------------------------------


def test_a_forked_child_does_not_ring_for_the_parent(
    run_script: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    """A child that goes on with the worker has a descriptor of its own: the parent's loop sleeps on."""
    done = run_script(
        """
        import asyncio, os, select, warnings
        from slacker import Slacker
        from slacker.workers import ThreadWorker
        from slacker.workers.inbox import inbox_of
        from tests.workers.work import echo

        warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process that has threads
        worker = ThreadWorker(1)

        async def main():
            assert await Slacker(echo, worker)("parent's") == "parent's"
            if not (child := os.fork()):
                code = 1
                try:
                    code = asyncio.run(run())
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            bell = inbox_of(asyncio.get_running_loop())._bell
            assert select.select([bell], [], [], 0) == ([], [], [])
            assert await Slacker(echo, worker)("parent's") == "parent's"

        async def run():
            return await Slacker(echo, worker)(0)

        asyncio.run(main())
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
