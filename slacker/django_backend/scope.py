"""What Django does around a request, done around a chain: in threads, and wherever else chains are replayed.

Django ties the care of its database connections to the signals of a request, and a chain is none. `perform` is the
one way in. Around the work stand the caller's language and time zone, a transaction where ATOMIC_REQUESTS asks for one,
and the care for connections; the result is settled inside of all that.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from functools import partial
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.cache import caches
from django.core.exceptions import AppRegistryNotReady
from django.db import DatabaseError, OperationalError, connections, transaction
from django.db.models import QuerySet
from django.urls import set_script_prefix
from django.utils import timezone, translation

from ..chain import Chain, Replay, capture
from ..errors import DeadlineExceeded
from ..outcome import Error, Outcome, Value
from ..streaming import Surround, streamed
from . import expressions as _expressions  # noqa: F401 (registers them, on either side)
from .caller import Caller, active
from .results import cut, settle, unread
from .transactions import Deadline, enter_transactions, is_cancelled_statement, savepoints

__all__ = ["close_connections", "perform", "perform_stream", "read_time_zone", "require_setup"]

logger = logging.getLogger("slacker")

PROBE_AFTER = 1.0
"""Seconds after which a kept connection is probed once more before it is used: the server may have closed it."""


def require_setup() -> None:
    """Raise AppRegistryNotReady, which says what to do, unless Django's apps are loaded."""
    if not apps.ready:
        raise AppRegistryNotReady("Django's apps aren't loaded yet: call django.setup() first, before any recipe runs.")


def read_time_zone() -> None:
    """Have Django read its default time zone, a file, here and now, and not on a loop at the first call.

    Where there are no settings yet nothing happens, and the first call does read it.
    """
    if settings.configured:
        timezone.get_default_timezone()


def perform(
    chain: Chain,
    caller: Caller,
    *,
    own_thread: bool,
    deadline: float | None = None,
    encode: Callable[[Any], bool] | None = None,
) -> Outcome:
    """Replay `chain` as Django work and return what happened; raise nothing.

    Args:
        chain: what to replay.
        caller: from where it was called.
        own_thread: the thread and its database connections are slacker's, to look after and to keep between chains.
            False leaves connections alone, as inside somebody's test case.
        deadline: by `time.monotonic`, when nobody waits for the result any more. With the setting
            SLACKER_STATEMENT_TIMEOUT no statement on PostgreSQL runs on for longer.
        encode: takes the settled result, amid all that surrounds the work: what it looks at may query, and what it
            raises rolls back, as does False if the caller asked for a transaction. None to return the result. Rows are
            returned all the same, if there is nothing to roll back.
    """
    due = None if deadline is None else Deadline(deadline)
    return capture(chain, partial(_replay, partial(_surround, caller, own_thread, due), encode))


def perform_stream(
    chain: Chain, chunk_size: int, caller: Caller, *, own_thread: bool, deadline: float | None = None
) -> Generator[Value | Error, None, None]:
    """Replay `chain` as Django work and yield its result in chunks, see `slacker.streaming.streamed`.

    Args:
        chain: what to replay.
        chunk_size: most items of a chunk.
        caller: from where it was called.
        own_thread: see `perform`.
        deadline: see `perform`. For each further chunk there is as much time as there was for the first one.
    """
    due = None if deadline is None else Deadline(deadline)
    with contextlib.closing(streamed(chain, chunk_size, partial(_surround, caller, own_thread, due), cut)) as outcomes:
        for outcome in outcomes:
            yield outcome
            if due is not None:
                due.renew()


def _surround(caller: Caller, own_thread: bool, due: Deadline | None, stack: ExitStack, replay: Replay) -> None:
    """Enter what must surround the work."""
    # No @contextmanager for this: its generator assigns to the exception that passes, which not every class allows.
    if own_thread:
        _prepare_connections()
        stack.callback(_tidy_connections)
        if settings.FORCE_SCRIPT_NAME is not None:
            set_script_prefix(settings.FORCE_SCRIPT_NAME)  # as django.setup() does for the main thread
    if due is not None:
        stack.push(partial(_tell_deadline, due))
    _enter_caller(stack, caller)
    enter_transactions(stack, replay.chain.options.atomic, due, replay.chain.root)
    if replay.chain.options.atomic is not None:
        stack.push(partial(_roll_back_failures, replay))
    replay.start = unread
    replay.finish = settle
    replay.apart = savepoints


