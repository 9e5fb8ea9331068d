"""The transactions around a chain: those that the settings ask for, the one that its caller asks for, and time limits.

Statements are limited by ``SET LOCAL`` inside of a transaction, so that the limit ends with it whatever happens.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from django.conf import settings
from django.db import connections, transaction

__all__ = ["check_alias", "enter_transactions", "is_cancelled_statement"]

_QUERY_CANCELLED = "57014"
"""The SQLSTATE of PostgreSQL for a statement that it ended."""


def check_alias(alias: str) -> None:
    """Raise ValueError unless `alias` is that of one of the project's databases."""
    if alias not in connections.settings:
        known = ", ".join(map(repr, connections.settings))
        raise ValueError(f"atomic names a database {alias!r}, which there is not; there are {known}")


def enter_transactions(stack: ExitStack, atomic: str | None, deadline: float | None) -> None:
    """Enter all that a chain runs in.

    Args:
        stack: what leaves them.
        atomic: the alias that the caller asked for. ATOMIC_REQUESTS holds for chains as for requests.
        deadline: by `time.monotonic`; see `slacker.django_backend.scope.perform`.
    """
    is_limited = deadline is not None and getattr(settings, "SLACKER_STATEMENT_TIMEOUT", False)
    for alias, configured in connections.settings.items():
        limited = is_limited and connections[alias].vendor == "postgresql"
        if alias == atomic or configured["ATOMIC_REQUESTS"] or limited:
            stack.enter_context(transaction.atomic(using=alias))
        if limited and deadline is not None:
            left = max(1, int((deadline - time.monotonic()) * 1000))  # 0 would mean no limit
            with connections[alias].cursor() as cursor:
                cursor.execute(f"SET LOCAL statement_timeout = {left}")
    if atomic is not None and atomic not in connections.settings:  # of a caller whose databases differ
        check_alias(atomic)


def is_cancelled_statement(error: Any) -> bool:
    """Tell whether the database ended a statement because it took too long."""
    cause = error.__cause__
    return _QUERY_CANCELLED in (getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None))
