"""`slacker.django_backend.testing`, used as a project's own tests use it: they are in tests/django/app/tests.py."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slacker import Slacker
from slacker.django_backend.testing import InlineWorker

ROOT = Path(__file__).parents[2]


@pytest.mark.usefixtures("database")  # and through it, by the environment, the child process
def test_tests_of_a_project_pass() -> None:
    """Django's own runner runs the app's tests and finds nothing to complain about, on a database of its own making."""
    command = ["-W", "error", "-m", "django", "test", "tests.django.app", "--settings=tests.django.settings", "-v2"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Found 0" not in done.stdout


async def test_one_debug_line_a_call(database: Any, caplog: pytest.LogCaptureFixture) -> None:
    """As on every worker, a call leaves one DEBUG line that names its steps, without arguments."""
    caplog.set_level(logging.DEBUG, "slacker")
    await Slacker(len, InlineWorker())("secret")

    assert [message.split(", ran")[0] for message in caplog.messages] == ["len(...): ok, waited 0.000000 s"]
