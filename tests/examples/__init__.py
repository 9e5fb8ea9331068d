"""What tests of the examples share: the cities demo in a process of its own, spoken to over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, Self
from urllib.parse import urlsplit

import pytest

from tests.unmeasured import unmeasured
from tests.waiting import LIVENESS, until

CHECKOUT = Path(__file__).parents[2]
CITIES = CHECKOUT / "examples" / "cities"


def cities_environment(settings: dict[str, str]) -> dict[str, str]:
    """Return the environment for a process of the cities project, with no other `settings` than these.

    Warnings are errors there, and in the processes that it starts.
    """
    ours = ("CITIES_", "DJANGO_", "SLACKER_")
    inherited = {name: value for name, value in unmeasured().items() if not name.startswith(ours)}
    return {**inherited, "PYTHONPATH": str(CHECKOUT), "PYTHONWARNINGS": "error", **settings}


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers.get_content_type() == "application/json"
        return json.loads(self.body)


class Demo:
    """The demo on a free port. Leaving the ``with`` block ends what was not stopped.

    Args:
        settings: environment variables, such as CITIES_DB.
        options: for the command line.
        stderr: where errors go; by default `stop` returns them.
    """

    def __init__(self, settings: dict[str, str], *options: str, stderr: int | None = None) -> None:
        self.settings = settings
        # Files: a pipe that nobody reads would fill up.
        self._output, self._errors = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, str(CITIES / "serve.py"), "--port", "0", *options],
            env=cities_environment(settings),
            stdout=self._output,
            stderr=self._errors if stderr is None else stderr,
            process_group=0,  # as a shell does it
        )
        self.url = ""

    def wait_until_up(self) -> Self:
        """Wait for the line with the demo's address."""
        line = re.compile(r"^Serving cities on (http://127\.0\.0\.1:\d+)/\n", re.MULTILINE)
        until(lambda: line.search(self.output()) or self.process.poll() is not None, "nothing is announced")
        announced = line.search(self.output())
        assert announced, (self.output(), self.ended())
        self.url = announced[1]
        return self

    def output(self) -> str:
        """Return what has been written to stdout."""
        return read(self._output)

    def errors(self) -> str:
        """Return what has been written to stderr."""
        return read(self._errors)

    def request(self, path: str, method: str = "GET") -> Answer:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=LIVENESS)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code and what was written to stderr."""
        if number in (signal.SIGINT, signal.SIGHUP):  # those that a terminal sends, to the whole group
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what was written to stderr."""
        code = self.process.wait(LIVENESS)
        return code, self.errors()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        with self._output, self._errors:
            end(self.process)


@contextlib.contextmanager
def hook_server(settings: dict[str, str], url: str) -> Iterator[None]:
    """``manage.py runslacker`` at `url`, started by hand as it were. It may not listen yet."""
    command = [sys.executable, str(CITIES / "manage.py"), "runslacker", urlsplit(url).netloc, "--processes", "1"]
    process = subprocess.Popen(command, env=cities_environment(settings), stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        end(process)


def end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(LIVENESS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def read(file: IO[str]) -> str:
    """Return all that is in a file, which another process may be writing."""
    return os.pread(file.fileno(), 1 << 24, 0).decode()


def free_url() -> str:
    """Return the URL of a port of this machine on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def running() -> dict[int, int]:
    """Return all processes that run, and the parent of each."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("without /proc, as Linux has it, other processes are not seen")
    parents = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            state, parent = (directory / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(directory.name)] = int(parent)
    return parents


def descendants(pid: int) -> list[int]:
    """Return the processes that `pid` has started and those that these have started, parents first."""
    parents, found = running(), [pid]
    for one in found:  # which grows
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]
