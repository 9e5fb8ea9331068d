"""What `HttpWorker` promises when nothing goes wrong between the hosts; `test_faults` has what does."""

from __future__ import annotations

import asyncio
import copyreg
import dataclasses
import gc
import hashlib
import itertools
import logging
import math
import re
import textwrap
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

import slacker
from slacker import (
    DeadlineExceeded,
    QueueFull,
    Refused,
    Slacker,
    TransportError,
    WorkerClosed,
    batch,
    options,
    run,
    wire,
    wsgi,
)
from slacker.chain import Chain, capture
from slacker.outcome import Value
from slacker.wire import encode_call
from slacker.workers.http import Answer, HttpWorker, NotSent, line, sender
from slacker.workers.http.call import PendingCall
from slacker.workers.http.endpoint import Endpoint
from slacker.workers.http.line import Line
from tests.waiting import LIVENESS, eventually, until

from .conftest import Watch, pass_time, run_script, ticking
from .servers import (
    AUDIENCE,
    KEY,
    Connection,
    HttpServer,
    count_connections,
    echo,
    make_hook,
    numbers,
    pass_gate,
    throw,
)


class Paired:
    """A transport that has a hook of its own behind it, without a socket.

    Args:
        hook: who answers.
        script: what happens first to each post: an exception is raised, anything else is awaited.
    """

    def __init__(self, hook: Any = None, script: list[Any] | None = None) -> None:
        self.application = wsgi.application(hook or make_hook())
        self.script = script or []
        self.posts = 0
        self.closed = False

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        self.posts += 1
        if self.script:
            step = self.script.pop(0)
            if isinstance(step, Exception):
                raise step
            await step
        reply: list[Any] = []
        environ = {
            "REQUEST_METHOD": "POST",
            "CONTENT_TYPE": headers["content-type"],
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_SLACKER_SIGNATURE": headers["slacker-signature"],
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.input": types.SimpleNamespace(read=lambda length: body[:length]),
        }
        content = b"".join(self.application(environ, lambda *start: reply.extend(start)))
        return Answer(int(reply[0][:3]), dict(reply[1])["Content-Type"], content)

    async def aclose(self) -> None:
        self.closed = True


def paired(*script: Any, hook: Any = None, **options: Any) -> tuple[HttpWorker, Paired]:
    transport = Paired(hook, list(script))
    options = {"key": KEY, "audience": AUDIENCE, "transport": transport, **options}
    return HttpWorker("http://paired/", **options), transport


# --- round trips ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        {"nested": [1, (2, 3)]},
        ValueError("a value"),
        bytes(2 << 20),
        list(range(2000)),
        [bytes(1 << 19)] * 9,
    ],
    ids=["None", "str", "nested", "exception", "2 MB", "4 frames", "large items"],
)
async def test_brings_back_what_the_work_returns(watch: Watch, value: Any) -> None:
    """Any picklable result comes back over real sockets, large and long ones too."""
    result = await Slacker(echo, watch.worker(watch.hook.url))(value)
    assert (type(result), repr(result)) == (type(value), repr(value))


async def test_takes_all_steps_in_one_request(watch: Watch) -> None:
    """A chain is one request, however many steps it has."""
    assert await Slacker(echo, watch.worker(watch.hook.url))("a b c").upper().split()[1:][0] == "B"
    assert watch.hook.requests == 1


async def test_raises_what_the_work_raises(watch: Watch) -> None:
    """The exception comes back with its class, a note that names the step, and the far traceback as its cause."""
    with pytest.raises(LookupError, match="gone") as caught:
        await Slacker(throw, watch.worker(watch.hook.url))(LookupError("gone"))
    assert caught.value.__notes__ == ["slacker: at step 1, throw, of throw(...)"]
    assert isinstance(caught.value.__cause__, wire.RemoteTraceback)
    assert "in throw" in str(caught.value.__cause__)


async def test_a_timeout_of_the_work_is_not_the_deadline() -> None:
    """A TimeoutError that the work raised stays one."""
    worker, _ = paired()
    with pytest.raises(TimeoutError) as caught:
        await Slacker(throw, worker)(TimeoutError("theirs"))
    assert type(caught.value) is TimeoutError


async def test_hands_out_futures() -> None:
    """``fetch`` starts the call and returns a Future for its result."""
    worker, _ = paired()
    assert await Slacker(echo, worker)(1).fetch() == 1


# --- connections ---------------------------------------------------------------------------------------------------


async def test_keeps_connections(watch: Watch) -> None:
    """Calls one after another share one connection."""
    worker = watch.worker(watch.hook.url)
    for _ in range(20):
        await watch.call(worker)
    assert (len(watch.hook.connections), watch.hook.requests) == (1, 20)


async def test_bounds_connections(watch: Watch) -> None:
    """At most `max_connections` requests are on their way at once, and as many connections are opened."""
    name, gate = watch.gate()
    worker = watch.worker(watch.hook.url, max_connections=3)
    calls = [watch.call(worker, pass_gate, name).fetch() for _ in range(12)]
    await eventually(lambda: len(gate.arrived) == 3)
    gate.open()
    await asyncio.gather(*calls)
    assert (watch.hook.most_busy, len(watch.hook.connections)) == (3, 3)


async def test_keeps_the_connections_of_a_burst(watch: Watch) -> None:
    """As many connections are kept as may be open: a second burst opens none."""
    name, gate = watch.gate()
    worker = watch.worker(watch.hook.url, max_connections=6)
    first = [watch.call(worker, pass_gate, name).fetch() for _ in range(6)]
    await eventually(lambda: len(gate.arrived) == 6)
    gate.open()
    await asyncio.gather(*first)
    await asyncio.gather(*[watch.call(worker) for _ in range(6)])
    assert len(watch.hook.connections) == 6


