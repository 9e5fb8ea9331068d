"""What tests over sockets share; above all `watch`, which holds every call to the same promises."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slacker import (
    DeadlineExceeded,
    ProtocolError,
    QueueFull,
    Refused,
    RemoteError,
    Slacker,
    SlackerError,
    TransportError,
    WorkerClosed,
)
from slacker.chain import Chain
from slacker.signing import OpenedFrame, ReplyOpener, Signature
from slacker.wire import RemoteTraceback, pickling
from slacker.workers.http import HttpWorker
from tests.waiting import LIVENESS, until

from . import servers
from .servers import AUDIENCE, KEY, Faulty, Gate, HttpServer, Served, served_by

EXECUTED: dict[type[SlackerError], set[bool | None]] = {
    DeadlineExceeded: {False, None},
    ProtocolError: {True, None},
    QueueFull: {False},
    Refused: {False, True},
    RemoteError: {True},
    TransportError: {False, None},
    WorkerClosed: {False, True},  # that of another one is an error of the work
}
"""What each error may say about whether the work ran."""


class Watched(HttpWorker):
    """An HttpWorker that notes how each of its calls ended."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.calls: list[tuple[float, BaseException | None]] = []

    async def run(self, chain: Chain) -> Any:
        begun, spent = time.monotonic(), time.thread_time()
        error: BaseException | None = None
        try:
            return await super().run(chain)
        except BaseException as raised:
            error = raised
            raise
        finally:
            seconds = time.monotonic() - begun
            self.calls.append((seconds, error))
            assert time.thread_time() - spent < 1 + seconds / 2, "the loop spun"


class Watch:
    """Makes servers and workers for a test, and afterwards holds their calls to what every call promises.

    1. It ended within its deadline and 10 s, without spinning.
    2. Nothing was unpickled but what a holder of the key had pickled.
    3. The work ran at most once.
    4. An error is a documented one, and says whether the work ran.
    5. The next 20 calls of the same worker pass (of another one, where the worker's address never was any good).
    6. Descriptors, threads, child processes and tasks are what they were.
    7. No key, argument or signature is in the logs.
    """

    def __init__(self, tmp_path: Path) -> None:
        self.counter = tmp_path / "ran"
        self.counter.touch()
        self.workers: list[Watched] = []
        self.lost: list[Watched] = []
        self.gates: list[Gate] = []
        self.tokens: list[str] = []
        self.closing = contextlib.ExitStack()
        self._number = itertools.count(1)
        self._hook: HttpServer | None = None
        self._faulty: Faulty | None = None

    @property
    def hook(self) -> HttpServer:
        """A hook on a port of its own."""
        if self._hook is None:
            self._hook = self.closing.enter_context(HttpServer())
        return self._hook

    @property
    def faulty(self) -> Faulty:
        """A server with a script of faults before `hook`."""
        if self._faulty is None:
            self._faulty = Faulty(self.hook.port)
            self.closing.callback(self._faulty.close)
        return self._faulty

    def serve(self, *command: str) -> Served:
        """Run a server of `servers.served_by` until all calls were made."""
        return self.closing.enter_context(served_by(*command))

    def worker(self, url: str | None = None, *, recovers: bool = True, **options: Any) -> Watched:
        """Return a worker for `url`, by default for `faulty`.

        Args:
            recovers: whether its next calls can pass.
        """
        options = {"timeout": LIVENESS, "key": KEY, "audience": AUDIENCE, **options}
        worker = Watched(self.faulty.url if url is None else url, **options)
        (self.workers if recovers else self.lost).append(worker)
        return worker

    def gate(self) -> tuple[str, Gate]:
        """Return the name of a new gate for `servers.pass_gate`, and the gate; it opens at the end of the test."""
        name = f"gate-{next(self._number)}"
        gate = servers.gates[name] = Gate()
        self.gates.append(gate)
        return name, gate

    def call(self, worker: HttpWorker, work: Callable[..., Any] = servers.count, *args: Any) -> Slacker:
        """Return the recipe for a call that notes that it ran."""
        self.tokens.append(f"token-{next(self._number)}-")
        return Slacker(work, worker)(str(self.counter), self.tokens[-1], *args)

    def ran(self) -> list[str]:
        """Return which calls ran."""
        return self.counter.read_text().split()

    async def fails(self, call: Any, kind: type[SlackerError], executed: bool | None, match: str | None = None) -> Any:
        """Await `call`, which has to fail just so, and return the error."""
        with pytest.raises(kind, match=match) as caught:
            await call
        assert (kind, executed) == (type(caught.value), caught.value.executed)
        return caught.value

    # --- the promises -----------------------------------------------------------------------------------------

    def check_calls(self) -> None:
        for worker in [*self.workers, *self.lost]:
            for seconds, error in worker.calls:
                assert seconds < worker._endpoint.timeout + 10  # liveness bound
                if isinstance(error, SlackerError):
                    assert error.executed in EXECUTED[type(error)], error
                elif error is not None and not isinstance(error, asyncio.CancelledError):
                    assert isinstance(error.__cause__, RemoteTraceback), error  # the work's own
        ran = self.ran()
        assert len(ran) == len(set(ran)), "a call ran twice"

    async def twenty_calls_and_close(self) -> None:
        for worker in self.workers or [self.worker()]:
            for _ in range(20):
                await self.call(worker)
        assert set(self.tokens[-20:]) <= set(self.ran())
        for worker in [*self.workers, *self.lost]:
            await worker.aclose()


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Watch]:
    """Hold every call of the test to the promises that `Watch` lists."""
    caplog.set_level(logging.DEBUG)
    gc.collect()  # what other tests left
    before = _held()
    authentic, signatures = _spy(monkeypatch)
    watch = Watch(tmp_path)
    with watch.closing:
        yield watch
        for gate in watch.gates:
            gate.open()
        watch.check_calls()
        asyncio.run(watch.twenty_calls_and_close())
        watch.check_calls()
    watch.workers.clear()
    watch.lost.clear()
    until(lambda: _is_within(_held(), before))
    assert authentic() == []
    logged = caplog.text
    for secret in [KEY, "token-", *signatures]:
        assert secret not in logged


