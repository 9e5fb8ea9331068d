"""What tests of the examples share: the cities demo in a process of its own, spoken to over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

CHECKOUT = Path(__file__).parents[2]
CITIES = CHECKOUT / "examples" / "cities"
PATIENCE = 60  # seconds for what takes two or three; only a liveness bound


def cities_environment(settings: dict[str, str]) -> dict[str, str]:
    """Return the environment for a process of the cities project, with no other `settings` than these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CITIES_", "DJANGO_"))}
    return {**inherited, "PYTHONPATH": str(CHECKOUT), **settings}


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers.get_content_type() == "application/json"
        return json.loads(self.body)


class Demo:
    """The demo on a free port, warnings being errors. Leaving the ``with`` block kills what was not stopped.

    Args:
        settings: environment variables, such as CITIES_DB.
        options: for the command line.
        stderr: where errors go; by default `stop` returns them.
    """

    def __init__(self, settings: dict[str, str], *options: str, stderr: int = subprocess.PIPE) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(CITIES / "serve.py"), "--port", "0", *options],
            env=cities_environment(settings),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
        self.url = ""

    def wait_until_up(self) -> Self:
        """Wait for the line with the address, the first and only one on stdout."""
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], PATIENCE)[0], "nothing printed"
        line = self.process.stdout.readline()
        assert line.startswith("Serving cities on http://127.0.0.1:"), (
            line,
            self.process.communicate(timeout=PATIENCE),
        )
        self.url = line.split()[-1]
        return self

    def request(self, path: str, method: str = "GET") -> Answer:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code and what was written to stderr."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.process.kill()
        self.process.communicate()