async def test_calls_wait_in_order(watch: Watch) -> None:
    """Calls that found no connection free are sent in the order in which they were made."""
    name, gate = watch.gate()
    worker = watch.worker(watch.hook.url, max_connections=1)
    calls = [watch.call(worker, pass_gate, name).fetch() for _ in range(10)]
    await eventually(lambda: gate.arrived)
    gate.open()
    assert await asyncio.gather(*calls) == gate.arrived


async def test_refuses_what_exceeds_the_queue(watch: Watch) -> None:
    """With `max_queue` calls waiting, one more raises QueueFull at once and never runs; later there is room again."""
    name, gate = watch.gate()
    worker = watch.worker(watch.hook.url, max_connections=2, max_queue=3)
    calls = [watch.call(worker, pass_gate, name).fetch() for _ in range(5)]
    await eventually(lambda: len(gate.arrived) == 2)
    await watch.fails(
        watch.call(worker), QueueFull, False, r"2 requests .* 3 calls wait .*count\(\.\.\.\) was not sent"
    )
    gate.open()
    await asyncio.gather(*calls)
    assert len(watch.ran()) == 5


async def test_a_cancelled_call_makes_room_in_the_queue() -> None:
    """A waiting call that is cancelled no longer counts."""
    held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    worker, _ = paired(held, max_connections=1, max_queue=1)
    first, second = Slacker(echo, worker)(1).fetch(), Slacker(echo, worker)(2).fetch()
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    third = Slacker(echo, worker)(3).fetch()
    await asyncio.sleep(0)
    held.set_result(None)
    assert await asyncio.gather(first, third) == [1, 3]


async def test_may_have_no_bound() -> None:
    """``max_queue=None`` lets any number wait."""
    worker, _ = paired(max_connections=1, max_queue=None)
    assert await asyncio.gather(*[Slacker(echo, worker)(number) for number in range(1500)]) == list(range(1500))


# --- deadlines -----------------------------------------------------------------------------------------------------


class Impatient(HttpWorker):
    """A worker whose calls have different deadlines, as with a setting that changes."""

    def __init__(self, transport: Paired, *timeouts: float, **options: Any) -> None:
        super().__init__("http://paired/", key=KEY, audience=AUDIENCE, transport=transport, **options)
        self.timeouts = iter(timeouts)

    async def _endpoint_now(self) -> Endpoint:
        return dataclasses.replace(self._endpoint, timeout=next(self.timeouts))


async def test_the_deadline_passes_while_waiting() -> None:
    """A call whose deadline passes while it waits for a connection was not sent, and says so."""
    held = asyncio.get_running_loop().create_future()
    transport = Paired(script=[held])
    worker = Impatient(transport, LIVENESS, 0.05, max_connections=1)
    sent, waiting = Slacker(echo, worker)(1).fetch(), Slacker(echo, worker)(2).fetch()
    with pytest.raises(
        DeadlineExceeded, match=r"echo\(\.\.\.\): no connection .* free within 0.05 s; it was not sent"
    ) as caught:
        await waiting
    assert (caught.value.executed, transport.posts) == (False, 1)
    held.set_result(None)
    assert await sent == 1


async def test_every_call_has_its_own_deadline() -> None:
    """One timer serves all calls of a loop, and each ends at its own deadline, in whichever order they came."""
    held = [asyncio.get_running_loop().create_future() for _ in range(5)]
    transport = Paired(script=list(held))
    worker = Impatient(transport, LIVENESS, 15, 5, 10, LIVENESS)
    ended: list[int] = []

    async def call(number: int) -> int:
        try:
            result: int = await Slacker(echo, worker)(number)
            return result
        finally:
            ended.append(number)

    calls = [asyncio.create_task(call(number)) for number in range(5)]
    while transport.posts < len(calls):  # noqa: ASYNC110 (the transport sets no event)
        await asyncio.sleep(0)
    for number in (2, 3, 1):
        pass_time(5)
        with pytest.raises(DeadlineExceeded):
            await calls[number]
    assert ended == [2, 3, 1]
    held[0].set_result(None)
    held[4].set_result(None)
    assert await asyncio.gather(calls[0], calls[4]) == [0, 4]


