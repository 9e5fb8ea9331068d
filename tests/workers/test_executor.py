"""What `ExecutorWorker` promises besides the contract: what executors do when they break, shut down, or are odd."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from slacker import DeadlineExceeded, Refused, RemoteError, Slacker, TransportError, WorkerClosed, options
from slacker.workers import ExecutorWorker
from tests.waiting import LIVENESS, until

from . import work

Logged = Callable[[int], list[str]]


class InPlace(Executor):
    """Runs what it is given where it is given it."""

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*args, **kwargs))
        return future


class Failing(InPlace):
    """Fails on its own account, whatever it is given."""

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(OSError("no room"))
        return future


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Make an executor with one thread."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def processes() -> Iterator[ProcessPoolExecutor]:
    """Make an executor with one process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        executor.submit(int).result()  # it is started on whichever thread submits: not on a loop, where it would block
        yield executor


def hold(worker: ExecutorWorker, directory: Path, name: str) -> asyncio.Future[str]:
    return Slacker(work.hold, worker)(str(directory), name).fetch()


async def begun(directory: Path, name: str) -> None:
    await asyncio.to_thread(until, (directory / name).exists)


# --- any executor ------------------------------------------------------------------------------------------------


async def test_hands_over_bytes(threads: ThreadPoolExecutor) -> None:
    """Arguments and results are copies, also where the executor has threads."""
    given = ["a"]
    returned = await Slacker(work.echo, ExecutorWorker(threads))(given)
    assert (returned == given, returned is given) == (True, False)


async def test_runs_in_processes(processes: ProcessPoolExecutor) -> None:
    """A ProcessPoolExecutor replays chains in its processes."""
    worker = ExecutorWorker(processes)
    pids = {pid for pid, _ in await asyncio.gather(*[Slacker(work.with_pid, worker)(n) for n in range(50)])}
    assert pids == set(processes._processes or ())


async def test_runs_where_futures_are_done_at_once() -> None:
    """An executor may run what it is given while it is given it."""
    assert await Slacker(threading.get_ident, ExecutorWorker(InPlace()))() == threading.get_ident()


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor, "threads"], ids=str)
def test_refuses_what_is_no_executor(executor: Any) -> None:
    """What is no Executor, a class of executors for example, is a TypeError when the worker is made."""
    with pytest.raises(TypeError, match=r"must be a concurrent\.futures\.Executor, got"):
        ExecutorWorker(executor)


def test_repr(threads: ThreadPoolExecutor) -> None:
    """The repr names the kind of executor."""
    assert repr(ExecutorWorker(threads)) == "ExecutorWorker(ThreadPoolExecutor)"


# --- what the work does ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("doom", ["ValueError", "sys.exit"])
async def test_what_cannot_be_pickled_breaks_no_pool(processes: ProcessPoolExecutor, doom: str) -> None:
    """Arguments and results that fail while they are pickled or loaded fail their call only."""
    worker = ExecutorWorker(processes)
    with pytest.raises(Refused) as refused:
        await Slacker(work.echo, worker)(work.DoomOnLoad(doom))
    with pytest.raises(RemoteError) as remote:
        await Slacker(work.DoomOnDump, worker)(doom)
    assert (refused.value.executed, remote.value.executed) == (False, True)
    assert await Slacker(work.echo, worker)("a") == "a"


async def test_wraps_what_a_process_lets_pass(processes: ProcessPoolExecutor) -> None:
    """A KeyboardInterrupt of the work, which runs in the main thread of its process, arrives as RemoteError."""
    worker = ExecutorWorker(processes)
    with pytest.raises(RemoteError, match="KeyboardInterrupt") as caught:
        await Slacker(work.fail, worker)(KeyboardInterrupt)
    assert caught.value.executed is True
    assert await Slacker(work.echo, worker)("a") == "a"


# --- what the executor does --------------------------------------------------------------------------------------


