"""The hook under real servers, and what becomes of calls when those die, restart and hang up."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slacker import DeadlineExceeded, RemoteError, Slacker, SlackerError, TransportError
from slacker.workers import HttpWorker
from tests.waiting import LIVENESS, eventually

from . import servers
from .conftest import Watch, pass_time
from .servers import (
    AUDIENCE,
    GRANIAN,
    GUNICORN,
    KEY,
    Connection,
    Faulty,
    HttpServer,
    count_connections,
    served_by,
)

SYNC = (*GUNICORN, "--worker-class", "sync")
THREADS = (*GUNICORN, "--worker-class", "gthread", "--threads", "4")
PROCESSES = (
    *(*GRANIAN, "--blocking-threads", "2", "--backpressure", "64", "--respawn-interval", "0.1"),
    *("--workers-kill-timeout", "10"),  # a process of it that has only just begun may overhear its SIGTERM
)

SERVERS = {
    "threads": None,
    "gunicorn sync": SYNC,
    "gunicorn preload": (*SYNC, "--preload", "--workers", "2"),
    "gunicorn gthread": (*THREADS, "--workers", "2"),
    "granian": (*PROCESSES, "--workers", "4"),
}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Run each of the servers in turn; one for all its tests."""
    command = SERVERS[request.param]
    with HttpServer(servers.application) if command is None else served_by(*command) as served:
        yield served


# --- each of them --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["text", bytes(3 << 20), list(range(3000))],
    ids=["small", "3 MB both ways", "6 frames"],
)
async def test_round_trip(server: Any, watch: Watch, value: Any) -> None:
    """The server gives the hook the body whole, and the reply back whole, in one piece or in many."""
    assert await Slacker(servers.echo, watch.worker(server.url))(value) == value


async def test_errors_arrive(server: Any, watch: Watch) -> None:
    """What the work raises arrives, whatever the server makes of exceptions."""
    worker = watch.worker(server.url)
    with pytest.raises(LookupError, match="gone"):
        await Slacker(servers.throw, worker)(LookupError("gone"))
    error = await watch.fails(Slacker(servers.throw, worker)(SystemExit(3)), RemoteError, True)
    assert error.type_name == "SystemExit"


async def test_a_refused_request_leaves_the_connection_usable(server: Any, watch: Watch) -> None:
    """A denied request, whose body the hook does not read, does not spoil what follows it."""
    stranger = watch.worker(server.url, audience="another", recovers=False)
    for _ in range(5):
        error = await watch.fails(Slacker(servers.echo, stranger)(bytes(1000)), TransportError, None)
        assert error.status == 403
    await watch.call(watch.worker(server.url))


async def test_many_calls_at_once(server: Any, watch: Watch) -> None:
    """Calls that overlap get each its own answer."""
    worker = watch.worker(server.url, max_connections=8)
    assert await asyncio.gather(*[Slacker(servers.echo, worker)(n) for n in range(100)]) == list(range(100))


# --- processes die -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [(*SYNC, "--workers", "2"), (*PROCESSES, "--workers", "2")], ids=["gunicorn", "granian"]
)
async def test_a_process_is_killed_at_work(watch: Watch, tmp_path: Path, command: tuple[str, ...]) -> None:
    """SIGKILL in the middle of the work: nobody knows how far it came, and another process does what follows."""
    server = watch.serve(*command)
    worker = watch.worker(server.url)
    file = tmp_path / "pid"
    await watch.fails(watch.call(worker, servers.count_and_die, str(file)), TransportError, None)
    killed = int(file.read_text())
    await eventually(lambda: killed not in server.workers())  # gone, and what it had accepted with it
    await eventually(lambda: servers.accepts(server.port))  # the other one may not have been ready yet