async def test_a_deadline_has_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many calls with nearer deadlines come and go beside one that has time."""
    loop = asyncio.get_running_loop()
    armed: list[float] = []
    call_at = loop.call_at

    def noted(when: float, *args: Any, **options: Any) -> Any:
        armed.append(when)
        return call_at(when, *args, **options)

    monkeypatch.setattr(loop, "call_at", noted)
    held = [loop.create_future() for _ in range(6)]
    transport = Paired(script=list(held))
    worker = Impatient(transport, 86400, *[15] * 5)
    long = Slacker(echo, worker)(0).fetch()
    for _ in range(5):
        late = Slacker(echo, worker)(1).fetch()
        await asyncio.sleep(0)
        pass_time(15)
        with pytest.raises(DeadlineExceeded):
            await late
    assert sum(when > loop.time() + 40_000 for when in armed) == 1
    held[0].set_result(None)
    assert await long == 0


async def test_a_timer_that_nobody_needs_any_more() -> None:
    """The time of a call that was answered before passes, and ends no other."""
    held = [asyncio.get_running_loop().create_future() for _ in range(3)]
    transport = Paired(script=list(held))
    worker = Impatient(transport, 15, 5, LIVENESS)
    answered, late = Slacker(echo, worker)(0).fetch(), Slacker(echo, worker)(1).fetch()
    await asyncio.sleep(0)
    held[0].set_result(None)
    assert await answered == 0
    pass_time(5)
    with pytest.raises(DeadlineExceeded):
        await late
    last = Slacker(echo, worker)(2).fetch()
    await asyncio.sleep(0)
    pass_time(10)
    await asyncio.sleep(0.01)
    held[2].set_result(None)
    assert await last == 2


async def test_what_arrived_while_the_loop_stood_still_counts(watch: Watch) -> None:
    """An answer that was there before its deadline is delivered, though the loop looked only after it."""
    worker = watch.worker(watch.hook.url)
    await watch.call(worker)  # there is a connection
    served = watch.hook.requests
    call = options(Slacker(echo, worker)("in time"), timeout=LIVENESS).fetch()
    await asyncio.sleep(0)
    until(lambda: watch.hook.requests > served and not watch.hook.busy)  # which holds the loop up
    pass_time(LIVENESS)
    assert await call == "in time"


async def test_deadlines_hold_after_an_idle_time() -> None:
    """A deadline that passes when no call is left does not switch off those of later calls."""
    held = [asyncio.get_running_loop().create_future() for _ in range(2)]
    worker, _ = paired(*held, timeout=0.02)
    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            await Slacker(echo, worker)(1)


async def test_a_late_call_frees_its_connection(watch: Watch) -> None:
    """After a deadline the place is free for the next call, and the far side finishes the late one, once."""
    name, gate = watch.gate()
    worker = watch.worker(watch.hook.url, max_connections=1)
    call = watch.call(worker, pass_gate, name).fetch()
    await eventually(lambda: gate.arrived)
    pass_time(LIVENESS)
    await watch.fails(call, DeadlineExceeded, None, "it may run still")
    await watch.call(worker)
    assert gate.arrived == watch.ran()[:1]


async def test_a_timeout_around_the_call_is_the_callers() -> None:
    """``asyncio.timeout`` around a call raises a plain TimeoutError and leaves the task as it was."""
    worker, _ = paired(asyncio.get_running_loop().create_future())
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.01):
            await Slacker(echo, worker)(1)
    task = asyncio.current_task()
    assert task is not None
    assert (type(caught.value), task.cancelling()) == (TimeoutError, 0)


async def test_a_deadline_leaves_the_task_uncancelled() -> None:
    """After DeadlineExceeded the task goes on like any other: nothing of the stopping is left in it."""
    worker, _ = paired(asyncio.get_running_loop().create_future(), timeout=0.01)
    async with asyncio.TaskGroup():
        with pytest.raises(DeadlineExceeded):
            await Slacker(echo, worker)(1)
        await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


# --- cancelling ----------------------------------------------------------------------------------------------------


async def test_cancelling_a_waiting_call_sends_nothing(watch: Watch) -> None:
    """A call that is cancelled while it waits never reaches the server; the others do."""
    name, gate = watch.gate()
    worker = watch.worker(watch.hook.url, max_connections=1)
    sent, cancelled, last = [watch.call(worker, pass_gate, name).fetch() for _ in range(3)]
    await eventually(lambda: gate.arrived)
    cancelled.cancel()
    gate.open()
    await asyncio.wait([sent, cancelled, last])
    assert cancelled.cancelled()
    assert gate.arrived == watch.ran() == [await sent, await last]


async def test_cancelling_just_as_its_turn_comes_passes_the_connection_on() -> None:
    """A call that is cancelled in the moment in which it gets a connection gives it to the next."""
    held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    worker, transport = paired(held, max_connections=1)

    async def first() -> None:
        await Slacker(echo, worker)(1)
        second.cancel()  # its turn was set in this very step, and it has not run since

    task = asyncio.create_task(first())
    await asyncio.sleep(0)
    second, third = Slacker(echo, worker)(2).fetch(), Slacker(echo, worker)(3).fetch()
    await asyncio.sleep(0)
    held.set_result(None)
    assert await third == 3
    await task
    assert (second.cancelled(), transport.posts) == (True, 2)


async def test_a_connection_passes_over_a_call_that_was_just_cancelled() -> None:
    """A connection that becomes free in the moment in which the next call is cancelled goes to the one after it."""
    held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    worker, transport = paired(held, max_connections=1)
    first, second, third = [Slacker(echo, worker)(number).fetch() for number in range(3)]
    await asyncio.sleep(0)
    held.set_result(None)
    second.cancel()
    assert (await first, await third) == (0, 2)
    assert (second.cancelled(), transport.posts) == (True, 2)


async def test_cancelling_a_sent_call_gives_it_up(watch: Watch) -> None:
    """A call that is cancelled after it was sent closes its connection and frees its place; the far side finishes."""
    name, gate = watch.gate()
    closed = threading.Event()

    def fault(connection: Connection) -> None:
        connection.relay()
        closed.set()

    watch.faulty.script.append(fault)
    worker = watch.worker(max_connections=1)
    call = watch.call(worker, pass_gate, name).fetch()
    await eventually(lambda: gate.arrived)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    await eventually(closed.is_set)
    await watch.call(worker)
    assert gate.arrived == watch.ran()[:1]


async def test_a_call_that_is_stopped_and_cancelled_is_cancelled() -> None:
    """Cancelling wins over a deadline, or aclose, in the same moment."""
    worker, _ = paired(asyncio.get_running_loop().create_future())
    call = Slacker(echo, worker)(1).fetch()
    await asyncio.sleep(0)
    await worker.aclose(timeout=0)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()


# --- sending again -------------------------------------------------------------------------------------------------


async def test_sends_again_what_was_not_sent() -> None:
    """A call that certainly did not leave is tried once more."""
    worker, transport = paired(NotSent("no route"))
    assert await Slacker(echo, worker)(1) == 1
    assert transport.posts == 2


async def test_eager_tasks() -> None:
    """With a factory of eager tasks, where there is one, no connection is lost, though sending fails at once."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(getattr(asyncio, "eager_task_factory", None))
    try:
        held = loop.create_future()
        worker, _ = paired(held, *[NotSent("no route")] * 2000, max_connections=1, max_batch=1)
        first, *waiting = [Slacker(echo, worker)(number).fetch() for number in range(1001)]
        loop.call_soon(held.set_result, None)
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [TransportError] * 1000
        assert await first == 0
        assert await Slacker(echo, worker)(1) == 1
    finally:
        loop.set_task_factory(None)