async def test_an_executor_that_breaks(processes: ProcessPoolExecutor) -> None:
    """A call whose process dies may have run, and says so; the next finds the executor broken, and did not run."""
    worker = ExecutorWorker(processes)
    with pytest.raises(TransportError, match="the executor broke; whether this call ran is not known") as first:
        await Slacker(work.meet, worker)("os._exit")
    with pytest.raises(TransportError, match=r"is broken: echo\(\.\.\.\) did not run") as second:
        await Slacker(work.echo, worker)("a")
    assert (first.value.executed, second.value.executed) == (None, False)
    assert isinstance(first.value.__cause__, BrokenProcessPool)
    assert isinstance(second.value.__cause__, BrokenProcessPool)


async def test_an_executor_that_fails() -> None:
    """What an executor raises on its own account is the cause of a TransportError."""
    with pytest.raises(TransportError, match=r"the executor failed; .* OSError: no room") as caught:
        await Slacker(work.echo, ExecutorWorker(Failing()))("a")
    assert (caught.value.executed, type(caught.value.__cause__)) == (None, OSError)


async def test_an_executor_that_was_shut_down(threads: ThreadPoolExecutor) -> None:
    """An executor that takes nothing more fails calls with WorkerClosed: they did not run."""
    threads.shutdown()
    with pytest.raises(WorkerClosed, match=r"takes no more calls: echo\(\.\.\.\) did not run") as caught:
        await Slacker(work.echo, ExecutorWorker(threads))("a")
    assert caught.value.executed is False


