"""The examples that are one file: they do what they say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / script], capture_output=True, text=True, timeout=60, check=True
    )


def test_quickstart_shows_the_four_spellings() -> None:
    """quickstart.py prints the same digest four times, and names the step that fails."""
    ran = run("quickstart.py")

    lines = [line.split(maxsplit=1) for line in ran.stdout.splitlines()]
    assert [word for word, _ in lines] == ["await", "yield", "fetch", "proceed", "recipe", "failed"]
    assert len({text[:12] for word, text in lines[:4]}) == 1
    assert lines[5][1] == "slacker: at step 1, digest, of digest(...).upper()"
    assert ran.stderr == ""


@pytest.fixture
def callbacks_server() -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, "-W", "error", EXAMPLES / "callbacks.py", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        announced = re.search(r"http://127.0.0.1:\d+/", server.stdout.readline())
        assert announced is not None
        yield announced[0]
        server.terminate()


def test_callbacks_answers_a_look_up(callbacks_server: str) -> None:
    """callbacks.py answers with the addresses that a thread looked up."""
    with urllib.request.urlopen(callbacks_server + "?host=localhost", timeout=30) as answer:
        assert "127.0.0.1" in json.load(answer)["addresses"]


def test_callbacks_answers_a_failure(callbacks_server: str) -> None:
    """A look-up that fails goes to the error callback, which answers 404."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(callbacks_server + "?host=no.such.host.invalid", timeout=30)
    with caught.value as answer:
        assert (answer.code, list(json.load(answer))) == (404, ["error"])


def test_cancel_on_disconnect() -> None:
    """Of clients that go away the waiting call never runs and the stream ends; one that stays gets its answer."""
    ran = run("cancel_on_disconnect.py")

    assert [line.split(maxsplit=1) for line in ran.stdout.splitlines()] == [
        ["/report", "499"],
        ["made", "[]"],
        ["/numbers", "499"],
        ["/report", "200"],
        ["made", "['cities']"],
    ]
    assert ran.stderr == ""


def test_progress() -> None:
    """progress.py moves its bar from nothing to all files, and tells what it has counted."""
    ran = run("progress.py")

    bar = re.findall(r"(\d+)/(\d+) \[", ran.stderr)
    told = re.fullmatch(r"(\d+) modules have (\d+) words, \w+\.py alone (\d+)\n", ran.stdout)
    assert told is not None
    assert (bar[0], bar[-1]) == (("0", told[1]), (told[1], told[1]))
    assert int(told[2]) > int(told[3]) > 0
