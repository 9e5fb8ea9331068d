"""The transactions around a chain: those that the settings ask for, and the one that its caller asks for; and the time
limit of each statement, with SLACKER_STATEMENT_TIMEOUT.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import FunctionType
from typing import Any, final

from django.db import connections, transaction

from . import conf

__all__ = ["Deadline", "check_alias", "enter_transactions", "is_cancelled_statement", "savepoints"]

_QUERY_CANCELLED = "57014"
"""The SQLSTATE of PostgreSQL for a statement that it ended."""


@final
class Deadline:
    """When nobody waits any more for what is being made.

    Args:
        at: by `time.monotonic`.
    """

    def __init__(self, at: float) -> None:
        self.at = at
        self._seconds = at - time.monotonic()

    def renew(self) -> None:
        """Begin afresh, with as much time as there was in the beginning."""
        self.at = time.monotonic() + self._seconds


def check_alias(alias: str) -> None:
    """Raise ValueError unless `alias` is that of a database of the project in which a transaction can be asked for."""
    if alias not in connections.settings:
        known = ", ".join(map(repr, connections.settings))
        raise ValueError(f"atomic names a database {alias!r}, which there is not; there are {known}")
    if not connections.settings[alias]["AUTOCOMMIT"]:
        raise ValueError(f"atomic names {alias!r}, which has AUTOCOMMIT off: Django's atomic() commits nothing there")


def enter_transactions(stack: ExitStack, atomic: str | None, due: Deadline | None, root: Any = None) -> None:
    """Enter all that a chain runs in: what its caller asked for, and ATOMIC_REQUESTS, which holds for chains as for
    requests, but for functions that are ``@transaction.non_atomic_requests``.

    Args:
        stack: what leaves them.
        atomic: the alias that the caller asked for.
        due: when no statement may run any more.
        root: what the chain starts from.
    """
    if atomic is not None:
        check_alias(atomic)  # the databases of its caller may differ
    is_limited = due is not None and conf.limits_statements()
    spared = getattr(root, "_non_atomic_requests", ()) if isinstance(root, FunctionType) else ()
    for alias, configured in connections.settings.items():
        if is_limited and due is not None and connections[alias].vendor == "postgresql":
            stack.enter_context(_StatementLimit(connections[alias], due))
        if alias == atomic or (configured["ATOMIC_REQUESTS"] and alias not in spared):
            stack.enter_context(transaction.atomic(using=alias))


_LIMIT = """
    SELECT current_setting('statement_timeout'), set_config('statement_timeout', least(
        nullif(extract(epoch FROM current_setting('statement_timeout')::interval) * 1000, 0)::bigint, %s
    )::text, true)
"""
_LONGEST = 2**31 - 1
"""Milliseconds that PostgreSQL can take for a limit."""


@final
class _StatementLimit:
    """Lets PostgreSQL end each statement on `connection` at the deadline, if no shorter limit is in force already.

    It is set as ``SET LOCAL`` does, and so in a transaction: in the one that is open, or in one of the statement's own.
    A setting of the session would reach other clients where a pooler stands in between.
    """

    def __init__(self, connection: Any, due: Deadline) -> None:
        self._connection = connection
        self._due = due
        self._before: str | None = None

    def __enter__(self) -> None:
        self._connection.execute_wrappers.append(self)

    def __exit__(self, *_: object) -> None:
        connection = self._connection
        connection.execute_wrappers.remove(self)
        if self._before is not None and connection.in_atomic_block:  # a test's, for example: it goes on
            with contextlib.suppress(Exception), connection.connection.cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [self._before])

    def __call__(self, execute: Callable[..., Any], *statement: Any) -> Any:
        if self._connection.in_atomic_block or not self._connection.get_autocommit():
            self._set()
            return execute(*statement)
        with transaction.atomic(using=self._connection.alias):
            self._set()
            return execute(*statement)

    def _set(self) -> None:
        left = int((self._due.at - time.monotonic()) * 1000)
        # Not through Django, which would call this. It fails in a transaction that has failed: there nothing runs long.
        with contextlib.suppress(Exception), self._connection.connection.cursor() as cursor:
            cursor.execute(_LIMIT, [max(1, min(left, _LONGEST))])  # 0 would mean no limit
            (before, _) = cursor.fetchone()
            self._before = self._before or before


def savepoints() -> ExitStack:
    """Return what makes a part of the work, for ``with``, a savepoint in each transaction that is open.

    After an error in a transaction the database does nothing but roll back, and Django rolls it back in the end without
    a word: what is to outlive a failure needs one.
    """
    with ExitStack() as stack:
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block:
                stack.enter_context(transaction.atomic(using=connection.alias))
        return stack.pop_all()


def is_cancelled_statement(error: Any) -> bool:
    """Tell whether the database ended a statement because it took too long."""
    cause = error.__cause__
    return _QUERY_CANCELLED in (getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None))
