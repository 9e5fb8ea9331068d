"""``manage.py runslacker``: what it takes, what it refuses, and how it lives and ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from slacker import Slacker, TransportError
from slacker.workers import DjangoHttpWorker
from tests.http.servers import children
from tests.waiting import LIVENESS, until

from .conftest import AUDIENCE
from .helpers import Server, is_free, is_running
from .project import settings, work

ELSEWHERE = "127.0.0.2"
"""This machine by another name, which 127.0.0.1 does not include."""

STRONG = "a SECRET_KEY for one test alone, random enough and long enough"


# --- what it refuses -------------------------------------------------------------------------------------------------


def refused(*arguments: str, match: str) -> None:
    with pytest.raises(CommandError, match=match):
        call_command("runslacker", *arguments, skip_checks=True)


NO_ADDRESSES = """
    port :8000 127.0.0.1 127.0.0.1: 127.0.0.1:0 127.0.0.1:65536 127.0.0.1:123456 127.0.0.256:8000 example.com:8000
    ::1:8000 [::1] []:8000 [example.com]:8000 http://127.0.0.1:80
"""


@pytest.mark.parametrize("address", ["", *NO_ADDRESSES.split()])
def test_what_is_no_address(address: str) -> None:
    """Anything but a port, or an address and a port, is refused, with examples of what is right."""
    refused(address, match=r"expected \[address:\]port, such as 127.0.0.1:8000 or \[::1\]:8000, got '")


@pytest.mark.parametrize("options", [["--processes", "0"], ["--threads", "0"], ["--threads", "-1"]])
def test_too_few(options: list[str]) -> None:
    """Less than one process or thread is refused."""
    refused(*options, match="must be at least 1")


def test_a_port_that_is_taken() -> None:
    """An address on which somebody listens, or that is not of this machine, is refused: granian would share it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        refused(f"127.0.0.1:{listening.getsockname()[1]}", match="cannot be listened on: .*in use")
    with override_settings(SLACKER_KEY="of a network that is for documentation, 192.0.2.0/24"):
        refused("192.0.2.1:8000", match="cannot be listened on")


@pytest.mark.parametrize("arguments", [[], ["8000"], ["localhost:8000"]], ids=" ".join)
def test_loopback_is_the_default(arguments: list[str]) -> None:
    """Without an address it is 127.0.0.1, and without a port 8000, as told where that is taken."""
    with contextlib.ExitStack() as taken:
        with contextlib.suppress(OSError):  # somebody else's server has it: as good
            taken.enter_context(socket.create_server(("127.0.0.1", 8000)))
        refused(*arguments, match="^127.0.0.1 port 8000 cannot be listened on")


@pytest.mark.parametrize("address", ["0.0.0.0:8000", "[::]:8000", "192.0.2.1:8000"])
def test_the_network_needs_a_key(address: str) -> None:
    """An address of the network is refused without SLACKER_KEY, with DEBUG as well, and how to make one is told."""
    with override_settings(SLACKER_KEY=None, SECRET_KEY=STRONG, DEBUG=True):
        refused(address, match="SLACKER_KEY must be set: .*secrets.token_hex")


def test_loopback_needs_a_strong_secret_key() -> None:
    """On loopback a weak SECRET_KEY is refused without DEBUG and SLACKER_KEY, and how to make a key is told."""
    with override_settings(SLACKER_KEY=None, SECRET_KEY="weak"):
        refused("127.0.0.1:8000", match="SECRET_KEY is too weak.*secrets.token_hex")


