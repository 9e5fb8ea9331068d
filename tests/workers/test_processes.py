"""What processes promise besides the contract: how they die, are replaced, are closed, and end with their parent."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slacker import QueueFull, Refused, RemoteError, Slacker, SlackerError, TransportError, WorkerClosed
from slacker.workers import ProcessWorker, child, processes
from tests.waiting import LIVENESS, until

from . import work

Logged = Callable[[int], list[str]]
RunScript = Callable[[str], subprocess.CompletedProcess[str]]


class Held:
    """Calls that are held in a directory until they may go on."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def start(self, worker: ProcessWorker, name: str) -> asyncio.Future[str]:
        return Slacker(work.hold, worker)(str(self.directory), name).fetch()

    async def until(self, *names: str) -> list[int]:
        """Return the processes of these calls when all have begun."""
        await asyncio.to_thread(until, lambda: all((self.directory / name).exists() for name in names))
        return [int((self.directory / name).read_text()) for name in names]

    def release(self) -> None:
        (self.directory / "go").touch()


@pytest.fixture
def held(tmp_path: Path) -> Held:
    return Held(tmp_path)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Of an orphan there may be an entry left, which nobody fetches who is not its parent.
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return not state.startswith("Z")


async def assert_works(worker: ProcessWorker) -> None:
    assert await asyncio.gather(*[Slacker(work.echo, worker)(n) for n in range(20)]) == list(range(20))


async def pid_of(worker: ProcessWorker) -> int:
    return await Slacker(os, worker).getpid()


# --- where it runs -----------------------------------------------------------------------------------------------


async def test_runs_in_other_processes() -> None:
    """As many processes as there may be replay what runs at once, and this one is not among them."""
    async with ProcessWorker(2) as worker:
        pids = {pid for pid, _ in await asyncio.gather(*[Slacker(work.with_pid, worker)(n) for n in range(200)])}
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2


async def test_runs_at_once(held: Held) -> None:
    """max_workers calls run at the same time, each in a process of its own."""
    async with ProcessWorker(2) as worker:
        calls = [held.start(worker, name) for name in "ab"]
        assert len(set(await held.until("a", "b"))) == 2
        held.release()
        assert await asyncio.gather(*calls) == ["a", "b"]


async def test_keeps_a_process_for_the_next_call() -> None:
    """Calls one after another run in one process."""
    async with ProcessWorker(2) as worker:
        assert len({await pid_of(worker) for _ in range(20)}) == 1


async def test_runs_inside_of_work() -> None:
    """Work in a process may have a ProcessWorker of its own."""
    async with ProcessWorker(1) as worker:
        pid, value = await Slacker(work.run_in_a_process, worker)("a")
        assert (value, pid != await pid_of(worker)) == ("a", True)


async def test_a_process_knows_what_this_one_can_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process finds modules wherever this one finds them, and starts in the same directory."""
    (tmp_path / "only_here.py").write_text("def f(): return 'found'")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    import only_here  # type: ignore[import-not-found]

    async with ProcessWorker(1) as worker:
        assert await Slacker(only_here, worker).f() == "found"
        assert await Slacker(os, worker).getcwd() == str(tmp_path)


async def test_reads_nothing_of_our_input() -> None:
    """Work that reads stdin finds it empty."""
    async with ProcessWorker(1) as worker:
        assert await Slacker(work.read_input, worker)() == ""


@pytest.mark.parametrize(
    ("affinity", "count", "cores"),
    [({1, 5, 7}, 8, 3), (None, 8, 8), (None, None, 1)],
    ids=["affinity", "count", "none"],
)
def test_as_many_as_cores(
    monkeypatch: pytest.MonkeyPatch, affinity: set[int] | None, count: int | None, cores: int
) -> None:
    """By default there are as many processes as cores that this process may use, as far as the system tells."""
    if affinity is None:
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    else:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: affinity, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert repr(ProcessWorker()) == f"ProcessWorker(max_workers={cores})"


def test_repr() -> None:
    """The repr reads like the call that made it."""
    assert repr(ProcessWorker(3, max_queue=5)) == "ProcessWorker(max_workers=3, max_queue=5)"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({"max_workers": 0}, ValueError), ({"max_queue": -1}, ValueError), ({"max_workers": 1.5}, TypeError)],
)
def test_refuses_arguments_that_make_no_sense(arguments: dict[str, Any], error: type[Exception]) -> None:
    """A number of processes or calls that cannot be is refused when the worker is made."""
    with pytest.raises(error, match=next(iter(arguments))):
        ProcessWorker(**arguments)


# --- what goes there and back --------------------------------------------------------------------------------------


async def test_decodes_one_frame_a_turn() -> None:
    """A long result is decoded in pieces, between which the loop turns."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with ProcessWorker(1) as worker:
        future = Slacker(list, worker)(range(50_000)).fetch()
        counting = asyncio.create_task(count())
        before = turns
        assert await future == list(range(50_000))
        counting.cancel()
    assert turns - before >= 100  # frames of at most 500 items


