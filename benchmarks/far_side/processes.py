"""The far sides, started together and stopped together, with a database of their own."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import django

__all__ = ["HOST", "THREADS", "FarSides", "far_sides"]

HOST = "127.0.0.1"
THREADS = 4  # of each server, in one process
CHECKOUT = Path(__file__).parents[2]
LIVENESS = 60.0  # seconds that no server needs to start or to stop by far

_SERVERS = {
    "runslacker": ["django", "runslacker", "{address}", "--processes", "1", "--threads", f"{THREADS}"],
    "gunicorn": [
        *("gunicorn", "--bind", "{address}", "--workers", "1", "--worker-class", "gthread", "--threads", f"{THREADS}"),
        *("--keep-alive", "60", "--no-control-socket", "benchmarks.far_side.pickled"),
    ],
    "rpyc": ["benchmarks.far_side.rpyc_server", "{port}"],
    "pyro": ["benchmarks.far_side.pyro_server", "{port}"],
}


@dataclass(frozen=True, slots=True)
class FarSides:
    """Where they listen."""

    hook_url: str
    pickled_url: str
    rpyc_port: int
    pyro_port: int


@contextmanager
def far_sides() -> Iterator[FarSides]:
    """Make the database, set Django up in this process as well, once, and start the servers.

    Raises:
        RuntimeError: a server did not start; with what it printed.
    """
    ports = {name: _free_port() for name in _SERVERS}
    secret = secrets.token_hex(32)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.far_side.settings"
        os.environ["BENCHMARKS_DATABASE"] = f"{folder}/db.sqlite3"
        os.environ["BENCHMARKS_SECRET"] = secret
        django.setup(set_prefix=False)
        _make_data()
        started = [stack.enter_context(_Server(name, port, Path(folder))) for name, port in ports.items()]
        for server in started:
            server.wait()
        yield FarSides(
            f"http://{HOST}:{ports['runslacker']}/execute/",
            f"http://{HOST}:{ports['gunicorn']}/{secret}/",
            ports["rpyc"],
            ports["pyro"],
        )
        for server in started:
            server.ask_to_stop()  # all at once


def _make_data() -> None:
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import connections

    call_command("migrate", run_syncdb=True, verbosity=0)
    user = get_user_model()
    user.objects.bulk_create(
        user(username=f"user-{number}", email=f"user-{number}@example.com", first_name="Ada", last_name="Example")
        for number in range(100)
    )
    connections.close_all()


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class _Server:
    def __init__(self, name: str, port: int, folder: Path) -> None:
        self._name = name
        self._port = port
        self._log = folder / f"{name}.log"
        command = [part.format(port=port, address=f"{HOST}:{port}") for part in _SERVERS[name]]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=CHECKOUT, stdout=log, stderr=subprocess.STDOUT
            )

    def wait(self) -> None:
        end = time.monotonic() + LIVENESS
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self._name} did not start:\n{self._log.read_text()}")
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
