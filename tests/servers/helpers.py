"""Real servers of `tests.servers.project`, in processes of their own, and a way to its views without one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Mapping
from contextvars import Context
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from wsgiref.util import setup_testing_defaults

from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings

from slacker.workers.http import Answer
from tests.waiting import LIVENESS, until

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

ROOT = Path(__file__).parents[2]


def free_port(host: str) -> int:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        return probe.getsockname()[1]


def is_free(host: str, port: int) -> bool:
    """Tell whether nobody listens there any more."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        return False
    return True


def is_running(pid: int) -> bool:
    """Tell whether there is such a process, and not just one that nobody has waited for."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def environment(database: Mapping[str, Any], **settings: Any) -> dict[str, str]:
    """Return the environment of a process with the project's settings."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.servers.project.settings",
        "PYTHONPATH": str(ROOT),
        "SLACKER_TEST_DATABASE": json.dumps(dict(database)),
        "SLACKER_TEST_SETTINGS": json.dumps(settings),
    }


def django(*command: str, database: Mapping[str, Any], cwd: Path | None = None, **settings: Any) -> tuple[int, str]:
    """Run a command of ``manage.py`` and return its exit code and output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "django", *command],
        cwd=cwd,
        env=environment(database, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIVENESS,
    )
    return done.returncode, done.stdout


KINDS: dict[str, list[str]] = {
    "runserver": ["-m", "django", "runserver", "--noreload", "127.0.0.1:{port}"],
    "gunicorn-sync": ["-m", "gunicorn", "-b", "127.0.0.1:{port}", "-w", "2", "tests.servers.project.wsgi"],
    "gunicorn-gthread": ["-m", "gunicorn", "-b", "127.0.0.1:{port}", "--threads", "4", "tests.servers.project.wsgi"],
    "runslacker": ["-m", "django", "runslacker", "127.0.0.1:{port}", "--processes", "2", "--threads", "4"],
    "uvicorn": ["-m", "uvicorn", "--port", "{port}", "--lifespan", "off", "tests.servers.project.asgi:application"],
}
"""The servers, by name: how each is started. uvicorn is the one with ASGI."""


class Server:
    """A server in a process of its own, from ``with`` to its end.

    Args:
        kind: one of `KINDS`, or a command.
        database: its entry of DATABASES.
        log: the file that gets its output.
        host: where it listens.
        port: the same; by default a free one.
        cwd: its working directory.
        settings: further ones.
    """

    def __init__(
        self,
        kind: str | list[str],
        database: Mapping[str, Any],
        log: Path,
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        cwd: Path | None = None,
        **settings: Any,
    ) -> None:
        self.host = host
        self.port = port or free_port(host)
        self.url = f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
        self._log = log
        command = [part.format(port=self.port) for part in (KINDS[kind] if isinstance(kind, str) else kind)]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                cwd=cwd,
                env=environment(database, **settings),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # as in a terminal of its own, whose signals go to all of a group
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def is_listening(self) -> bool:
        assert self.process.poll() is None, self.output
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def wait(self) -> None:
        """Wait until it accepts connections."""
        until(self.is_listening)

    def ask_to_stop(self) -> None:
        """Do as a terminal or a supervisor does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT if "runserver" in self.process.args else signal.SIGTERM)

    def stop(self) -> int:
        """Ask it to stop, and return its exit code when it has."""
        self.ask_to_stop()
        try:
            return self.process.wait(LIVENESS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.process.args} did not stop; its output: {self.output}") from None
        finally:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        try:
            self.wait()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


class InProcess:
    """A transport that takes requests to a WSGI application in a thread of this process.

    Args:
        application: by default the project's, with all middleware.
        client: the address from which requests seem to come.
        settings: the far side's, where they differ.

    Attributes:
        requests: how many there were.
        headers: of the last reply.
    """

    def __init__(
        self, application: WSGIApplication | None = None, *, client: str = "127.0.0.1", **settings: Any
    ) -> None:
        self._application = application
        self._client = client
        self._settings = settings
        self.requests = 0
        self.headers: dict[str, str] = {}

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        return await asyncio.to_thread(Context().run, self._post, url, headers, body)  # with nothing of the caller's

    async def aclose(self) -> None:
        pass

    def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        parts = urllib.parse.urlsplit(url)
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "HTTP_HOST": parts.netloc,
            "PATH_INFO": parts.path,
            "REMOTE_ADDR": self._client,
            "CONTENT_TYPE": headers["content-type"],
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_SLACKER_SIGNATURE": headers["slacker-signature"],
            "wsgi.input": BytesIO(body),
        }
        setup_testing_defaults(environ)
        status = ""

        def start_response(line: str, fields: list[tuple[str, str]]) -> None:
            nonlocal status
            status, self.headers = line, dict(fields)

        self.requests += 1
        with override_settings(**self._settings):
            response = (self._application or WSGIHandler())(environ, start_response)
            content = b"".join(response)
            if hasattr(response, "close"):
                response.close()
        return Answer(int(status.split()[0]), self.headers.get("Content-Type", ""), content)