async def test_sends_again_only_once() -> None:
    """Two attempts, and then the error says that nothing was sent."""
    worker, transport = paired(NotSent("no route"), NotSent("still none"), NotSent("third"))
    whole = r"^http:\S+ cannot be reached, nothing was sent: still none\. Is a server with the hook running there\?$"
    with pytest.raises(TransportError, match=whole) as caught:
        await Slacker(echo, worker)(1)
    assert (caught.value.executed, transport.posts) == (False, 2)


@pytest.mark.parametrize("error", [OSError("reset"), TimeoutError("theirs"), RuntimeError("odd")], ids=repr)
async def test_never_sends_again_what_may_have_left(error: Exception) -> None:
    """Any other failure of the transport leaves open whether the work ran."""
    worker, transport = paired(error)
    with pytest.raises(TransportError, match="may have left") as caught:
        await Slacker(echo, worker)(1)
    assert (caught.value.executed, caught.value.__cause__, transport.posts) == (None, error, 1)


async def test_a_second_attempt_may_have_left() -> None:
    """What fails otherwise when it is tried once more may have left then."""
    worker, transport = paired(NotSent("no route"), OSError("reset"))
    with pytest.raises(TransportError, match="may have left") as caught:
        await Slacker(echo, worker)(1)
    assert (caught.value.executed, transport.posts) == (None, 2)


def clock_ahead(hours: Callable[[], int]) -> Callable[[], int]:
    """Return the clock of a hook that is so many hours ahead of ours."""
    return lambda: time.time_ns() // 1_000_000 + hours() * 3_600_000


@pytest.mark.parametrize("hours", [-1, 1])
async def test_corrects_its_clock(watch: Watch, hours: int) -> None:
    """A hook whose clock differs refuses once and says its time; the call passes, and the next one at once."""
    hook = make_hook(now=clock_ahead(lambda: hours))
    server = watch.closing.enter_context(HttpServer(wsgi.application(hook)))
    worker = watch.worker(server.url)
    await watch.call(worker)
    await watch.call(worker)
    assert (server.requests, len(watch.ran())) == (3, 2)


async def test_corrects_its_clock_only_once() -> None:
    """A hook that refuses the corrected time as well gets no third request."""
    jumps = itertools.count(1)
    worker, transport = paired(hook=make_hook(now=clock_ahead(lambda: next(jumps))))
    with pytest.raises(Refused) as caught:
        await Slacker(echo, worker)(1)
    assert (caught.value.reason, caught.value.executed, transport.posts) == ("clock-skew", False, 2)