async def test_the_server_ends_a_task_that_takes_too_long(watch: Watch, tmp_path: Path) -> None:
    """gunicorn's own timeout ends the work: an error of the work, or nobody knows."""
    server = watch.serve(*SYNC, "--timeout", "3")
    worker = watch.worker(server.url)
    with pytest.raises((RemoteError, TransportError)) as caught:
        await watch.call(worker, servers.count_and_wait, str(tmp_path / "never"))
    assert caught.value.executed is (True if isinstance(caught.value, RemoteError) else None)


@pytest.mark.parametrize("command", [SYNC, THREADS, PROCESSES], ids=["sync", "gthread", "granian"])
async def test_a_graceful_stop_finishes_what_it_began(watch: Watch, tmp_path: Path, command: tuple[str, ...]) -> None:
    """SIGTERM lets the work at hand end and its result arrive; later calls are refused."""
    server = watch.serve(*command)
    worker = watch.worker(server.url, recovers=False, timeout=LIVENESS)
    file = tmp_path / "go on"
    call = watch.call(worker, servers.count_and_wait, str(file)).fetch()
    await eventually(watch.ran)
    server.signal(signal.SIGTERM)
    await eventually(lambda: not servers.listens(server.process.pid, server.port))
    file.touch()
    assert await call > 0
    await eventually(lambda: server.process.poll() is not None)
    await watch.fails(watch.call(worker), TransportError, False)


async def test_restarts_under_load(watch: Watch) -> None:
    """Processes replaced again and again under load: no call hangs, none gets a wrong answer, each error is told.

    No restart fails more calls than were on their way.
    """
    most, restarts = 8, 4
    results: list[bool] = []
    failed: list[SlackerError] = []
    over = asyncio.Event()

    server = watch.serve(*THREADS, "--workers", "2", "--graceful-timeout", "5")
    worker = watch.worker(server.url, max_connections=most)

    async def call_on_and_on(number: int) -> None:
        while not over.is_set():
            try:
                results.append(await Slacker(servers.echo, worker)(number) == number)
            except SlackerError as error:
                failed.append(error)

    load = [asyncio.create_task(call_on_and_on(number)) for number in range(2 * most)]
    for _ in range(restarts):
        before, done = set(server.workers()), len(results)
        server.signal(signal.SIGHUP)
        await eventually(lambda: before.isdisjoint(now := server.workers()) and len(now) == 2)  # noqa: B023
        await eventually(lambda: len(results) > done + 50)  # noqa: B023
    over.set()
    await asyncio.gather(*load)
    assert all(results)
    assert {(type(error), error.executed) for error in failed} <= {(TransportError, None), (TransportError, False)}
    assert len(failed) <= most * restarts


async def test_processes_that_are_replaced_after_so_many_requests(watch: Watch) -> None:
    """gunicorn's ``--max-requests`` may close connections under calls: each ends, and its error says what is known."""
    server = watch.serve(*THREADS, "--workers", "2", "--max-requests", "25", "--max-requests-jitter", "10")
    # The next calls may meet the next replacement. Requests are counted there, so calls must not share them.
    worker = watch.worker(server.url, recovers=False, max_batch=1)
    results = await asyncio.gather(*[watch.call(worker) for _ in range(400)], return_exceptions=True)
    pids = {result for result in results if isinstance(result, int)}
    failed = [result for result in results if not isinstance(result, int)]
    assert len(pids) > 4  # processes, one after another
    assert {(type(error), error.executed) for error in failed} <= {(TransportError, None), (TransportError, False)}
    assert len(watch.ran()) >= len(results) - len(failed)