async def test_brings_large_results() -> None:
    """A result is as large as it is."""
    async with ProcessWorker(1) as worker:
        assert await Slacker(bytes, worker)(50_000_000) == bytes(50_000_000)


async def test_warns_of_large_arguments(logged: Logged) -> None:
    """Arguments of more than a megabyte are sent, with a warning that names the call and the size."""
    async with ProcessWorker(1) as worker:
        assert await Slacker(len, worker)(bytes(2_000_000)) == 2_000_000
    (warning,) = logged(logging.WARNING)
    assert "the arguments of len(...) take 2000" in warning


async def test_refuses_what_cannot_be_pickled() -> None:
    """An argument that cannot be pickled is refused here, by its place, and nothing ran."""
    async with ProcessWorker(1) as worker:
        with pytest.raises(Refused, match=r"argument 1 of step 1, echo, of echo\(...\)") as caught:
            await Slacker(work.echo, worker)(threading.Lock())
        assert caught.value.executed is False


async def test_brings_output_before_the_result(run_script: RunScript) -> None:
    """What the work prints is out when its result arrives."""
    done = run_script("""
        import asyncio
        from slacker import Slacker
        from slacker.workers import ProcessWorker

        async def main():
            async with ProcessWorker(1) as worker:
                await Slacker(print, worker)("there")
                print("here")

        asyncio.run(main())
    """)
    assert (done.stdout, done.stderr) == ("there\nhere\n", "")


# --- how they die ------------------------------------------------------------------------------------------------

SURVIVES = {"ValueError", "sys.exit"}


@pytest.mark.parametrize("doom", work.DOOMS)
@pytest.mark.parametrize("where", ["loading the argument", "running", "dumping the result"])
async def test_only_the_call_in_it_fails_with_a_process(held: Held, doom: str, where: str) -> None:
    """Whatever ends a process wherever, its call fails and says what is known, another one is not touched, and calls
    that follow pass."""
    doomed = {
        "loading the argument": lambda q: q.echo(work.DoomOnLoad(doom)),
        "running": lambda q: q.meet(doom),
        "dumping the result": lambda q: q.DoomOnDump(doom),
    }
    async with ProcessWorker(2) as worker:
        other = held.start(worker, "other")
        await held.until("other")
        with pytest.raises(Exception) as caught:  # noqa: PT011 (of which class, is asserted below)
            await doomed[where](Slacker(work, worker))
        held.release()
        assert await other == "other"
        await assert_works(worker)
    error = caught.value
    if doom not in SURVIVES:
        assert (type(error), error.executed) == (TransportError, None)
    elif where == "loading the argument":
        assert (type(error), error.executed) == (Refused, False)
    elif (doom, where) == ("ValueError", "running"):
        assert type(error) is ValueError
    else:
        assert (type(error), error.executed) == (RemoteError, True)


@pytest.mark.parametrize(
    ("doom", "how"), [("os._exit", "ended with exit code 3"), ("SIGKILL", r"was ended by signal 9 \(Killed\)")]
)
async def test_says_how_a_process_died(doom: str, how: str) -> None:
    """The error names the exit code, or the signal."""
    async with ProcessWorker(1) as worker:
        with pytest.raises(TransportError, match=how):
            await Slacker(work.meet, worker)(doom)


