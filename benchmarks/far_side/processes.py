"""The far sides: one database for the whole run, and the servers of a suite, started and stopped together."""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import multiprocessing
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import django

__all__ = ["CHECKOUT", "HOST", "FarSides", "far_sides", "set_up"]

HOST = "127.0.0.1"
CHECKOUT = Path(__file__).parents[2]
LIVENESS = 60.0  # seconds that no server needs to start or to stop by far
ROWS = 20_000

_SERVERS = {
    "runslacker": ["django", "runslacker", "{address}", "--processes", "{processes}", "--threads", "{threads}"],
    "gunicorn": [
        *("gunicorn", "--bind", "{address}", "--worker-class", "gthread"),
        *("--workers", "{processes}", "--threads", "{threads}"),
        *("--keep-alive", "60", "--no-control-socket", "benchmarks.far_side.pickled"),
    ],
    "rpyc": ["benchmarks.far_side.rpyc_server", "{port}"],
    "pyro": ["benchmarks.far_side.pyro_server", "{port}"],
    "dask": ["benchmarks.far_side.dask_cluster", "{port}", "{processes}", "{threads}"],
}
_OF_ONE_PROCESS = {"rpyc", "pyro"}  # so several are started


@dataclass(frozen=True, slots=True)
class FarSides:
    """Where they listen, and how many they are.

    Args:
        processes: of each server.
        threads: in each process.
        ports: by the name of the server; of those that have one process, one for each.
        pool: a process pool with Django set up, if there is one.
        pids: by the name of the server, of the processes that were started.
    """

    processes: int
    threads: int
    ports: dict[str, list[int]]
    pool: ProcessPoolExecutor | None
    pids: dict[str, list[int]]

    @property
    def connections(self) -> int:
        """How many calls they can work on at once."""
        return self.processes * self.threads

    def processes_of(self, name: str) -> list[Path]:
        """Return where Linux tells of the processes of a server, those that it started itself included."""
        found, new = [], self.pids[name]
        while new:
            found += new
            new = [pid for pid, parent in _parents() if parent in new]
        return [Path(f"/proc/{pid}") for pid in found]

    @property
    def hook_url(self) -> str:
        return f"http://{HOST}:{self.ports['runslacker'][0]}/execute/"

    @property
    def pickled_url(self) -> str:
        return f"http://{HOST}:{self.ports['gunicorn'][0]}/{os.environ['BENCHMARKS_SECRET']}/"


@contextmanager
def far_sides(servers: Collection[str], *, processes: int = 1, threads: int = 4) -> Iterator[FarSides]:
    """Start `servers`, each of so many processes and threads; and a process pool, if "pool" is among them.

    Raises:
        RuntimeError: a server did not start; with what it printed.
    """
    set_up()
    ports = {
        name: [_free_port() for _ in range(processes if name in _OF_ONE_PROCESS else 1)]
        for name in _SERVERS
        if name in servers
    }
    with tempfile.TemporaryDirectory() as logs, ExitStack() as stack:
        pool = stack.enter_context(_pool(processes)) if "pool" in servers else None
        started = [
            stack.enter_context(_Server(name, port, processes, threads, Path(logs)))
            for name, several in ports.items()
            for port in several
        ]
        for server in started:
            server.wait()
        pids = {name: [server.pid for server in started if server.name == name] for name in ports}
        yield FarSides(processes, threads, ports, pool, pids)
        for server in started:
            server.ask_to_stop()  # all at once


@cache
def set_up() -> None:
    """Make the database, and set Django up in this process as in those that are begun by it.

    Once for all suites, as Django's settings are read once; the database is removed at exit.
    """
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.far_side.settings"
    os.environ["BENCHMARKS_DATABASE"] = f"{folder.name}/db.sqlite3"
    os.environ["BENCHMARKS_SECRET"] = secrets.token_hex(32)
    django.setup(set_prefix=False)
    _make_data()


def _make_data() -> None:
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import connections

    # In a context of its own: afterwards it activates the language, which no application has done that was only set up.
    contextvars.copy_context().run(call_command, "migrate", run_syncdb=True, verbosity=0)
    user = get_user_model()
    user.objects.bulk_create(
        user(username=f"user-{number}", email=f"user-{number}@example.com", first_name="Ada", last_name="Example")
        for number in range(ROWS)
    )
    connections.close_all()


def _parents() -> list[tuple[int, int]]:
    """Return each process of this machine with its parent."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            found.append((int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])))
    return found


def _pool(processes: int) -> ProcessPoolExecutor:
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=spawn, initializer=django.setup, initargs=(False,))


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class _Server:
    def __init__(self, name: str, port: int, processes: int, threads: int, logs: Path) -> None:
        self.name = name
        self._port = port
        self._log = logs / f"{name}-{port}.log"
        command = [
            part.format(port=port, address=f"{HOST}:{port}", processes=processes, threads=threads)
            for part in _SERVERS[name]
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=CHECKOUT, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> None:
        end = time.monotonic() + LIVENESS
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.name} did not start:\n{self._log.read_text()}")
            time.sleep(0.05)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self._port), timeout=1):
            return True
        return False

    def __enter__(self) -> _Server:
        return self

    def ask_to_stop(self) -> None:
        self._process.terminate()

    def __exit__(self, *exception: object) -> None:
        self.ask_to_stop()
        try:
            self._process.wait(LIVENESS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
