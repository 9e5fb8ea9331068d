"""`ProcessWorker`: a pool of threads each of which has a process of its own.

The pool queues, bounds, cancels and closes as it does for `ThreadWorker`. Its threads only pass bytes to their process
and back, which takes little of the loop's time. `concurrent.futures.ProcessPoolExecutor` would fail every call it was
given when one of its processes dies; here that is the one call which that process had.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from functools import partial
from typing import Any, final

from ..arguments import check_count
from ..chain import Chain
from ..errors import SlackerError
from ..outcome import Error, Outcome, Value
from .base import Worker, delivered
from .child import Child, Setup
from .pool import Pool
from .transfer import decode, encode

__all__ = ["ProcessWorker"]

IDLE_SECONDS = 600.0
"""How long a process is kept without work: starting another takes up to a second, with Django and many models."""

END_SECONDS = 5.0
"""How long an idle process may take to end before it is killed; it has no more to do than close and flush."""


class ProcessWorker(Worker):
    """Replays chains in local processes: for CPU-bound Python, which in threads would hold up the loop.

    What goes there and back is pickled, as with `HttpWorker`: the work must be importable by name, and what stands in
    ``__main__`` is refused. A process is a fresh interpreter with this one's ``sys.path``, environment and working
    directory; it does not import ``__main__``. Context variables of the caller do not go along.

    When a process dies, by a crash or by ``os._exit``, the call that it had fails with `TransportError`, whose
    ``executed`` is None. All others go on; the next call starts another process.

    May be shared between loops and threads; begins afresh after a fork. Processes are started when there is work for
    them, and end after ten minutes without any. Cancelling a call that waits means it never runs. Cancelling one that
    runs frees the caller at once; the process goes on to the end, and what comes of it is dropped. An interpreter that
    exits waits for nothing, kills its processes and warns of what it dropped.

    Args:
        max_workers: most processes at once. By default as many as there are cores to run on: CPU-bound calls gain
            nothing by more, and each takes the memory of an interpreter.
        max_queue: most calls that may wait while all processes are busy; one more raises `QueueFull`. None, the
            default, sets no bound.

    Raises:
        TypeError, ValueError: an argument is no whole number, or too small.
    """

    def __init__(self, max_workers: int | None = None, *, max_queue: int | None = None) -> None:
        if max_workers is None:
            max_workers = _cores()
        check_count("max_workers", max_workers, least=1)
        if max_queue is not None:
            check_count("max_queue", max_queue, least=0)
        self._crew = _Crew()
        self._pool = Pool(
            max_workers,
            max_queue,
            "slacker-process",
            self._crew.dismiss,
            on_exit=self._crew.abandon,
            idle_seconds=IDLE_SECONDS,
            logs=False,
        )
        weakref.finalize(self, self._pool.close).atexit = False  # at exit the pool looks after itself

    async def run(self, chain: Chain) -> Any:
        call = _Call(self.setup())
        return delivered(chain, await self._outcome(chain, call), call.waited, call.ran)

    async def aclose(self, timeout: float = 10.0) -> None:
        """Take no more calls, wait for those that were accepted, and end the processes.

        Args:
            timeout: seconds to wait. After that calls still waiting fail with `WorkerClosed`. Those still running are
                named in a warning on the logger ``slacker``, their processes killed, and they fail with
                `TransportError`.
        """
        self._closed = True
        self._pool.close()
        await self._pool.join(timeout)
        if self._crew.kill():
            await self._pool.join(END_SECONDS)

    def setup(self) -> Setup:
        """For subclasses: return what a process must have done first that runs the next call (`slacker.workers.child`).

        One that has done something else is replaced.
        """
        return None

    def options(self) -> str:
        """For subclasses: return the plain data that goes along with the next call, encoded."""
        return "{}"

    async def _outcome(self, chain: Chain, call: _Call) -> Outcome:
        try:
            self.check_open()
            call.envelope = encode(chain, self.options())
            return await decode(chain, await self._pool.submit(chain, partial(self._crew.ask, call)))
        except SlackerError as error:
            return Error(error, 0)

    def __repr__(self) -> str:
        pool = self._pool
        bound = "" if pool.max_queue is None else f", max_queue={pool.max_queue}"
        return f"{type(self).__name__}(max_workers={pool.max_workers}{bound})"


def _cores() -> int:
    # Those that this process may use, fewer than there are in many a container.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@final
class _Call:
    """One call on its way: what is sent, and when what happened to it."""

    __slots__ = ("answered", "begun", "envelope", "handed_over", "setup")

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.envelope = b""
        self.begun = self.handed_over = self.answered = time.perf_counter()

    @property
    def waited(self) -> float:
        """Seconds until it was handed to a process."""
        return self.handed_over - self.begun

    @property
    def ran(self) -> float:
        """Seconds from then to its answer."""
        return self.answered - self.handed_over


@final
class _Crew:
    """The processes of one worker. Each thread of its pool starts, uses and ends its own."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._children: set[Child] = set()
        self._killed = False
        self._abandoned = False
        _crews.add(self)

    # --- in the pool's threads --------------------------------------------------------------------------------

    def ask(self, call: _Call, chain: Chain) -> Outcome:
        """Return the frames of what this thread's process makes of `call`, or what became of it instead."""
        try:
            child = self._child(call.setup)
            call.handed_over = time.perf_counter()
            return Value(child.ask(call.envelope))
        except BaseException as error:  # MemoryError too: what is left in the channel is for no other call to read
            self.dismiss()
            return Value(None) if self._abandoned else Error(error, 0)
        finally:
            call.answered = time.perf_counter()

    def dismiss(self) -> None:
        """End this thread's process, if it has one."""
        child: Child | None = self._own.__dict__.pop("child", None)
        if child is not None:
            child.end(END_SECONDS)
            self._children.discard(child)

    def _child(self, setup: Setup) -> Child:
        child: Child | None = getattr(self._own, "child", None)
        if child is not None and child.setup == setup and child.is_alive():
            return child
        self.dismiss()
        child = self._own.child = Child(setup)
        self._children.add(child)
        if self._killed:
            child.kill()
        child.get_ready()
        return child

    # --- from elsewhere ---------------------------------------------------------------------------------------

    def kill(self) -> bool:
        """Kill all processes, also one that is about to start. Return whether there was any."""
        self._killed = True
        children = list(self._children)
        for child in children:
            child.kill()
        return bool(children)

    def abandon(self) -> None:
        """Kill the processes that are at work, of which nobody is to be told; the idle ones end with this process."""
        self._abandoned = True
        for child in list(self._children):
            if child.busy:
                child.kill()

    def forget(self) -> None:
        """Begin afresh in a forked child: the processes are the parent's."""
        for child in self._children:
            child.forget()
        self._children.clear()
        self._own = threading.local()


_crews: weakref.WeakSet[_Crew] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for crew in list(_crews):
        crew.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)
