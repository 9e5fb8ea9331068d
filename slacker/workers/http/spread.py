"""Connections of one loop to one server, spread over its processes.

A server of several processes leaves it to the kernel which of them accepts a connection, and that one has it for as
long as it lives. It is drawn by lot: of four connections to two processes all are with the same one time in eight, and
half of the server idles; and who is there first after a restart gets them all. So replies name their process. If that
of a connection has two more than another, the connection is given up, and the one made in its place may have more luck.
Where but one process is known, there may be more, and now and then a connection is given up to see.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import Counter
from typing import final

from .connection import Connection

__all__ = ["EVERY", "Spread"]

EVERY = 25
"""Answers of a connection after which `Spread.keeps` is asked again; it is after the first as well."""

TRIES, TRIES_SECONDS = 16, 60.0
"""Most connections that are given up in so many seconds: a server may have but one process, or stand behind something
that passes each request on to another.
"""


@final
class Spread:
    """Says which connections to keep."""

    __slots__ = ("_kept", "_tries", "_tries_since")

    def __init__(self) -> None:
        self._kept: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._tries = 0
        self._tries_since = 0.0

    def keeps(self, connection: Connection) -> bool:
        """Tell whether to keep `connection`, which has just had an answer."""
        self._kept.discard(connection)
        if connection.process and self._is_one_too_many(connection) and self._may_try():
            return False
        self._kept.add(connection)
        return True

    def _is_one_too_many(self, connection: Connection) -> bool:
        of_each = Counter([connection.process, *[other.process for other in self._kept if not other.is_closed]])
        if len(of_each) == 1:
            return of_each[connection.process] > 1 and connection.answers > 1
        return of_each[connection.process] - min(of_each.values()) >= 2

    def _may_try(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._tries_since >= TRIES_SECONDS:
            self._tries, self._tries_since = 0, now
        self._tries += 1
        return self._tries <= TRIES
