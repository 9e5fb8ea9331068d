"""What the tests of Django's side share besides fixtures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import connection

from slacker import wsgi
from slacker.django_backend.remote import far_side
from slacker.django_backend.scope import close_connections
from slacker.hook import Config, Hook
from slacker.signing import Keyring
from tests.http.servers import AUDIENCE, KEY, HttpServer

sqlite_only = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
postgresql_only = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


away_only = pytest.mark.parametrize("any_worker", ["threads", "http"], indirect=True)
"""Leaves out the worker that has the test wait."""
everywhere = pytest.mark.parametrize("any_worker", ["threads", "http", "inline", "processes"], indirect=True)
"""Adds the one whose work cannot leave a trace in this process."""


class HookServer(HttpServer):
    """Django's hook in threads of this process, each with connections of its own to the database.

    Args:
        now: its clock.
    """

    def __init__(self, now: Callable[[], int] | None = None) -> None:
        keyring = Keyring(KEY)
        super().__init__(wsgi.application(Hook(lambda: Config(keyring, AUDIENCE), far_side(own_thread=True), now=now)))

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            close_connections()


def session() -> Any:
    """As work: return the driver's connection that the chain runs on; two chains share a session if it is the same."""
    connection.ensure_connection()
    return connection.connection


def backend_pid() -> int:
    """As work: return which process of PostgreSQL serves the chain."""
    return session().info.backend_pid


class Backends:
    """PostgreSQL's own view of the sessions that slacker's threads hold, over a connection of its own."""

    name = "slacker-threads"  # the application_name by which they are told from others

    def __init__(self, database: dict[str, Any]) -> None:
        self._connection = psycopg.connect(
            host=database["HOST"], user=database["USER"], dbname=database["NAME"], autocommit=True
        )

    def pids(self, state: str = "%") -> set[int]:
        """Return the processes that serve such sessions, those in `state` if one is given."""
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND state LIKE %s"
        return {pid for (pid,) in self._connection.execute(query, [self.name, state])}

    def last_statement(self) -> str:
        """Return what the one such session executes, or did last; nothing if it is gone."""
        query = "SELECT query FROM pg_stat_activity WHERE application_name = %s"
        return "".join([statement for (statement,) in self._connection.execute(query, [self.name])])

    def terminate(self, pid: int) -> None:
        """End a session as an administrator would, and return when it is gone (5 s at most)."""
        assert self._connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid]).fetchone() == (True,)

    def close(self) -> None:
        self._connection.close()