async def test_killing_one_under_queued_calls_fails_one(held: Held) -> None:
    """Of 20 calls on two processes, one of which is killed, one fails, and all others succeed."""
    async with ProcessWorker(2) as worker:
        names = [str(number) for number in range(20)]
        calls = [held.start(worker, name) for name in names]
        pid, _ = await held.until("0", "1")
        os.kill(pid, signal.SIGKILL)
        held.release()
        first, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert (type(first), first.executed) == (TransportError, None)
    assert others == names[1:]


async def test_killing_all_at_once(held: Held) -> None:
    """When all processes are killed at once, each call in one of them fails, and those that waited succeed."""
    async with ProcessWorker(2) as worker:
        calls = [held.start(worker, name) for name in "abcdef"]
        for pid in await held.until("a", "b"):
            os.kill(pid, signal.SIGKILL)
        held.release()
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results[:2]] == [TransportError] * 2
    assert results[2:] == list("cdef")


async def test_one_that_died_idle_is_replaced() -> None:
    """A process that is killed between two calls costs neither of them."""
    async with ProcessWorker(1) as worker:
        pid = await pid_of(worker)
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(until, lambda: not is_alive(pid))
        assert await pid_of(worker) != pid


async def test_one_that_dies_when_it_gets_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that a process could not read before it died did not run, and says so."""
    async with ProcessWorker(1) as worker:
        os.kill(await pid_of(worker), signal.SIGKILL)
        with monkeypatch.context() as patch, pytest.raises(TransportError, match="had read this call, which") as caught:
            patch.setattr(child.Child, "is_alive", lambda self: self._process.wait() is not None)  # as if it were
            await pid_of(worker)
        assert caught.value.executed is False
        await assert_works(worker)


async def test_several_crashes_in_a_row() -> None:
    """Each of many crashes is one call's, and every call between them passes."""
    async with ProcessWorker(1) as worker:
        for _ in range(5):
            with pytest.raises(TransportError):
                await Slacker(work.meet, worker)("os._exit")
            assert await Slacker(work.echo, worker)("a") == "a"


async def test_a_hundred_bad_calls_and_good_ones() -> None:
    """Calls that fail on their way in, all at once, keep none of the others from passing."""
    async with ProcessWorker(2) as worker:
        bad = [Slacker(work.echo, worker)(work.DoomOnLoad("ValueError")).fetch() for _ in range(100)]
        await assert_works(worker)
        assert {type(error) for error in await asyncio.gather(*bad, return_exceptions=True)} == {Refused}


async def test_is_noticed_though_its_own_child_lives_on(held: Held) -> None:
    """A process that dies is noticed at once, also if the work forked another that still runs."""
    async with ProcessWorker(1) as worker:
        with pytest.raises(TransportError, match="signal 9"):
            await Slacker(work.leave_a_child_and_die, worker)(str(held.directory))
        held.release()


def test_an_interrupt_from_the_terminal_is_the_parents(held: Held) -> None:
    """SIGINT and SIGHUP, which a terminal sends to all processes of the program, do not reach those of a worker."""
    source = SCRIPT + textwrap.dedent(f"""
        import signal
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, frame: print(number, flush=True))
        async def main():
            return await Slacker(hold, worker)({str(held.directory)!r}, "a")
        print(asyncio.run(main()))
    """)
    command = [sys.executable, "-c", source]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as program:
        until((held.directory / "a").exists)
        for number in (signal.SIGINT, signal.SIGHUP):
            os.killpg(program.pid, number)
        assert program.stdout is not None
        assert sorted([program.stdout.readline(), program.stdout.readline()]) == ["1\n", "2\n"]
        held.release()
        assert program.stdout.read() == "a\n"


async def test_what_fails_here_costs_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """When this side runs out of memory for a reply, the call fails, and no other gets what is left of the reply."""

    def no_memory(*_: object) -> None:
        raise MemoryError

    async with ProcessWorker(1) as worker:
        pid = await pid_of(worker)
        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr(child.Child, "ask", no_memory)
            await Slacker(work.echo, worker)("lost")
        assert await Slacker(work.with_pid, worker)("a") != (pid, "a")
        await assert_works(worker)


# --- how they start ----------------------------------------------------------------------------------------------