def _replay(surround: Surround, encode: Callable[[Any], bool] | None, replay: Replay) -> Any:
    with ExitStack() as stack:
        surround(stack, replay)
        result = replay.run()
        settled = settle(result)
        if encode is None or (isinstance(result, QuerySet) and not _in_transaction()):
            return (
                settled  # rows just read query nothing, so that their frames can be made one by one, as they are sent
            )
        replay.has_failures |= not encode(settled)
        return []  # it was handed over


def _in_transaction() -> bool:
    return any(connection.in_atomic_block for connection in connections.all(initialized_only=True))


def _roll_back_failures(replay: Replay, kind: object, error: object, traceback: object) -> None:
    if kind is None and replay.has_failures:  # its exceptions are among the results
        transaction.set_rollback(True, using=replay.chain.options.atomic)


def _tell_deadline(due: Deadline, kind: object, error: object, traceback: object) -> None:
    if isinstance(error, OperationalError) and is_cancelled_statement(error) and time.monotonic() >= due.at - 0.5:
        raise DeadlineExceeded("the database ended the statement at the deadline of its call", executed=True) from error


def _enter_caller(stack: ExitStack, caller: Caller) -> None:
    language, zone = active()
    if language != caller.language:
        stack.enter_context(translation.override(caller.language))
    if zone != caller.timezone:
        stack.enter_context(timezone.override(caller.timezone))


def close_connections() -> None:
    """Close this thread's database connections: the last act of a thread that had some."""
    connections.close_all()


# --- connections of our own threads --------------------------------------------------------------------------------


class _Probed(threading.local):
    def __init__(self) -> None:
        self.at: dict[str, float] = {}  # of each database, when its connection was last known to be usable


_probed = _Probed()


def _prepare_connections() -> None:
    now = time.monotonic()
    for connection in connections.all(initialized_only=True):
        connection.queries_log.clear()  # with DEBUG it grows, and is otherwise cleared when a request begins
        _close_if_obsolete(connection)
        # Django itself probes, when the connection is first used: others cost nothing.
        is_due = now - _probed.at.get(connection.alias, 0.0) > PROBE_AFTER
        connection.health_check_enabled = is_due or connection.settings_dict["CONN_HEALTH_CHECKS"]


def _tidy_connections() -> None:
    for cache in caches.all(initialized_only=True):  # made for this chain: they are kept by the context
        cache.close()
    now = time.monotonic()
    for connection in connections.all(initialized_only=True):
        if connection.health_check_done:
            _probed.at[connection.alias] = now
        if connection.in_atomic_block:
            logger.warning("a chain left a transaction open on database %r; it was rolled back", connection.alias)
            connection.close()
            del connections[connection.alias]  # a fresh wrapper: this one would believe itself in the transaction still
        elif connection.settings_dict.get("OPTIONS", {}).get("pool"):
            connection.close()  # goes back to the pool, for other threads
        else:
            _roll_back_open(connection)
            _close_if_obsolete(connection)


def _roll_back_open(connection: Any) -> None:
    # With AUTOCOMMIT off each statement opens a transaction, which only the work itself commits. What it has left open
    # would be committed by the next chain.
    if connection.connection is not None and not connection.get_autocommit():
        try:
            connection.rollback()
        except DatabaseError:
            connection.close()


def _close_if_obsolete(connection: Any) -> None:
    # CONN_MAX_AGE is a rule about requests. Its default of 0 would reconnect for every chain, so in our threads
    # it means: until the thread ends, which it does when it has had no work for a while.
    if connection.settings_dict["CONN_MAX_AGE"] == 0:
        connection.close_at = None
    connection.close_if_unusable_or_obsolete()
