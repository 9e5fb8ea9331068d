"""The way back to a loop: outcomes from other threads become results of its Futures.

One inbox a loop, shared by all pools. The rule that makes it fast: at most one wake-up is pending. The flag is
cleared before the inbox is looked at, so an outcome that arrives meanwhile either is seen or wakes the loop again.

The loop is woken through an eventfd of the inbox's own, where there is such a thing: `loop.call_soon_threadsafe`
costs a socket, a handle and another turn of the loop, a quarter of the time of a small call
(``benchmarks/threads.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
import weakref
from collections import deque
from typing import Any, final

from ..chain import Chain
from ..outcome import Error, Outcome, Value
from .base import logger

__all__ = ["Inbox", "inbox_of"]


@final
class Inbox:
    """Outcomes on their way to one loop, to which it refers weakly: it must not keep a loop that is done with."""

    __slots__ = ("__weakref__", "_arrived", "_bell", "_loop", "_waking")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._arrived: deque[tuple[asyncio.Future[Any], Chain, Outcome]] = deque()
        self._waking = False
        self._bell: int | None = None
        try:
            bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except (AttributeError, OSError):  # not Linux, or no descriptor left
            return
        try:
            # In no context: the loop would keep the one of the first caller, and log in it what happened to others.
            contextvars.Context().run(loop.add_reader, bell, self._answer_bell)
        except (NotImplementedError, OSError):  # a loop without readers, or with no room for one more
            os.close(bell)
            return
        self._bell = bell
        # Closed with the inbox and no sooner: a thread that is about to ring refers to the inbox, and would else
        # write to whatever file has the number next.
        weakref.finalize(self, os.close, bell).atexit = False

    def belongs_to(self, loop: asyncio.AbstractEventLoop) -> bool:
        return self._loop() is loop

    def deliver(self, future: asyncio.Future[Any], chain: Chain, outcome: Outcome) -> None:
        """Settle `future` on its loop, soon; from any thread.

        What a closed loop gets is dropped, exceptions logged.
        """
        self._arrived.append((future, chain, outcome))
        if self._waking:
            return
        self._waking = True
        loop = future.get_loop()
        if self._bell is not None:
            os.eventfd_write(self._bell, 1)
        else:
            with contextlib.suppress(RuntimeError):  # closed, as is seen below
                loop.call_soon_threadsafe(self._settle)
        if loop.is_closed():  # asked last: what comes before it closes, the next loop's `inbox_of` drops
            self.drop()

    def drop(self) -> None:
        """Let go of what the loop, now closed, did not fetch any more. Exceptions are logged."""
        self._waking = False
        with contextlib.suppress(IndexError):  # empty, which several threads may find at once
            while True:
                _future, chain, outcome = self._arrived.popleft()
                _log_abandoned(chain, outcome)

    def _answer_bell(self) -> None:
        assert self._bell is not None
        try:  # noqa: SIM105 (suppress() takes longer than the rest of this method)
            os.eventfd_read(self._bell)
        except BlockingIOError:  # libuv may say "readable" when nothing is
            pass
        self._settle()

    def _settle(self) -> None:
        self._waking = False
        arrived = self._arrived
        try:
            while arrived:
                future, chain, outcome = arrived.popleft()
                if future.done():  # cancelled while the work ran
                    _log_abandoned(chain, outcome)
                elif isinstance(outcome, Value):
                    future.set_result(outcome.value)
                elif isinstance(outcome, Error):
                    future.set_exception(outcome.arrive(chain))
                else:
                    future.set_result(outcome.unwrap(chain))
        finally:
            if arrived:  # a handler of the log raised: the others' outcomes shall not wait for the next bell
                asyncio.get_running_loop().call_soon(self._settle)


def _log_abandoned(chain: Chain, outcome: Outcome) -> None:
    if isinstance(outcome, Error) and getattr(outcome.exception, "executed", None) is not False:
        logger.error("%s failed after its caller had gone", chain.outline(), exc_info=outcome.exception)


_inboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Inbox] = weakref.WeakKeyDictionary()
_inboxes_lock = threading.RLock()  # reentrant, as the pool's


def inbox_of(loop: asyncio.AbstractEventLoop) -> Inbox:
    """Return the inbox of `loop`, which is running in this thread."""
    with _inboxes_lock:
        inbox = _inboxes.get(loop)
        if inbox is None:
            # An outcome that was never fetched refers to its Future, and so keeps the closed loop and this entry.
            for other, others_inbox in list(_inboxes.items()):
                if other.is_closed():
                    others_inbox.drop()
                    del _inboxes[other]
            inbox = _inboxes[loop] = Inbox(loop)
        return inbox


def _after_fork_in_child() -> None:
    global _inboxes_lock
    _inboxes_lock = threading.RLock()
    _inboxes.clear()  # their descriptors are shared with the parent


os.register_at_fork(after_in_child=_after_fork_in_child)