class SetUp(ProcessWorker):
    """Has its processes set up by `work.set_up`."""

    def __init__(self, held: Held, *, fails: bool = False) -> None:
        super().__init__(1)
        self.arguments = [str(held.directory), "set up", fails]

    def setup(self) -> Any:
        return ["tests.workers.work", "set_up", *self.arguments]


async def test_sets_up_first(held: Held) -> None:
    """What a process is to do first it does before its first call, and what in the end, when it is closed."""
    async with SetUp(held) as worker:
        call = Slacker(work.echo, worker)("a").fetch()
        await held.until("set up")
        held.release()
        assert await call == "a"
        assert not (held.directory / "ended").exists()
    assert (held.directory / "ended").exists()


async def test_another_setup_replaces_the_process(held: Held) -> None:
    """A process that was set up otherwise than the call needs is replaced."""
    held.release()
    async with SetUp(held) as worker:
        first = await pid_of(worker)
        assert await pid_of(worker) == first
        worker.arguments[1] = "set up again"
        assert await pid_of(worker) not in (first, os.getpid())
    assert {"set up", "set up again"} <= {file.name for file in held.directory.iterdir()}


async def test_a_setup_that_fails(held: Held) -> None:
    """A process that cannot be set up fails the call, which did not run, with the reason and the far traceback."""
    held.release()
    async with SetUp(held, fails=True) as worker:
        for _ in range(2):
            with pytest.raises(SlackerError, match="did not run: LookupError: nothing to set up") as caught:
                await Slacker(work.echo, worker)("a")
            assert caught.value.executed is False
            assert "in set_up" in caught.value.__notes__[0]
        worker.arguments[2] = False
        await assert_works(worker)


async def test_one_that_is_killed_while_it_starts(held: Held) -> None:
    """A process that dies before it was given the call fails it, which did not run."""
    async with SetUp(held) as worker:
        call = Slacker(work.echo, worker)("a").fetch()
        (pid,) = await held.until("set up")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(TransportError, match="before it was ready; the call did not run") as caught:
            await call
        assert caught.value.executed is False
        held.release()
        await assert_works(worker)


def no_descriptors() -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize(
    ("where", "name", "broken"),
    [(sys, "executable", "/nowhere/python"), (socket, "socketpair", no_descriptors)],
    ids=["no interpreter", "no descriptors"],
)
async def test_one_that_cannot_be_started(where: Any, name: str, broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system starts no process the call fails, and did not run."""
    async with ProcessWorker(1) as worker:
        with monkeypatch.context() as patch, pytest.raises(SlackerError, match="cannot be started") as caught:
            patch.setattr(where, name, broken)
            await Slacker(work.echo, worker)("a")
        assert caught.value.executed is False
        await assert_works(worker)


MAIN = """
import asyncio
import errno
from slacker import Slacker, Refused
from slacker.workers import ProcessWorker
from tests.workers.work import echo

print("imported", __name__)

def of_main():
    pass

async def main():
    async with ProcessWorker(1) as worker:
        print(await Slacker(echo, worker)("a"))
        try:
            await Slacker(of_main, worker)()
        except Refused as error:
            print(error.reason)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["-c", "-", "script"])
def test_main_is_not_imported_again(tmp_path: Path, how: str) -> None:
    """A program given by -c, by stdin, or by a script without a guard, needs none; what stands in it is refused."""
    (tmp_path / "script.py").write_text(MAIN)
    arguments = {"-c": ["-c", MAIN], "-": ["-"], "script": [str(tmp_path / "script.py")]}[how]
    done = subprocess.run(
        [sys.executable, *arguments],
        input=MAIN if how == "-" else "",
        env={**os.environ, "PYTHONPATH": os.getcwd()},  # noqa: PTH109 (the path as it is)
        capture_output=True,
        text=True,
        timeout=LIVENESS,  # liveness bound
    )
    assert (done.stdout, done.stderr) == ("imported __main__\na\nunpicklable\n", "")


# --- waiting and cancelling --------------------------------------------------------------------------------------


async def test_bounds_what_waits(held: Held) -> None:
    """While all processes are busy max_queue calls may wait; one more raises QueueFull and did not run."""
    async with ProcessWorker(1, max_queue=2) as worker:
        calls = [held.start(worker, "a")]
        await held.until("a")
        calls += [held.start(worker, name) for name in "bc"]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull, match="1 workers are busy and 2 calls wait") as caught:
            await Slacker(work.echo, worker)("d")
        assert caught.value.executed is False
        held.release()
        assert await asyncio.gather(*calls) == ["a", "b", "c"]