@pytest.mark.parametrize("missing", ["granian.server", "watchfiles"])
def test_without_granian(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what the extra brings the extra is named."""
    monkeypatch.setitem(sys.modules, missing, None)
    refused(match=r"pip install 'tornado-slacker\[server\]'")


# --- what it serves --------------------------------------------------------------------------------------------------


@pytest.fixture
def serve(sqlite: dict[str, Any], tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts runslacker with further arguments and settings."""
    with contextlib.ExitStack() as servers:

        def start(*arguments: str, host: str = "127.0.0.1", **settings: Any) -> Server:
            address = f"[{host}]" if ":" in host else host
            command = ["-m", "django", "runslacker", f"{address}:{{port}}", "--processes", "1", *arguments]
            given = {"SLACKER_AUDIENCE": AUDIENCE, **settings}
            return servers.enter_context(Server(command, sqlite, tmp_path / "log", host=host, cwd=tmp_path, **given))

        yield start


@pytest.fixture(scope="module")
def runslacker(sqlite: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("runslacker", sqlite, tmp_path_factory.mktemp("log") / "log", SLACKER_AUDIENCE=AUDIENCE) as server:
        yield server


async def call(server: Server, function: Callable[..., Any], *arguments: Any) -> Any:
    async with DjangoHttpWorker(server.url) as worker:
        return await Slacker(function, worker)(*arguments)


async def answer(server: Server, expected: Callable[[Any], bool], function: Callable[[], Any]) -> Any:
    """Call until the answer is as expected, and return it."""
    end = time.monotonic() + LIVENESS
    async with DjangoHttpWorker(server.url) as worker:
        while True:
            with contextlib.suppress(TransportError):
                got = await Slacker(function, worker)()
                if expected(got):
                    return got
            assert time.monotonic() < end  # liveness bound
            await asyncio.sleep(0.02)


async def test_loopback_needs_no_key(serve: Callable[..., Server]) -> None:
    """On loopback a key derived from a strong SECRET_KEY will do, without DEBUG, on both sides."""
    server = serve(SLACKER_KEY=None, SECRET_KEY=STRONG, ROOT_URLCONF=None)  # the include would ask for a key
    with override_settings(SLACKER_KEY=None, SECRET_KEY=STRONG):
        assert await call(server, work.echo, 1) == 1


async def test_with_a_key_it_serves_the_network(serve: Callable[..., Server]) -> None:
    """With SLACKER_KEY it serves on all addresses."""
    server = serve(host="0.0.0.0")
    assert await call(server, work.echo, 1) == 1
    assert not is_free(ELSEWHERE, server.port)


async def test_loopback_is_no_more_than_that(runslacker: Server) -> None:
    """On 127.0.0.1 it listens there only."""
    assert await call(runslacker, work.echo, 1) == 1
    assert is_free(ELSEWHERE, runslacker.port)


async def test_as_many_processes_and_threads_as_measured(postgresql: dict[str, Any], tmp_path: Path) -> None:
    """Unless told it has a process for each core, at most 4, and 4 threads in each, where databases do not lock."""
    command = ["-m", "django", "runslacker", "127.0.0.1:{port}"]
    with Server(command, postgresql, tmp_path / "log", SLACKER_AUDIENCE=AUDIENCE) as server:
        assert await call(server, work.echo, 1) == 1
    assert f"({min(4, os.cpu_count() or 1)} x 4 threads)\n" in server.output


async def test_ipv6(serve: Callable[..., Server]) -> None:
    """It serves on addresses of IPv6, and says where."""
    server = serve(host="::1")
    assert await call(server, work.echo, 1) == 1
    assert f"Serving slacker's hook on http://[::1]:{server.port}/ (1 x 2 threads)\n" == server.output


async def test_requests_are_not_logged(runslacker: Server) -> None:
    """By default there is the one line about where it serves, and none per request."""
    await call(runslacker, work.process)
    assert f"Serving slacker's hook on {runslacker.url}/ (2 x 4 threads)\n" == runslacker.output


async def test_requests_are_logged(serve: Callable[..., Server]) -> None:
    """With ``-v 2`` there is one line per request."""
    server = serve("-v", "2")
    for _ in range(3):
        assert await call(server, work.echo, 1) == 1
    assert await asyncio.to_thread(server.stop) == 0
    assert server.output.count('"POST /slacker/execute/ HTTP/1.1" 200') == server.output.count("POST") == 3


async def test_processes_are_spawned(runslacker: Server) -> None:
    """Its processes are spawned, and inherit nothing that a fork would break."""
    assert await call(runslacker, work.was_spawned)


async def test_connections_are_spread_over_its_processes(runslacker: Server) -> None:
    """However the kernel deals four of them out at first, each of two processes comes to have two, and keeps them."""
    loop = asyncio.get_running_loop()
    async with DjangoHttpWorker(runslacker.url, max_connections=4) as worker:

        async def of_each() -> list[int]:
            found = await asyncio.gather(*[Slacker(os.getpid, worker)() for _ in range(4)])
            return sorted(Counter(found).values())

        end = loop.time() + LIVENESS
        while await of_each() != [2, 2]:
            assert loop.time() < end  # liveness bound
        assert [await of_each() for _ in range(50)] == [[2, 2]] * 50


# --- how it lives and ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["SIGTERM", "SIGINT", "Ctrl-C"])
async def test_stopping_ends_what_has_begun(serve: Callable[..., Server], tmp_path: Path, way: str) -> None:
    """However it is stopped, a running call is served to its end; then it exits with 0."""
    server = serve()
    begun, may_end = tmp_path / "begun", tmp_path / "may end"
    running = asyncio.create_task(call(server, work.wait_for, str(begun), str(may_end)))
    await asyncio.to_thread(until, begun.exists)
    send = os.killpg if way == "Ctrl-C" else os.kill
    send(server.process.pid, signal.SIGTERM if way == "SIGTERM" else signal.SIGINT)
    await asyncio.to_thread(until, lambda: is_free(server.host, server.port))
    may_end.touch()
    assert await running == "ended"
    assert await asyncio.to_thread(server.stop) == 0


async def test_a_process_that_dies_is_replaced(serve: Callable[..., Server]) -> None:
    """A call whose process is killed fails, not knowing whether it ran; another process takes the place."""
    server = serve()
    before = await call(server, work.process)
    with pytest.raises(TransportError) as caught:
        await call(server, work.kill_process)
    assert caught.value.executed is None
    assert before != await answer(server, bool, work.process)


@pytest.mark.parametrize("case", ["at work", "reloading", "after a process was replaced"])
async def test_its_processes_do_not_outlive_it(serve: Callable[..., Server], tmp_path: Path, case: str) -> None:
    """When the command is killed its processes end, too: the port is free at once, a running call is served first."""
    server = serve("--processes", "2", *(["--reload"] if case == "reloading" else []), "-v", "2")
    if case == "after a process was replaced":
        with pytest.raises(TransportError):
            await call(server, work.kill_process)
        await asyncio.to_thread(until, lambda: server.output.count("Started worker") >= 3)
        await answer(server, bool, work.process)
    await asyncio.to_thread(until, lambda: server.output.count("Started worker") >= 2)
    begun, may_end = tmp_path / "begun", tmp_path / "may end"
    running = asyncio.create_task(call(server, work.wait_for, str(begun), str(may_end)))
    await asyncio.to_thread(until, lambda: begun.exists() or running.done())
    processes = children(server.process.pid)
    assert len(processes) >= 2
    server.process.kill()
    await asyncio.to_thread(until, lambda: is_free(server.host, server.port))
    may_end.touch()
    assert await running == "ended"
    await asyncio.to_thread(until, lambda: not any(map(is_running, processes)))


async def test_reloading(serve: Callable[..., Server], tmp_path: Path) -> None:
    """With ``--reload`` it serves changed code, outlives code that is broken, and ignores files that are no code."""
    module = tmp_path / "changing.py"
    module.write_text("version = 1")
    server = serve("--reload", "-v", "2", INSTALLED_APPS=[*settings.INSTALLED_APPS, "changing"])
    assert await call(server, work.version) == 1
    (tmp_path / "database.sqlite3").touch()
    module.write_text("version = ")
    await asyncio.to_thread(until, lambda: "Unexpected exit" in server.output)
    module.write_text("version = 'three'")
    assert await answer(server, bool, work.version) == "three"
    assert "database.sqlite3" not in server.output


async def test_a_restart(sqlite: dict[str, Any], tmp_path: Path) -> None:
    """While the server is down calls fail, certainly not run; when it is back the same worker goes on."""
    settings = {"SLACKER_AUDIENCE": AUDIENCE}
    command = ["-m", "django", "runslacker", "127.0.0.1:{port}", "--processes", "1"]
    with Server(command, sqlite, tmp_path / "log", **settings) as server:
        worker = DjangoHttpWorker(server.url)
        before = await Slacker(work.process, worker)()
    for _ in range(3):
        with pytest.raises(TransportError, match="cannot be reached") as caught:
            await Slacker(work.process, worker)()
        assert caught.value.executed is False
    with Server(command, sqlite, tmp_path / "log", port=server.port, **settings):
        assert before != await Slacker(work.process, worker)()
        await worker.aclose()