@pytest.mark.parametrize("hours", [-1, 1])
async def test_the_clock_jumps_during_a_call(watch: Watch, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """A clock that is set while a call is on its way does that call no harm; the next one takes one correction."""
    clock, jumped = time.time_ns, 0
    server = watch.closing.enter_context(HttpServer(wsgi.application(make_hook(now=lambda: clock() // 1_000_000))))
    monkeypatch.setattr(time, "time_ns", lambda: clock() + jumped * 3_600_000_000_000)
    name, gate = watch.gate()
    worker = watch.worker(server.url)
    call = watch.call(worker, pass_gate, name).fetch()
    await eventually(lambda: gate.arrived)
    jumped = hours
    gate.open()
    assert [await call] == gate.arrived
    await watch.call(worker)
    await watch.call(worker)
    assert (server.requests, len(watch.ran())) == (4, 3)


async def test_asks_only_once_more_by_their_clock() -> None:
    """A hook whose clock runs ahead of each request finds the call late twice: it did not run."""
    ahead = [30]  # seconds
    hook = make_hook(now=lambda: time.time_ns() // 1_000_000 + ahead[0] * 1000)
    worker, transport = paired(hook=hook)
    post = transport.post

    async def post_and_advance(*request: Any) -> Answer:
        answer = await post(*request)
        ahead[0] += 30
        return answer

    transport.post = post_and_advance  # type: ignore[method-assign]
    with pytest.raises(DeadlineExceeded, match="its time had passed") as caught:
        await Slacker(echo, worker)(1)
    assert (caught.value.executed, transport.posts) == (False, 2)


@pytest.mark.parametrize("unsent_first", [True, False])
async def test_each_cause_has_its_own_second_chance(unsent_first: bool) -> None:
    """A call that could not be sent, and met another clock before or after that, is sent a third time."""
    script = [NotSent("restarting")] if unsent_first else [asyncio.sleep(0), NotSent("restarting")]
    worker, transport = paired(*script, hook=make_hook(now=clock_ahead(lambda: 1)))
    assert await Slacker(echo, worker)(1) == 1
    assert transport.posts == 3


# --- what is sent --------------------------------------------------------------------------------------------------


async def test_names_an_argument_that_cannot_be_pickled() -> None:
    """An unpicklable argument is refused here, by its place; nothing is sent."""
    worker, transport = paired()
    with pytest.raises(Refused, match=r"argument 'key' of step 1, echo, of echo\(\.\.\.\) cannot be pickled") as caught:
        await Slacker(echo, worker)(1, key=threading.Lock())
    assert (caught.value.reason, caught.value.executed, transport.posts) == ("unpicklable", False, 0)


async def test_sends_a_request_that_is_just_small_enough() -> None:
    """A request of more than half of `max_request` is looked at more closely, and sent."""
    worker, transport = paired(max_request=2000)
    assert await Slacker(echo, worker)("x" * 1200) == "x" * 1200
    assert transport.posts == 1


async def test_refuses_a_request_that_is_too_large() -> None:
    """A request over `max_request` is refused here; nothing is sent."""
    worker, transport = paired(max_request=1000)
    assert await Slacker(echo, worker)(1) == 1
    with pytest.raises(Refused, match=r"echo\(\.\.\.\) has 1\d\d\d bytes; max_request allows 1000") as caught:
        await Slacker(echo, worker)(bytes(1000))
    assert (caught.value.reason, caught.value.executed, transport.posts) == ("too-big", False, 1)


async def test_refuses_long_names_as_well() -> None:
    """What a request has besides arguments counts."""
    worker, transport = paired(max_request=1000)
    with pytest.raises(Refused, match=r"has 1\d\d\d bytes; max_request allows 1000") as caught:
        await getattr(Slacker(echo, worker)(1), "x" * 1000)
    assert (caught.value.reason, caught.value.executed, transport.posts) == ("too-big", False, 0)


async def test_warns_of_huge_arguments(caplog: pytest.LogCaptureFixture) -> None:
    """Arguments of more than 1 MiB draw a warning with their size, without their values."""
    worker, _ = paired(max_connections=1)
    await Slacker(echo, worker)("s3cret" * (1 << 18))
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert re.match(r"the arguments of echo\(\.\.\.\) take 15\d{5} bytes; pickling them stalls", record.getMessage())
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(("size", "on_the_loop"), [(1000, True), (1 << 20, False)])
async def test_hashes_large_bodies_off_the_loop(monkeypatch: pytest.MonkeyPatch, size: int, on_the_loop: bool) -> None:
    """More than 256 KiB are hashed in a thread."""
    threads: list[threading.Thread] = []

    def sha256(data: bytes) -> Any:
        threads.append(threading.current_thread())
        return hashlib.sha256(data)

    monkeypatch.setattr(sender, "hashlib", types.SimpleNamespace(sha256=sha256))
    worker, _ = paired()
    await Slacker(echo, worker)(bytes(size))
    assert [thread is threading.current_thread() for thread in threads] == [on_the_loop]


async def test_sends_the_host_it_was_given(watch: Watch) -> None:
    """`host` replaces the Host header, for a server that knows itself by another name."""
    requests: list[bytes] = []

    def fault(connection: Connection) -> None:
        requests.append(connection.read_request())
        connection.answer(connection.ask(requests[0]))

    watch.faulty.script.append(fault)
    await watch.call(watch.worker(host="shop.example"))
    assert re.findall(rb"(?i)\r\nhost: *(.*)\r\n", requests[0]) == [b"shop.example"]


async def test_signs_with_the_first_of_several_keys(watch: Watch) -> None:
    """Of several keys the first signs, and the reply comes under the same."""
    new = "the key that is to replace the other one, and is as long"
    both = watch.closing.enter_context(HttpServer(wsgi.application(make_hook([KEY, new]))))
    await watch.call(watch.worker(both.url, key=[new, KEY]))
    old = watch.worker(watch.hook.url, key=[new, KEY], recovers=False)
    error = await watch.fails(watch.call(old), TransportError, None, "the key")
    assert error.status == 403


async def test_is_denied_in_another_environment(watch: Watch) -> None:
    """A request for another audience does not run."""
    worker = watch.worker(watch.hook.url, audience="production", recovers=False)
    error = await watch.fails(watch.call(worker), TransportError, None, "the audience")
    assert (error.status, watch.ran()) == (403, [])


# --- replies -------------------------------------------------------------------------------------------------------


async def test_decodes_a_frame_a_turn() -> None:
    """Between the frames of a long reply the loop does other things."""
    worker, transport = paired()
    async with ticking() as turns:
        arrived: list[int] = []

        class Noting:
            async def post(self, *request: Any) -> Answer:
                answer = await transport.post(*request)
                arrived.append(len(turns))
                return answer

            aclose = transport.aclose

        worker._sender.transport = Noting()
        assert await Slacker(numbers, worker)(200_000) == list(range(200_000))
        assert len(turns) - arrived[0] >= 30  # more than 500 kB, 16 KiB a turn


async def test_delivers_what_arrived_in_time() -> None:
    """Decoding is not part of the deadline: a long reply that arrived before it is not thrown away after it."""
    worker, transport = paired(timeout=0.5)
    loop = asyncio.get_running_loop()
    begun = loop.time()

    def spin() -> None:
        end = loop.time() + 0.05
        while loop.time() < end:
            pass
        if loop.time() < begun + 0.6:
            loop.call_soon(spin)

    async def arrived() -> None:
        loop.call_soon(spin)

    transport.script.append(arrived())
    assert await Slacker(numbers, worker)(200_000) == list(range(200_000))
    assert loop.time() > begun + 0.5


async def test_tells_of_a_result_that_is_too_large(watch: Watch) -> None:
    """A result over `max_reply` is refused by the other side, which says that the work ran."""
    worker = watch.worker(watch.hook.url, max_reply=1 << 20)
    error = await watch.fails(Slacker(numbers, worker)(1_000_000), Refused, True)
    assert error.reason == "too-big"


# --- several loops, threads, processes -----------------------------------------------------------------------------


def test_serves_loops_one_after_another(watch: Watch) -> None:
    """One worker serves many ``asyncio.run``, each over connections of its own, and keeps none of the loops."""
    worker = watch.worker(watch.hook.url, max_connections=2)
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def calls() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*[watch.call(worker) for _ in range(5)])  # some have to wait

    for _ in range(30):
        asyncio.run(calls())
    gc.collect()
    assert [loop for loop in loops if loop() is not None] == []
    assert worker._lines.items() == []
    assert len(watch.hook.connections) == 60


def test_serves_two_loops_at_once(watch: Watch) -> None:
    """Loops in two threads share a worker; each has its own bound and gets its own results."""
    name, gate = watch.gate()
    worker = watch.worker(watch.hook.url, max_connections=2)
    results: list[list[Any]] = []

    async def calls(start: int) -> None:
        held = [watch.call(worker, pass_gate, name).fetch() for _ in range(2)]
        await eventually(lambda: len(gate.arrived) == 4)
        gate.open()
        await asyncio.gather(*held)
        results.append(await asyncio.gather(*[Slacker(echo, worker)(start + number) for number in range(100)]))

    threads = [threading.Thread(target=asyncio.run, args=(calls(start),)) for start in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIVENESS)  # liveness bound
    assert sorted(results) == [list(range(100)), list(range(100, 200))]


PROLOGUE = """
import asyncio, os
from slacker import Slacker
from slacker.workers import HttpWorker
from tests.http.servers import AUDIENCE, KEY, echo

worker = HttpWorker({url!r}, key=KEY, audience=AUDIENCE, timeout=20)

def call(worker=worker):
    async def call():
        return await Slacker(echo, worker)("answered")
    try:
        return asyncio.run(call())
    except RuntimeError as error:
        return f"RuntimeError: {{error}}"

def in_child(*functions):
    child = os.fork()
    if not child:
        for function in functions:
            print(function(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.fixture
def forking() -> Iterator[Callable[[str], list[str]]]:
    """Return a function that runs a script after `PROLOGUE`, and returns the lines that it printed."""
    with HttpServer() as server:
        prologue = PROLOGUE.format(url=server.url)
        yield lambda script: run_script(prologue + textwrap.dedent(script)).stdout.splitlines()


def test_works_on_both_sides_of_a_fork(forking: Callable[[str], list[str]]) -> None:
    """A worker that was used goes on in a forked child, over connections of the child's own, and in the parent."""
    script = """
        loop = asyncio.new_event_loop()
        on_the_loop = lambda: loop.run_until_complete(Slacker(echo, worker)("answered"))
        print(on_the_loop())
        in_child(call, lambda: len(worker._sender.transport._kept.items()), call)
        print(on_the_loop())
        loop.close()
    """
    assert forking(script) == ["answered", "answered", "0", "answered", "answered"]


def test_closing_in_a_forked_child_waits_for_none_of_the_parents(forking: Callable[[str], list[str]]) -> None:
    """Calls on their way are the parent's to await, and to stop."""
    script = """
        import time
        from tests.http.servers import echo
        import tests.http.servers as servers

        def close():
            begun = time.monotonic()
            asyncio.run(worker.aclose(60))
            return time.monotonic() - begun < 30

        async def main():
            waiting = asyncio.ensure_future(Slacker(time.sleep, worker)(0.2).fetch())
            await asyncio.sleep(0)
            in_child(close)
            await waiting
            print("answered")

        asyncio.run(main())
    """
    assert forking(script) == ["True", "answered"]


def test_may_be_made_before_a_fork(forking: Callable[[str], list[str]]) -> None:
    """A worker that was made but not used works on both sides of a fork."""
    assert forking("in_child(call); in_child(call); print(call())") == ["answered"] * 3


# --- closing -------------------------------------------------------------------------------------------------------


async def test_closing_waits_for_calls(watch: Watch) -> None:
    """Accepted calls, also waiting ones, are finished; new ones are refused."""
    name, gate = watch.gate()
    worker = watch.worker(watch.hook.url, max_connections=1, recovers=False)
    calls = [watch.call(worker, pass_gate, name).fetch() for _ in range(3)]
    await eventually(lambda: gate.arrived)
    closing = asyncio.create_task(worker.aclose(LIVENESS))
    await asyncio.sleep(0)
    await watch.fails(watch.call(worker), WorkerClosed, False, "did not run")
    assert not closing.done()
    gate.open()
    await closing
    assert all(call.done() for call in calls)
    assert gate.arrived == [await call for call in calls]


async def test_closing_does_not_wait_for_ever(watch: Watch) -> None:
    """After its timeout aclose fails waiting calls as not sent, and those on their way as unknown."""
    name, gate = watch.gate()
    worker = watch.worker(watch.hook.url, max_connections=1, recovers=False)
    sent, waiting = [watch.call(worker, pass_gate, name).fetch() for _ in range(2)]
    await eventually(lambda: gate.arrived)
    await worker.aclose(timeout=0.05)
    await watch.fails(sent, TransportError, None, "was closed while .* was on its way; it may run still")
    await watch.fails(waiting, WorkerClosed, False, "was still waiting and was not sent")
    assert len(watch.ran()) == 1


def test_closing_reaches_calls_of_other_loops(watch: Watch) -> None:
    """Calls of a loop in another thread are waited for, and then stopped, as well."""
    name, gate = watch.gate()
    worker = watch.worker(watch.hook.url, recovers=False)
    ended: list[BaseException] = []

    async def call() -> None:
        try:
            await watch.call(worker, pass_gate, name)
        except TransportError as error:
            ended.append(error)

    thread = threading.Thread(target=asyncio.run, args=(call(),))
    thread.start()
    until(lambda: gate.arrived)
    asyncio.run(worker.aclose(timeout=0.05))
    thread.join(LIVENESS)  # liveness bound
    assert [str(error)[-16:] for error in ended] == ["it may run still"]


def test_closing_passes_over_loops_that_are_gone() -> None:
    """Calls that were left behind in a closed loop hold nothing up."""
    loop = asyncio.new_event_loop()
    worker, transport = paired(loop.create_future())
    loop.set_exception_handler(lambda *_: None)  # it will tell of the task that is destroyed
    task = loop.create_task(run(Slacker(echo, worker)(1)))
    while not transport.posts:
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    begun = time.monotonic()
    asyncio.run(worker.aclose(timeout=LIVENESS))
    assert (transport.closed, task.done()) == (True, False)
    assert time.monotonic() - begun < LIVENESS / 2  # liveness bound


async def test_closing_what_was_not_used() -> None:
    """A worker that made no call has nothing to close."""
    await HttpWorker("http://localhost/", key=KEY).aclose()


async def test_closing_closes_the_transport() -> None:
    """A transport that was given is closed with the worker, used or not."""
    worker, transport = paired()
    await worker.aclose()
    await worker.aclose()
    assert transport.closed


async def test_closing_closes_idle_connections() -> None:
    """No connection is left open by a worker that was closed, or collected."""
    with HttpServer() as server:
        async with HttpWorker(server.url, key=KEY, audience=AUDIENCE) as closed:
            await Slacker(echo, closed)(1)
        await eventually(lambda: count_connections(server.port) == 0)
        collected = HttpWorker(server.url, key=KEY, audience=AUDIENCE)
        await Slacker(echo, collected)(1)
        assert count_connections(server.port) == 1
        del collected
        gc.collect()
        await eventually(lambda: count_connections(server.port) == 0)


async def test_one_of_several_that_share_a_request_is_cancelled() -> None:
    """The others get their answers; the request is given up only when nobody is left."""
    loop = asyncio.get_running_loop()
    first, shared = loop.create_future(), loop.create_future()
    worker, transport = paired(first, shared, max_connections=1)
    calls = [Slacker(echo, worker)(number).fetch() for number in range(3)]
    await asyncio.sleep(0)
    first.set_result(None)
    assert await calls[0] == 0
    await eventually(lambda: transport.posts == 2)
    calls[1].cancel()
    await asyncio.wait([calls[1]])
    shared.set_result(None)
    assert await calls[2] == 2
    assert transport.posts == 2


@pytest.mark.parametrize(
    ("call", "result", "options"),
    [
        (batch(*[Slacker(echo)(number) for number in range(400)]), list(range(400)), {}),
        (Slacker(len)("x" * 4000), 4000, {"max_request": 9000}),
    ],
    ids=["many", "large"],
)
async def test_shares_requests_only_where_one_may_have_all(
    watch: Watch, call: Slacker, result: Any, options: dict[str, Any]
) -> None:
    """Waiting calls that are fine alone do not become too many, or too large, by going together."""
    name, gate = watch.gate()
    worker = watch.worker(watch.hook.url, max_connections=1, **options)
    first = watch.call(worker, pass_gate, name).fetch()
    waiting = [slacker.options(call, worker).fetch() for _ in range(4)]
    await eventually(lambda: gate.arrived)
    gate.open()
    await first
    assert await asyncio.gather(*waiting) == [result] * 4


async def test_a_refusal_that_the_work_raises_is_its_own(watch: Watch) -> None:
    """It is not taken for one of the hook's: nothing is asked again, and no clock is set."""
    worker = watch.worker(watch.hook.url)
    refused = Refused("the clocks differ", reason="clock-skew", details={"time": 12345})
    await watch.fails(Slacker(throw, worker)(refused), Refused, True)
    await watch.fails(Slacker(throw, worker)(WorkerClosed("another")), WorkerClosed, True)
    assert (watch.hook.requests, worker._sender.offset) == (2, 0)


async def test_a_call_that_has_ended_is_not_stopped() -> None:
    """A deadline that passes in the moment in which the answer is delivered changes nothing."""
    call = PendingCall(Chain(list), encode_call(Chain(list)), None, 0, 0.0, 1.0)
    call.future = asyncio.get_running_loop().create_future()
    call.future.set_result(Value(1))
    call.stop("late")
    assert (await call.future) == Value(1)


async def test_a_stream_that_is_stopped_and_cancelled_at_once() -> None:
    """It was not given a connection, so it gives none back."""
    line = Line(1, 1)
    pending: list[PendingCall] = []

    async def hold() -> None:
        pending.append(PendingCall(Chain(list), encode_call(Chain(list)), None, 0, 0.0, math.inf))
        await line.hold(pending[-1])

    await hold()
    waiting = asyncio.create_task(hold())
    await asyncio.sleep(0)
    pending[1].stop("late")
    waiting.cancel()
    await asyncio.wait([waiting])
    line.release()
    assert (line.free, line.is_busy) == (1, False)


async def test_a_stream_that_is_given_a_connection_as_it_is_cancelled() -> None:
    """It passes the connection on."""
    line = Line(1, 1)

    async def hold() -> None:
        await line.hold(PendingCall(Chain(list), encode_call(Chain(list)), None, 0, 0.0, math.inf))

    await hold()
    waiting = asyncio.create_task(hold())
    await asyncio.sleep(0)
    line.release()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (line.free, line.is_busy) == (1, False)


@pytest.mark.parametrize("error", [TransportError("lost", status=502), DeadlineExceeded("late", executed=False)])
def test_each_of_several_gets_an_error_of_its_own(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that share a request do not share its failure, nor its traceback, whatever copies exceptions otherwise."""
    error.__cause__ = OSError("reset")
    with pytest.raises(type(error)):
        raise error
    monkeypatch.setitem(copyreg.dispatch_table, type(error), lambda copied: (lambda: copied, ()))
    same = line._another(error)
    assert (same is error, same.__traceback__, same.__cause__) == (False, None, error.__cause__)
    assert (repr(same), str(same), vars(same)) == (repr(error), str(error), vars(error))


def test_an_error_that_is_not_ours_is_not_copied() -> None:
    """What is not ours cannot be copied safely."""
    other = LookupError("odd")
    assert line._another(other) is other


async def test_a_late_call_of_a_closed_worker_is_late() -> None:
    """A call that is stopped twice in one moment, by its deadline and by aclose, ends once, as late."""
    loop = asyncio.get_running_loop()
    worker, _ = paired(loop.create_future(), timeout=LIVENESS)
    call = Slacker(echo, worker)(1).fetch()
    await asyncio.sleep(0)
    ((_, line),) = worker._lines.items()
    (sent,) = line.calls
    sent.stop("late")
    line.stop()
    with pytest.raises(DeadlineExceeded):
        await call


# --- logs and arguments --------------------------------------------------------------------------------------------


async def test_logs_a_line_for_each_call(caplog: pytest.LogCaptureFixture) -> None:
    """A finished call is one DEBUG line: names without values, how it ended, seconds waited and run."""
    caplog.set_level(logging.DEBUG, "slacker")
    worker, _ = paired(max_connections=1)
    await asyncio.gather(
        Slacker(echo, worker)("s3cret").upper(), Slacker(throw, worker)(KeyError("s3cret")), return_exceptions=True
    )
    lines = [record.getMessage() for record in caplog.records if record.name == "slacker"]
    seconds = r"waited \d+\.\d{6} s, ran \d+\.\d{6} s"
    assert re.fullmatch(rf"echo\(\.\.\.\)\.upper\(\): ok, {seconds}", lines[0])
    assert re.fullmatch(rf"throw\(\.\.\.\): KeyError, {seconds}", lines[1])
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("changed", "error", "match"),
    [
        ({"key": "short"}, ValueError, "at least 32 bytes"),
        ({"key": ()}, ValueError, "no unsigned mode"),
        ({"key": None}, TypeError, ""),
        ({"url": "localhost:8000"}, ValueError, "http://"),
        ({"url": "ftp://localhost/"}, ValueError, "http://"),
        ({"url": "http:///path"}, ValueError, "http://"),
        ({"url": "http://localhost:99999/"}, ValueError, "Port"),
        ({"url": "http://local host/"}, ValueError, "must be a host, .* got 'local host'"),
        ({"url": "http://localhost/?a=b"}, ValueError, "query"),
        ({"url": "http://me:secret@localhost/"}, ValueError, "credentials"),
        ({"host": "two\r\nlines"}, ValueError, "must be a host"),
        ({"host": ""}, ValueError, "must be a host"),
        ({"max_connections": 0}, ValueError, "max_connections must be at least 1, got 0"),
        ({"max_queue": -1}, ValueError, "max_queue must be at least 0, got -1"),
        ({"timeout": 0}, ValueError, "timeout must be a number of seconds above 0, got 0"),
        ({"timeout": math.inf}, ValueError, r"timeout must be at most \d+ seconds, got inf"),
        ({"timeout": math.nan}, ValueError, "timeout"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_refuses_unusable_arguments(changed: dict[str, Any], error: type[Exception], match: str) -> None:
    """What cannot work is refused when the worker is made."""
    arguments: dict[str, Any] = {"url": "http://localhost/", "key": KEY, **changed}
    with pytest.raises(error, match=match or None):
        HttpWorker(**arguments)


def test_there_is_no_unsigned_mode() -> None:
    """A worker without a key cannot be made."""
    with pytest.raises(TypeError, match="key"):
        HttpWorker("http://localhost/")


def test_reads_as_it_was_made() -> None:
    """Its repr has address and bound, and no key."""
    assert repr(HttpWorker("http://localhost/", key=KEY)) == "HttpWorker('http://localhost/', max_connections=8)"


async def test_raises_what_a_subclass_raises() -> None:
    """An error in finding the address is the caller's, as it is; nothing is sent."""

    class Unconfigured(HttpWorker):
        async def _endpoint_now(self) -> Endpoint:
            raise TimeoutError("no settings")

    transport = Paired()
    with pytest.raises(TimeoutError, match="no settings") as caught:
        await Slacker(echo, Unconfigured("http://paired/", key=KEY, transport=transport))(1)
    assert (type(caught.value), transport.posts) == (TimeoutError, 0)


async def test_sends_options_of_a_subclass() -> None:
    """What it sends along reaches whoever performs the chain there, with the most that a reply may have."""
    seen: list[dict[str, Any]] = []

    def perform(chain: Any, options: Any, encode: Any) -> Any:
        seen.append(dict(options))
        return capture(chain)

    class French(HttpWorker):
        def _options_now(self) -> str:
            return wire.encode_options({"language": "fr", "max_reply": 5000})

    hook = make_hook(perform=perform)
    worker = French("http://paired/", key=KEY, audience=AUDIENCE, max_reply=5000, transport=Paired(hook))
    assert await Slacker(echo, worker)(1) == 1
    assert seen[0]["language"] == "fr"