async def test_a_waiting_call_that_is_cancelled_never_runs(held: Held) -> None:
    """A call that is cancelled while it waits never begins."""
    async with ProcessWorker(1) as worker:
        first, waiting = held.start(worker, "a"), held.start(worker, "b")
        await held.until("a")
        waiting.cancel()
        held.release()
        assert await first == "a"
        await assert_works(worker)
    assert not (held.directory / "b").exists()


async def test_a_running_call_that_is_cancelled_keeps_its_process(held: Held) -> None:
    """Cancelling a running call frees its caller at once; its process takes the next call when it has really ended."""
    async with ProcessWorker(1) as worker:
        call = held.start(worker, "a")
        (pid,) = await held.until("a")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        following = Slacker(os, worker).getpid().fetch()
        done, _ = await asyncio.wait([following], timeout=0.05)
        assert not done
        held.release()
        assert await following == pid


# --- closing -----------------------------------------------------------------------------------------------------


async def test_aclose_waits_for_calls(held: Held) -> None:
    """aclose() returns when the accepted calls, running and waiting, have ended, and with them the processes."""
    worker = ProcessWorker(1)
    calls = [held.start(worker, name) for name in "ab"]
    (pid,) = await held.until("a")
    closing = asyncio.create_task(worker.aclose())
    await asyncio.sleep(0)
    held.release()
    await closing
    assert [call.result() for call in calls] == ["a", "b"]
    assert not is_alive(pid)


async def test_aclose_kills_what_takes_too_long(held: Held, logged: Logged) -> None:
    """Past its time limit aclose() kills the processes, names their calls in a warning, and fails those that wait."""
    worker = ProcessWorker(1)
    calls = [held.start(worker, name) for name in "ab"]
    (pid,) = await held.until("a")
    await worker.aclose(0.01)
    running, waiting = await asyncio.gather(*calls, return_exceptions=True)
    assert (type(running), running.executed) == (TransportError, None)
    assert (type(waiting), waiting.executed) == (WorkerClosed, False)
    assert not is_alive(pid)
    (warning,) = logged(logging.WARNING)
    assert warning.endswith("still running 0.01 s after it was closed: hold(...)")


async def test_a_process_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has not ended some seconds after it was let go is killed."""
    monkeypatch.setattr(processes, "END_SECONDS", 0.01)
    async with ProcessWorker(1) as worker:
        pid = await pid_of(worker)
        os.kill(pid, signal.SIGSTOP)
    assert not is_alive(pid)


async def test_what_starts_while_all_are_killed_is_killed_too() -> None:
    """A process that is started just when aclose() has killed the others runs no call."""
    worker = ProcessWorker(1)
    worker._crew.kill()
    with pytest.raises(TransportError, match="signal 9") as caught:
        await Slacker(work.echo, worker)("a")
    assert caught.value.executed is False
    await worker.aclose()


async def test_idle_processes_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without work ends after IDLE_SECONDS, and the next call gets another."""
    monkeypatch.setattr(processes, "IDLE_SECONDS", 0.01)
    async with ProcessWorker(1) as worker:
        pid = await pid_of(worker)
        await asyncio.to_thread(until, lambda: not is_alive(pid))
        assert await pid_of(worker) != pid


def test_a_worker_that_nobody_has_ends_its_processes() -> None:
    """A worker that is collected without having been closed ends its processes."""
    worker = ProcessWorker(1)
    pid = asyncio.run(pid_of(worker))  # type: ignore[arg-type]
    del worker
    gc.collect()
    until(lambda: not is_alive(pid))


async def test_leaves_nothing_behind(open_descriptors: Callable[[], int]) -> None:
    """A closed worker leaves no descriptor and no thread."""

    async def use() -> None:
        async with ProcessWorker(2) as worker:
            await assert_works(worker)

    await use()
    before, threads = open_descriptors(), threading.active_count()
    for _ in range(3):
        await use()
    assert (open_descriptors(), threading.active_count()) == (before, threads)


# --- forks and the end of the interpreter ------------------------------------------------------------------------