async def test_an_executor_that_is_shut_down(threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    """When an executor drops what waits in it, those calls fail with WorkerClosed; the running one ends well."""
    worker = ExecutorWorker(threads)
    running, waiting = hold(worker, tmp_path, "a"), hold(worker, tmp_path, "b")
    await begun(tmp_path, "a")
    threads.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(WorkerClosed, match="was shut down while this call waited") as caught:
        await waiting
    (tmp_path / "go").touch()
    assert (await running, caught.value.executed) == ("a", False)


# --- cancelling and closing --------------------------------------------------------------------------------------


async def test_a_waiting_call_that_is_cancelled_never_runs(
    threads: ThreadPoolExecutor, tmp_path: Path, logged: Logged
) -> None:
    """A call that is cancelled while it waits in the executor never begins, and nobody hears of it."""
    worker = ExecutorWorker(threads)
    running, waiting = hold(worker, tmp_path, "a"), hold(worker, tmp_path, "b")
    await begun(tmp_path, "a")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    (tmp_path / "go").touch()
    assert await running == "a"
    assert await Slacker(work.echo, worker)("c") == "c"
    assert not (tmp_path / "b").exists()
    assert logged(logging.ERROR) == []


async def test_a_running_call_that_is_cancelled_frees_its_caller(threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    """Cancelling a running call frees its caller; the executor goes on to the end, and takes the next call then."""
    worker = ExecutorWorker(threads)
    running = hold(worker, tmp_path, "a")
    await begun(tmp_path, "a")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    following = Slacker(work.echo, worker)("b").fetch()
    done, _ = await asyncio.wait([following], timeout=0.02)
    assert not done
    (tmp_path / "go").touch()
    assert await following == "b"


async def test_a_timeout_frees_the_caller(threads: ThreadPoolExecutor, tmp_path: Path, logged: Logged) -> None:
    """A call whose time passes fails; one that waited in the executor never runs, of one that runs nobody knows."""
    worker = ExecutorWorker(threads)
    running = options(Slacker(work.hold, worker)(str(tmp_path), "a"), timeout=LIVENESS).fetch()
    await begun(tmp_path, "a")
    with pytest.raises(DeadlineExceeded, match=r"hold\(\.\.\.\) was not done within 0\.01 s") as waiting:
        await options(Slacker(work.hold, worker)(str(tmp_path), "b"), timeout=0.01)
    (tmp_path / "go").touch()
    assert (await running, waiting.value.executed, (tmp_path / "b").exists()) == ("a", False, False)

    (tmp_path / "go").unlink()
    with pytest.raises(DeadlineExceeded) as late:
        await options(Slacker(work.hold, worker)(str(tmp_path), "c"), timeout=1.0)
    assert (late.value.executed, (tmp_path / "c").exists()) == (None, True)
    (tmp_path / "go").touch()
    assert await Slacker(work.echo, worker)("d") == "d"
    assert logged(logging.ERROR) == []


async def test_what_has_arrived_is_not_late(threads: ThreadPoolExecutor) -> None:
    """A result that is there when the loop finds that its time has passed is delivered."""
    worker = ExecutorWorker(threads)
    call = options(Slacker(work.echo, worker)("a"), timeout=0.5).fetch()
    await asyncio.sleep(0)  # it is submitted
    threads.submit(time.sleep, 0.6).result()  # it is done, and the loop has not turned meanwhile
    assert await call == "a"


async def test_who_finds_it_late_does_not_matter(threads: ThreadPoolExecutor) -> None:
    """A call that the executor comes to when its time is over fails as one whose time the loop saw pass."""
    worker = ExecutorWorker(threads)
    threads.submit(time.sleep, 0.3)
    call = options(Slacker(work.echo, worker)("a"), timeout=0.1).fetch()
    await asyncio.sleep(0)  # it is submitted
    threads.submit(int).result()  # it was refused, and the loop has not turned meanwhile
    with pytest.raises(DeadlineExceeded, match=r"echo\(\.\.\.\) was not done within 0.1 s; it did not run") as caught:
        await call
    assert caught.value.executed is False


async def test_aclose_waits_for_calls_and_leaves_the_executor(threads: ThreadPoolExecutor, tmp_path: Path) -> None:
    """aclose() returns when the accepted calls have ended; the executor is its maker's, and goes on."""
    worker = ExecutorWorker(threads)
    call = hold(worker, tmp_path, "a")
    await begun(tmp_path, "a")
    closing = asyncio.create_task(worker.aclose())
    await asyncio.sleep(0)
    (tmp_path / "go").touch()
    await closing
    assert await call == "a"
    assert await Slacker(work.echo, ExecutorWorker(threads))("b") == "b"


async def test_aclose_gives_up(threads: ThreadPoolExecutor, tmp_path: Path, logged: Logged) -> None:
    """Past its time limit aclose() fails the calls that wait, and names the running ones in a warning."""
    worker = ExecutorWorker(threads)
    running, waiting = hold(worker, tmp_path, "a"), hold(worker, tmp_path, "b")
    await begun(tmp_path, "a")
    await worker.aclose(0.01)
    with pytest.raises(WorkerClosed) as caught:
        await waiting
    (tmp_path / "go").touch()
    assert (await running, caught.value.executed) == ("a", False)
    assert logged(logging.WARNING) == [
        "ExecutorWorker(ThreadPoolExecutor): still running 0.01 s after it was closed: hold(...)"
    ]


async def test_aclose_shuts_down_when_asked(threads: ThreadPoolExecutor) -> None:
    """With shutdown=True aclose() shuts the executor down."""
    async with ExecutorWorker(threads, shutdown=True) as worker:
        assert await Slacker(work.echo, worker)("a") == "a"
    with pytest.raises(RuntimeError, match="after shutdown"):
        threads.submit(int)


# --- forks -------------------------------------------------------------------------------------------------------


def test_says_so_in_a_forked_child(run_script: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    """In a forked child, where the executor would never run them, calls raise RuntimeError instead of waiting."""
    done = run_script("""
        import asyncio, os, sys, warnings
        from concurrent.futures import ThreadPoolExecutor
        from slacker import Slacker
        from slacker.workers import ExecutorWorker

        warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process that has threads
        worker = ExecutorWorker(ThreadPoolExecutor(1), shutdown=True)

        async def size():
            return await Slacker(len, worker)("abc")

        assert asyncio.run(size()) == 3
        child = os.fork()
        if not child:
            try:
                asyncio.run(size())
            except RuntimeError as error:
                assert "was used before this process was forked" in str(error)
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """)
    assert (done.returncode, done.stderr) == (0, "")