async def test_a_replay_over_several_processes(tmp_path: Path) -> None:
    """The same request many times at once runs once in each process at most, which the README says."""
    ran = tmp_path / "ran"
    requests: list[bytes] = []

    def fault(connection: Connection) -> None:
        requests.append(connection.read_request())

    with served_by(*THREADS, "--workers", "4") as server, contextlib.closing(Faulty(server.port)) as faulty:
        async with HttpWorker(server.url, key=KEY, audience=AUDIENCE, timeout=LIVENESS) as worker:
            await Slacker(servers.echo, worker)(1)  # one is ready, and will not take the request for an old one
        faulty.script.append(fault)
        async with HttpWorker(faulty.url, key=KEY, audience=AUDIENCE, timeout=LIVENESS) as worker:
            with pytest.raises(TransportError):
                await Slacker(servers.count, worker)(str(ran), "again")

        def replay() -> bytes:
            with socket.create_connection(("127.0.0.1", server.port), LIVENESS) as connection:
                connection.sendall(requests[0])
                return connection.recv(1 << 16)

        answers = await asyncio.gather(*[asyncio.to_thread(replay) for _ in range(50)])
    assert {answer[:15] for answer in answers} == {b"HTTP/1.1 200 OK"}
    assert 1 <= len(ran.read_text().split()) <= 4


# --- connections and queues ----------------------------------------------------------------------------------------


async def test_idle_for_longer_than_the_server_allows(watch: Watch) -> None:
    """gunicorn closes a connection that was idle; the next call takes another, and nobody notices."""
    server = watch.serve(*THREADS, "--keep-alive", "3")
    worker = watch.worker(server.url)
    await watch.call(worker)
    assert count_connections(server.port) == 1
    await eventually(lambda: count_connections(server.port) == 0)


async def test_all_processes_are_busy(watch: Watch, tmp_path: Path) -> None:
    """A call that the server has not looked at by its deadline: it may have left, nobody knows. Later all is well."""
    server = watch.serve(*SYNC)
    file = tmp_path / "go on"
    call = watch.call(watch.worker(server.url), servers.count_and_wait, str(file)).fetch()
    await eventually(watch.ran)
    late = watch.call(watch.worker(server.url, timeout=LIVENESS / 2)).fetch()
    await eventually(lambda: count_connections(server.port) == 2)
    pass_time(LIVENESS / 2)
    await watch.fails(late, DeadlineExceeded, None)
    file.touch()
    await call


@pytest.mark.parametrize("command", [SYNC, (*PROCESSES, "--workers", "1")], ids=["gunicorn", "granian"])
async def test_a_call_from_inside_of_a_call(watch: Watch, command: tuple[str, ...]) -> None:
    """Work that calls its own single-threaded hook waits for itself: its deadline ends that, and all is well again."""
    if command is not SYNC:
        command = (*command, "--blocking-threads", "1")
    server = watch.serve(*command)
    worker = watch.worker(server.url)
    assert await watch.call(worker, servers.call_back, server.url, 2.0) == "DeadlineExceeded"


@pytest.mark.parametrize("command", [SYNC, THREADS, PROCESSES], ids=["sync", "gthread", "granian"])
async def test_the_client_gives_up(watch: Watch, tmp_path: Path, command: tuple[str, ...]) -> None:
    """A call that was cancelled is finished by the server, once; its late reply does no harm to the process."""
    server = watch.serve(*command)
    worker = watch.worker(server.url)
    pid = await watch.call(worker)
    file, done = tmp_path / "go on", tmp_path / "done"
    call = watch.call(worker, servers.wait_and_tell, str(file), str(done)).fetch()
    await eventually(lambda: len(watch.ran()) == 2)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    file.touch()
    await eventually(done.exists)
    assert await watch.call(worker) == pid


async def test_a_thousand_calls_through_four_processes(watch: Watch) -> None:
    """1000 calls in flight through 4 processes of 4 threads: none is lost, none runs twice."""
    server = watch.serve(*PROCESSES, "--blocking-threads", "4", "--workers", "4")
    worker = watch.worker(server.url, max_connections=32, max_queue=1000)
    ready: set[int] = set()
    while len(ready) < 4:
        ready.add(await watch.call(watch.worker(server.url, recovers=False)))
    pids = await asyncio.gather(*[watch.call(worker) for _ in range(1000)])
    ran = watch.ran()
    assert len(pids) == 1000
    assert sorted(ran) == sorted(watch.tokens)
    assert len(set(pids)) > 1