def _held() -> tuple[int, list[str], list[int]]:
    descriptors = list(Path("/proc/self/fd").iterdir())
    return len(descriptors), sorted(thread.name for thread in threading.enumerate()), servers.children(os.getpid())


def _is_within(held: tuple[int, list[str], list[int]], before: tuple[int, list[str], list[int]]) -> bool:
    """Tell whether nothing is held that was not held before; of that some may have ended since."""
    threads = Counter(held[1]) - Counter(before[1])
    return held[0] <= before[0] and not threads and set(held[2]) <= set(before[2])


def _spy(monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[[], list[bytes]], list[str]]:
    """Watch pickle: return a function for what was loaded and nobody with the key had made, and all MACs so far."""
    made: set[bytes] = set()
    opened: list[bytes] = []
    strange: list[bytes] = []
    signatures: list[str] = []
    dumps, loads, feed, show = pickling.dumps, pickling.loads, ReplyOpener.feed, Signature.__str__

    def spying_dumps(value: Any) -> bytes:
        data = dumps(value)
        made.add(data)
        return data

    def spying_loads(data: Any) -> Any:
        raw = bytes(data)
        if raw not in made and not any(raw in payload for payload in opened):
            strange.append(raw)
        return loads(data)

    def spying_feed(self: ReplyOpener, data: bytes) -> Iterator[OpenedFrame]:
        for kind, chain, payload in feed(self, data):
            opened.append(bytes(payload))
            yield kind, chain, payload

    def spying_str(self: Signature) -> str:
        signatures.append(self.mac.hex())
        return show(self)

    monkeypatch.setattr(pickling, "dumps", spying_dumps)
    monkeypatch.setattr(pickling, "loads", spying_loads)
    monkeypatch.setattr(ReplyOpener, "feed", spying_feed)
    monkeypatch.setattr(Signature, "__str__", spying_str)
    return (lambda: strange), signatures


@contextlib.asynccontextmanager
async def ticking(pause: float = 0.0) -> AsyncIterator[list[float]]:
    """Count the turns of the loop, or one in `pause` seconds, while the block runs."""
    turns: list[float] = []

    async def tick() -> None:
        while True:
            turns.append(time.monotonic())
            await asyncio.sleep(pause)

    task = asyncio.create_task(tick())
    try:
        yield turns
    finally:
        task.cancel()
        await asyncio.wait([task])


def pass_time(seconds: float) -> None:
    """Put the running loop's clock forward: deadlines pass when a test has seen what it waits for, and not before."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + seconds  # type: ignore[method-assign]


def run_script(source: str) -> subprocess.CompletedProcess[str]:
    """Run a script in an interpreter of its own, which has to exit before long."""
    # Forking with threads is what some of them are about.
    command = [sys.executable, "-u", "-W", "error", "-W", "ignore::DeprecationWarning", "-c", source]
    return subprocess.run(command, cwd=servers.ROOT, capture_output=True, text=True, timeout=LIVENESS)  # liveness