SCRIPT = """
import asyncio, os, sys, warnings
from slacker import Slacker
from slacker.workers import ProcessWorker
from tests.workers.work import echo, hold, with_pid

worker = ProcessWorker(1)

async def pid():
    return await Slacker(os, worker).getpid()
"""


def test_begins_afresh_in_a_forked_child(run_script: RunScript) -> None:
    """Parent and child both go on with the worker after a fork, each with a process of its own."""
    done = run_script(
        SCRIPT
        + """
warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process that has threads
warnings.simplefilter("error", ResourceWarning)
before = asyncio.run(pid())
child = os.fork()
if not child:
    assert asyncio.run(pid()) != before
    asyncio.run(worker.aclose())
    sys.exit()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert asyncio.run(pid()) == before
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_fork_while_a_process_is_started_hides_no_end(run_script: RunScript) -> None:
    """A child that another thread forks just then holds neither end of the channel: a death is seen at once."""
    done = run_script(
        SCRIPT
        + """
import signal, subprocess
from slacker import TransportError
from slacker.workers import child
warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process that has threads
siblings = []

class Popen(subprocess.Popen):
    def __init__(self, *args, **options):
        siblings.append(os.fork())
        if not siblings[-1]:
            signal.pause()
        super().__init__(*args, **options)

async def main():
    try:
        async with asyncio.timeout(30):
            await Slacker(os, worker).abort()
    except TransportError as error:
        print(error)
    finally:
        os.kill(siblings[0], signal.SIGKILL)
        os.waitpid(siblings[0], 0)

child.subprocess.Popen = Popen
asyncio.run(main())
"""
    )
    assert "a process was ended by signal 6" in done.stdout


def test_work_may_fork_and_its_child_too(run_script: RunScript) -> None:
    """Each lets go of the channel, once, and silently."""
    done = run_script(
        SCRIPT
        + """
from tests.workers.work import fork_twice

async def main():
    async with worker:
        return [await Slacker(fork_twice, worker)(), await Slacker(echo, worker)("a")]

print(asyncio.run(main()))
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 'a']\n", "")


def test_the_end_of_the_interpreter_waits_for_nothing_and_says_so(run_script: RunScript, tmp_path: Path) -> None:
    """An interpreter that exits kills its processes, drops waiting calls, and names them in one line."""
    done = run_script(
        SCRIPT
        + f"""
from pathlib import Path

async def main():
    global calls
    calls = [Slacker(hold, worker)({str(tmp_path)!r}, name).fetch() for name in "ab"]
    while not Path({str(tmp_path)!r}, "a").exists():
        await asyncio.sleep(0.01)

loop = asyncio.new_event_loop()  # which is not closed, as asyncio.run would: that cancels what waits
loop.run_until_complete(main())
for call in calls:
    call._log_destroy_pending = False
"""
    )
    assert done.stderr == (
        "the interpreter ends with calls unfinished; dropped while waiting: hold(...); "
        "abandoned while running: hold(...)\n"
    )
    assert (done.returncode, done.stdout) == (0, "")
    pid = int((tmp_path / "a").read_text())
    until(lambda: not is_alive(pid))


@pytest.mark.parametrize("last", ["", "asyncio.run(worker.aclose())"], ids=["idle", "closed"])
def test_the_end_of_the_interpreter_is_quiet_when_all_is_done(run_script: RunScript, last: str) -> None:
    """An interpreter that exits with idle processes, or after aclose, prints nothing, and they end."""
    done = run_script(SCRIPT + "print(asyncio.run(pid()), flush=True)\n" + last)
    assert (done.returncode, done.stderr) == (0, "")
    until(lambda: not is_alive(int(done.stdout)))


def test_processes_end_with_a_parent_that_is_killed(held: Held) -> None:
    """When their parent is killed processes end, whatever they are at."""
    source = SCRIPT + textwrap.dedent(f"""
        async def main():
            await Slacker(hold, worker)({str(held.directory)!r}, "a")
        asyncio.run(main())
    """)
    with subprocess.Popen([sys.executable, "-c", source]) as parent:
        until((held.directory / "a").exists)
        parent.kill()
    pid = int((held.directory / "a").read_text())
    until(lambda: not is_alive(pid))
