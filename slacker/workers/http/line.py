"""The calls of one event loop to one server: as many requests on their way as there are connections, the rest in line.

    run:  a connection is free ------------> the caller itself sends its call, and is cancelled with it
          none is free ----> [ waiting ] --> whoever ends a request has those at the head of the line carried, by a task
                                             that outlives any of their callers, several in one request if many wait

Calls share a request because a request costs both sides more than a small call does. They are never so many that the
line would be shorter than the connections (`Line._take`), and none waits for others to come.

One timer, armed for the first deadline, serves all calls; `asyncio.timeout` would arm and disarm one for each, a tenth
of what a call costs the loop. Nothing here refers to the loop, which is kept weakly.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, TypeAlias, final

from ...errors import SlackerError
from ...outcome import Error, Outcome
from ...wire import MAX_CHAINS
from .call import CLOSED, LATE, PendingCall, Send, Stopped

__all__ = ["Held", "Line"]

SHARED_BYTES = 64 << 10
"""Most bytes of a request that calls share: what sharing saves is only worth it for small ones."""

Ticket: TypeAlias = tuple[asyncio.Future[Any], Send | None]
"""What a call that waits has in line: the Future of its outcome, and what will send it, to which nothing else here
refers. A stream has None for the latter: it is to keep the connection that it waits for.
"""

Held: TypeAlias = "weakref.WeakSet[Callable[[], None]]"
"""What gives up the streams that have a connection. Weak: whoever drops a stream, with a loop that was closed, drops
its connection.
"""


@final
class Line:
    """See the head of this module.

    Args:
        connections: most requests on their way at once.
        max_batch: most calls that share one.
    """

    __slots__ = (
        "_active",
        "_armed_for",
        "_carriers",
        "_connections",
        "_max_batch",
        "_timers",
        "calls",
        "free",
        "held",
        "waiting",
    )

    def __init__(self, connections: int, max_batch: int) -> None:
        self._connections = connections
        self._max_batch = max_batch
        self.free = connections
        self._active = 0  # calls and streams, from their beginning to their end
        self.held: Held = weakref.WeakSet()
        self.waiting: OrderedDict[PendingCall, Ticket] = OrderedDict()
        self.calls: set[PendingCall] = set()
        self._carriers: set[asyncio.Task[None]] = set()
        self._armed_for = math.inf
        self._timers: set[float] = set()  # when those come that were armed; their handles refer to the loop

    async def run(self, call: PendingCall, send: Send) -> Outcome:
        """Have `send` send the call as soon as a connection is free, and return what happened to it.

        Its deadline holds until the answer has arrived; then it is decoded, however long that takes.

        Raises:
            Stopped: the deadline passed, or `stop` was called.
            Exception: what sending raised.
        """
        self._note(call)
        self._active += 1
        try:
            if not self.free:
                return await self._wait(call, send)
            self.free -= 1
            call.sent = asyncio.get_running_loop().time()
            try:
                reply = await send([call])
            finally:
                self._pass_on()
            self.calls.discard(call)
            outcomes = reply if isinstance(reply, list) else await reply()
            return outcomes[0]
        except asyncio.CancelledError:
            # As asyncio.timeout does: take our own cancelling back, and see whether there was another.
            if call.stopped and call.future is None and call.task.uncancel() <= call.cancels:
                raise Stopped from None
            raise
        finally:
            self.calls.discard(call)
            self._active -= 1
            call.done()

    async def hold(self, call: PendingCall) -> None:
        """Wait for a connection for `call` to keep, until `release`.

        Raises:
            Stopped: as for `run`; the connection is not held then.
        """
        self._active += 1
        try:
            if self.free:
                self.free -= 1
            else:
                call.future = asyncio.get_running_loop().create_future()
                self._note(call)
                self.waiting[call] = call.future, None
                try:
                    await call.future
                except asyncio.CancelledError:
                    if not call.future.cancelled() and call.future.exception() is None:  # it was given the connection
                        self._pass_on()
                    raise
                finally:
                    self.calls.discard(call)
                    self.waiting.pop(call, None)
        except BaseException:
            self._active -= 1
            raise
        finally:
            call.done()  # the stream holds the call to its end, and the first chunk is the result of this task

    def release(self) -> None:
        """Give a connection back that was held."""
        self._active -= 1
        self._pass_on()

    def stop(self) -> None:
        """Stop all calls and streams, as the worker is closed."""
        for call in list(self.calls):
            call.stop(CLOSED)
        for give_up in list(self.held):
            give_up()

    @property
    def is_busy(self) -> bool:
        """Whether there are calls or streams."""
        return self._active > 0

    def _note(self, call: PendingCall) -> None:
        self.calls.add(call)
        if call.deadline < self._armed_for:
            self._arm(call.deadline)

    # --- those that wait --------------------------------------------------------------------------------------

    async def _wait(self, call: PendingCall, send: Send) -> Outcome:
        call.future = asyncio.get_running_loop().create_future()
        self.waiting[call] = call.future, send
        try:
            return await call.future
        finally:
            self.waiting.pop(call, None)

    def _pass_on(self) -> None:
        taken = self._take() if self.waiting else None
        if not taken:
            self.free += 1
            return
        sent = asyncio.get_running_loop().time()
        for call in taken:
            call.sent = sent
        futures = [future for future, _ in taken.values()]
        _, send = next(iter(taken.values()))
        if send is None:
            futures[0].set_result(None)
            return
        # Not by create_task, whose factory may make eager tasks: sending would begin here, and might come here again.
        carrier = asyncio.Task(self._carry(send, list(taken), futures), loop=asyncio.get_running_loop())

        def give_up(_: object) -> None:
            if all(future.done() for future in futures):  # nobody is left who would take the answer
                carrier.cancel()

        for future in futures:
            future.add_done_callback(give_up)
        self._carriers.add(carrier)
        carrier.add_done_callback(self._carriers.discard)

    def _take(self) -> dict[PendingCall, Ticket]:
        """Take from the line what shall be sent together: no more than leaves as much for each other connection."""
        most = min(self._max_batch, -(-len(self.waiting) // self._connections))
        taken: dict[PendingCall, Ticket] = {}
        group = None
        size = chains = 0
        for call, ticket in self.waiting.items():
            future, send = ticket
            if future.done():  # stopped or cancelled, and not yet out of the line
                continue
            size += len(call.encoded.plain) + len(call.encoded.pickled)
            chains += call.encoded.chains
            too_much = len(taken) == most or size > min(SHARED_BYTES, call.room) or chains > MAX_CHAINS
            if taken and (too_much or send is None or call.group != group):
                break
            taken[call] = ticket
            group = call.group
            if send is None:
                break
        for call in taken:
            del self.waiting[call]
        return taken

    async def _carry(
        self, send: Send, calls: Sequence[PendingCall], futures: Sequence[asyncio.Future[Outcome]]
    ) -> None:
        # Nothing here refers to the task that this is: when it is given up, it holds an exception that leads here.
        try:
            try:
                reply = await send(calls)
            finally:
                self._pass_on()
            self.calls.difference_update(calls)
            outcomes = reply if isinstance(reply, list) else await reply()
        except Exception as error:
            outcomes = [Error(_another(error), 0) for _ in calls]
        for future, outcome in zip(futures, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)

    # --- deadlines --------------------------------------------------------------------------------------------

    def _arm(self, deadline: float) -> None:
        self._armed_for = deadline
        if deadline not in self._timers:
            self._timers.add(deadline)
            # In a context of its own: that of a call may hold a request of somebody's, which is done long before.
            asyncio.get_running_loop().call_at(deadline, self._on_deadline, deadline, context=Context())

    def _on_deadline(self, deadline: float) -> None:
        self._timers.discard(deadline)
        if deadline != self._armed_for:  # a call with an earlier one came later, and armed the timer that counts
            return
        self._armed_for = math.inf
        # A turn later: where the loop stood still past the deadline, what has arrived meanwhile is taken first.
        asyncio.get_running_loop().call_soon(self._stop_late, deadline, context=Context())

    def _stop_late(self, deadline: float) -> None:
        now = max(deadline, asyncio.get_running_loop().time())
        for call in list(self.calls):
            if call.deadline <= now:
                call.stop(LATE)
        following = min([call.deadline for call in self.calls if not call.stopped], default=math.inf)
        if following < self._armed_for:
            self._arm(following)


def _another(error: Exception) -> Exception:
    """Return an exception like it, for one of several who get it: each is given notes and a traceback of its own."""
    if not isinstance(error, SlackerError):
        return error
    # Not by copy.copy: tblib, which Dask installs, has it copy the traceback as well.
    same = type(error).__new__(type(error))
    same.args = error.args
    same.__dict__.update(error.__dict__)
    same.__cause__ = error.__cause__
    return same
