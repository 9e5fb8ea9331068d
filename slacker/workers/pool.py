"""A lean pool of threads: what `ThreadWorker` is made of, and `ProcessWorker`, where each thread has a process.

    loop's thread                              pool's threads
    submit: job ----> [ jobs ] ---- gates ---> take a job, run it
    Future <--------- [ inbox of the loop ] <- its outcome

Waking a thread costs more than a small call, hence the one rule: at most one thread is on its way to the jobs
(`Pool._called`). It calls the next one if it leaves jobs behind, and a thread that finishes a job takes another
without being woken. So a burst of small calls wakes one thread, and a burst of long ones all of them. Of those that are
idle the one that was busy last is called: it is the quickest to wake, and the others, if they are never needed, end.
`concurrent.futures` wakes a thread for each call and the loop for each result, and links two futures between.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import functools
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, final

from ..chain import Chain
from ..errors import QueueFull, SlackerError, WorkerClosed
from ..outcome import Error, Outcome
from .base import log_call, logger, running_loop
from .inbox import Inbox, inbox_of
from .jobs import Job, outlines

__all__ = ["Pool"]

IDLE_SECONDS = 60.0
"""How long a thread waits for work before it ends: long enough for a lull, short enough to give connections back."""

LOOK_OUT_SECONDS = 50e-6
"""How long a thread that has finished a call looks out for another before it waits: calls one after another then cost
it no sleep, and a fifth less time. A longer look brings no more."""

_let_others_run = getattr(os, "sched_yield", functools.partial(time.sleep, 0))
"""Gives up the GIL, and the processor if anybody wants it."""


@final
class _Thread(threading.Thread):
    """A thread of a pool. When it is idle it waits at its gate."""

    def __init__(self, work: Callable[[_Thread], None], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self.on_its_way = True
        self.gate = threading.Lock()
        self.gate.acquire()

    def run(self) -> None:
        self._work(self)


@final
class Pool:
    """Bounded threads, started on demand, and the jobs they feed from.

    The state that `_mutex` guards: the jobs, who runs what, how many threads wait at the gate, whether one was
    called. It is held for a few instructions, or the start of a thread, by loops as by threads. It is reentrant, for
    a garbage collection may come while it is held and run anybody's ``__del__``, which may call or close a worker.

    Args:
        max_workers: most threads at once.
        max_queue: most calls that may wait while all threads are busy; None for no bound.
        name: prefix of the threads' names.
        on_thread_exit: called in each thread as its last act.
        on_exit: called when the interpreter ends, after it was said what that drops.
        idle_seconds: how long a thread waits for work before it ends; None for IDLE_SECONDS.
        logs: whether the threads write the line of each call, or leave it to whoever makes something of the outcome.
    """

    def __init__(
        self,
        max_workers: int,
        max_queue: int | None,
        name: str,
        on_thread_exit: Callable[[], None],
        *,
        on_exit: Callable[[], None] | None = None,
        idle_seconds: float | None = None,
        logs: bool = True,
    ) -> None:
        self.max_workers = max_workers
        self.max_queue = max_queue
        self.name = name
        self._on_thread_exit = on_thread_exit
        self.on_exit = on_exit
        self._idle_seconds = idle_seconds
        self._logs = logs
        self.closed = False
        self.reset()
        _pools.add(self)

    def reset(self) -> None:
        """Begin afresh, as in a forked child: threads do not survive a fork, and locks may be held by lost ones."""
        self._mutex = threading.RLock()
        self._jobs: deque[Job] = deque()
        self._running: dict[_Thread, Job] = {}
        self._threads: set[_Thread] = set()
        self._idle: list[_Thread] = []
        self._called = False
        self._started = 0
        self._last_inbox: Inbox | None = None
        self._on_end: set[Callable[[], None]] = set()

    # --- called from loops ------------------------------------------------------------------------------------

    def submit(self, chain: Chain, replay: Callable[[Chain], Outcome], *, limited: bool = True) -> asyncio.Future[Any]:
        """Queue a call of `replay` with `chain`, and return a Future of the running loop for its outcome.

        Cancelling the Future before a thread took the call means that it never runs. After that the thread goes on
        to the end; its result is dropped, its exception logged. So it is when the chain's timeout passes, unless it is
        not `limited`.

        The Future fails with `WorkerClosed` or `QueueFull` when nothing was queued, with SlackerError when the pool
        has no thread and the system none to give, with `DeadlineExceeded` when its time has passed.
        """
        loop = running_loop()
        inbox = self._last_inbox
        if inbox is None or not inbox.belongs_to(loop):
            inbox = self._last_inbox = inbox_of(loop)
        job = Job(chain, replay, loop.create_future(), inbox, chain.options.timeout if limited else None)
        with self._mutex:
            refusal = self._refusal(chain) if self.closed or self.max_queue is not None else None
            if refusal is None:
                self._jobs.append(job)
                if not self._called:
                    self._call_a_thread()
        if refusal is not None:
            job.future.set_exception(refusal)
        elif job.limit is not None:
            timer = loop.call_later(job.limit, self._expire, job)
            job.future.add_done_callback(lambda _: timer.cancel())
        return job.future

    def close(self) -> None:
        """Take no more work; threads end when none is left.

        Safe in a finalizer, which may come while its thread holds a lock that a holder of the mutex waits for
        (`threading` has one). Hence the limit. Past it nobody is woken, and threads end when they have been idle.
        """
        self.closed = True
        if self._mutex.acquire(timeout=1.0):
            try:
                self._call_a_thread()
            finally:
                self._mutex.release()

    async def join(self, timeout: float) -> None:
        """Wait until all threads have ended, `timeout` seconds at most.

        Then calls that still wait fail with `WorkerClosed`, and those that still run are named in a warning.
        """
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def on_end() -> None:
            try:
                loop.call_soon_threadsafe(ended.set)
            except RuntimeError:  # whoever waited is gone, and the loop with it
                logger.debug("%s ended after the loop that closed it", self.name)

        with self._mutex:
            if not self._threads:
                return
            self._on_end.add(on_end)
        try:
            await asyncio.wait_for(ended.wait(), timeout)
        except TimeoutError:
            self._give_up(timeout)
        finally:
            with self._mutex:
                self._on_end.discard(on_end)

    def unfinished(self) -> tuple[list[Job], list[Job]]:
        """Return the jobs that wait and those that run."""
        with self._mutex:
            return [job for job in self._jobs if not job.future.done()], list(self._running.values())

    def _give_up(self, timeout: float) -> None:
        with self._mutex:  # once for both: a call either runs or fails as one that waited
            running = list(self._running.values())
            self._fail_waiting(lambda outline: WorkerClosed(f"{self.name!r} was closed: {outline} did not run."))
        if running:
            logger.warning("%s: still running %g s after it was closed: %s", self.name, timeout, outlines(running))

    def _expire(self, job: Job) -> None:
        with self._mutex:
            if not job.future.done():
                job.future.set_exception(job.too_late())

    def _refusal(self, chain: Chain) -> Exception | None:
        if self.closed:
            return WorkerClosed(f"{self.name!r} is closed: {chain.outline()} did not run. Make a new worker.")
        assert self.max_queue is not None
        room = self.max_workers + self.max_queue - len(self._running)
        if len(self._jobs) >= room:
            waiting, self._jobs = self._jobs, deque()
            self._jobs.extendleft([job for job in reversed(waiting) if not job.future.done()])
        if len(self._jobs) < room:
            return None
        return QueueFull(
            f"{self.name!r}: all {self.max_workers} workers are busy and {self.max_queue} calls wait already "
            f"(max_queue); {chain.outline()} did not run. Try again later, or answer that you are busy."
        )

    # --- threads and the gate; the mutex is held --------------------------------------------------------------

    def _call_a_thread(self) -> None:
        if self._called:
            return
        self._called = True  # first of all, for whoever reenters
        if self._idle:
            self._idle.pop().gate.release()
        elif self._jobs and len(self._threads) < self.max_workers:
            self._start_a_thread()
        else:
            self._called = False

    def _start_a_thread(self) -> None:
        self._started += 1
        thread = _Thread(self._work, f"{self.name}-{self._started}")
        self._threads.add(thread)
        try:
            contextvars.Context().run(thread.start)  # or it keeps the first caller's, where threads inherit one
        except (RuntimeError, MemoryError) as error:  # the system has no thread to give
            self._threads.discard(thread)
            self._called = False
            if not self._threads:
                reason = f"no thread could be started ({error})"
                self._fail_waiting(
                    lambda outline: SlackerError(f"{self.name!r}: {reason}; {outline} did not run.", executed=False)
                )

    def _fail_waiting(self, error_for: Callable[[str], Exception]) -> None:
        waiting, self._jobs = self._jobs, deque()
        for job in waiting:
            if not job.future.done():
                job.inbox.deliver(job.future, job.chain, Error(error_for(job.chain.outline()), 0))

    def _take(self, thread: _Thread) -> Job | None:
        jobs = self._jobs
        while jobs:
            job = jobs.popleft()
            if job.future.done():
                continue
            if job.is_late:  # and the loop has not noticed, for it stands still
                job.inbox.deliver(job.future, job.chain, Error(job.too_late(), 0))
            else:
                job.began = True
                self._running[thread] = job
                if jobs and not self._called:
                    self._call_a_thread()
                return job
        return None

    # --- the threads ------------------------------------------------------------------------------------------

    def _work(self, thread: _Thread) -> None:
        job: Job | None = None
        try:
            while True:
                worked = job is not None
                job = None  # what is left of the last call shall not be held while the thread looks out or waits
                if thread.on_its_way and worked:
                    self._look_out()
                with self._mutex:
                    self._arrive(thread)
                    job = self._take(thread)
                    waits = job is None and not worked
                    if waits:
                        if self.closed:
                            self._call_a_thread()  # while this one does its last act
                            return
                        self._idle.append(thread)
                if job is not None:
                    self._run(thread, job)
                elif waits and not self._wait_for_call(thread):
                    return
        finally:
            self._leave(thread)

    def _look_out(self) -> None:
        # Only the thread that is on its way does, so never two; and without the mutex, which is for loops to take.
        end = time.perf_counter() + LOOK_OUT_SECONDS
        while not self._jobs and time.perf_counter() < end:
            _let_others_run()

    def _arrive(self, thread: _Thread) -> None:
        if thread.on_its_way:
            thread.on_its_way = self._called = False

    def _wait_for_call(self, thread: _Thread) -> bool:
        called = thread.gate.acquire(timeout=IDLE_SECONDS if self._idle_seconds is None else self._idle_seconds)
        if not called:
            with self._mutex:
                if thread in self._idle:
                    self._idle.remove(thread)
                    return False
            thread.gate.acquire()  # called at the last moment
        thread.on_its_way = True
        return True

    def _run(self, thread: _Thread, job: Job) -> None:
        begun = time.perf_counter()
        try:
            outcome = job.context.run(job.replay, job.chain)
        except BaseException as error:  # that returns outcomes; whatever else happens, somebody awaits this one
            outcome = Error(error, 0)
        del job.context  # frees what the work has set, which may take any time: now, while others are called
        try:
            if self._logs and logger.isEnabledFor(logging.DEBUG):
                log_call(job.chain, outcome, begun - job.submitted, time.perf_counter() - begun)
        finally:  # whatever a handler of the log may raise
            with self._mutex:
                del self._running[thread]  # before the result, which may bring the next call
                if not self._called:  # for that, no other thread is needed
                    thread.on_its_way = self._called = True
            job.inbox.deliver(job.future, job.chain, outcome)
            del job, outcome  # a failure's traceback leads to this frame: it would hold itself, and the Future too

    def _leave(self, thread: _Thread) -> None:
        try:
            self._on_thread_exit()
        except BaseException:
            logger.exception("%s: what a thread does as its last act failed", self.name)
        with self._mutex:
            self._arrive(thread)
            self._threads.discard(thread)
            # Until now this thread was counted: a call that came after it had given up waiting started no other.
            # And of a closed pool each thread wakes the next, until none is left.
            if self._jobs or self.closed:
                self._call_a_thread()
            on_end = [] if self._threads else list(self._on_end)
        for callback in on_end:
            callback()


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _at_exit() -> None:
    """Say once what the end of the interpreter drops: threads are daemons, so that none of them can hold it up."""
    dropped: list[Job] = []
    abandoned: list[Job] = []
    for pool in list(_pools):
        waiting, running = pool.unfinished()
        dropped += waiting
        abandoned += running
    if dropped or abandoned:
        logger.warning(
            "the interpreter ends with calls unfinished; dropped while waiting: %s; abandoned while running: %s",
            outlines(dropped) or "none",
            outlines(abandoned) or "none",
        )
    for pool in list(_pools):
        if pool.on_exit is not None:
            pool.on_exit()


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool.reset()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)
