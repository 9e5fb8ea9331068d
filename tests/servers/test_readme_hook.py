"""The README's steps to the hook, followed word for word: in a project made by ``django-admin startproject``, and
without Django.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import docutils.core
import docutils.nodes
import pytest

README = Path(__file__).parents[2] / "README.rst"
SERVER = "127.0.0.1:8100"  # as in the README; replaced by a free port


@pytest.fixture(scope="module")
def steps() -> dict[str, str]:
    settings = {"halt_level": 2, "report_level": 2, "syntax_highlight": "short"}
    document = docutils.core.publish_doctree(README.read_text(), settings_overrides=settings)
    return {
        name: block.astext()
        for block in document.findall(docutils.nodes.literal_block)
        for name in block["names"]
        if name.startswith("hook-")
    }


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, steps: dict[str, str], port: int) -> Path:
    """A project as it stands after the README's first step and the URLs of the second."""
    folder = tmp_path_factory.mktemp("project")
    run(folder, "-m", "django", "startproject", "mysite", ".")
    settings, urls = folder / "mysite/settings.py", folder / "mysite/urls.py"
    here = steps["hook-settings"].replace(SERVER, f"127.0.0.1:{port}")
    settings.write_text(f"{settings.read_text()}\n{here}\n")
    urls.write_text(f"{urls.read_text()}\n{steps['hook-urls']}\n")
    run(folder, "manage.py", "migrate", "--verbosity", "0")
    run(folder, "manage.py", "shell", "--verbosity", "0", "-c", MAKE_USERS)
    (folder / "client.py").write_text(steps["hook-client"])
    return folder


MAKE_USERS = """
from django.contrib.auth.models import User
User.objects.create_user("vasia", is_staff=True)
User.objects.create_user("petya")
"""

KEY = secrets.token_hex(32)


def elsewhere(key: str) -> dict[str, str]:
    """Return the environment of another project than that of the tests beside these."""
    return {
        **{name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
        "SLACKER_KEY": key,
    }


def run(folder: Path, *command: str, key: str = KEY) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=elsewhere(key),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def serving(folder: Path, port: int, *command: str) -> Iterator[None]:
    """Run a server of the project until it accepts connections, and stop it afterwards."""
    server = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=elsewhere(KEY),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60  # liveness bound
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert server.poll() is None, server.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.communicate(timeout=60)


def shown_command(steps: dict[str, str], name: str, port: int) -> list[str]:
    match = re.fullmatch(r"\$ python (.+)", steps[name].replace(SERVER, f"127.0.0.1:{port}"))
    assert match is not None
    return match[1].split()


def test_the_key_of_step_one(steps: dict[str, str]) -> None:
    """The command of the first step leaves a key in the variable that the settings read."""
    command = steps["hook-key"].removeprefix("$ ").replace("python", sys.executable)
    done = subprocess.run(["sh", "-c", f'{command}; echo "$SLACKER_KEY"'], capture_output=True, text=True, timeout=60)
    assert re.fullmatch(r"[0-9a-f]{64}\n", done.stdout)


def test_the_check_of_step_three_finds_nothing(site: Path, steps: dict[str, str], port: int) -> None:
    """``manage.py check`` has nothing to say of a project set up as the README says."""
    assert "no issues" in run(site, *shown_command(steps, "hook-check", port))


@pytest.mark.parametrize(
    "server",
    ["runslacker", "runserver", "gunicorn-sync", "gunicorn-gthread"],
)
def test_the_client_of_step_four_gets_its_rows(site: Path, steps: dict[str, str], port: int, server: str) -> None:
    """The client prints what the server's database holds, by runslacker and by servers of the whole project."""
    commands = {
        "runslacker": shown_command(steps, "hook-runslacker", port),
        "runserver": ["manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"],
        "gunicorn-sync": ["-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "2", "mysite.wsgi"],
        "gunicorn-gthread": ["-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--threads", "4", "mysite.wsgi"],
    }
    with serving(site, port, *commands[server]):
        assert run(site, "-W", "error", "client.py") == "staff: ['vasia']\nusers: 2\n"


def test_a_client_with_another_key_is_refused(site: Path, steps: dict[str, str], port: int) -> None:
    """Without the server's key the client fails, with an error that names the key."""
    with (
        serving(site, port, *shown_command(steps, "hook-runslacker", port)),
        pytest.raises(AssertionError, match=r"TransportError: .*403.*SLACKER_KEY"),
    ):
        run(site, "client.py", key=secrets.token_hex(32))


# --- without Django --------------------------------------------------------------------------------------------------


def test_a_hook_without_django(tmp_path: Path, steps: dict[str, str]) -> None:
    """The plain application is served, and the plain worker has a function run there, as the README shows."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = {name: step.replace("127.0.0.1:8200", f"127.0.0.1:{port}") for name, step in steps.items()}
    (tmp_path / "far.py").write_text(here["hook-plain-app"])
    (tmp_path / "client.py").write_text(here["hook-plain-client"])

    with serving(tmp_path, port, *shown_command(here, "hook-plain-server", port)):
        assert run(tmp_path, "-W", "error", "client.py") == f"{platform.node()}\n"
