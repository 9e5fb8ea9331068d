"""Which requests were seen: what `slacker.hook` asks before it serves one, so that it is served once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeAlias, final

__all__ = ["Clock", "MemoryNonces", "NonceStore", "StoreFull", "milliseconds"]

Clock: TypeAlias = Callable[[], int]
"""Milliseconds since 1970."""


def milliseconds() -> int:
    """Return how many have passed since 1970: the clock of whoever is given none."""
    return time.time_ns() // 1_000_000


class StoreFull(Exception):
    """A nonce store cannot remember one more, or not without forgetting one that has not expired."""


class NonceStore(Protocol):
    """Remembers which requests were seen.

    Attributes:
        outlives_process: whether it knows, after a restart or a fork, what was seen before. With one that does not, a
            hook refuses requests from before its start. A store without this attribute is taken for one that does:
            that is why somebody would write one.
    """

    outlives_process: bool = True

    def add(self, nonce: str, expires: int) -> bool:
        """Remember `nonce` until `expires` (milliseconds since 1970), atomically.

        Returns:
            Whether it is new.

        Raises:
            StoreFull: it could not be remembered.
        """


@final
class MemoryNonces:
    """Nonces in this process: with N processes at one address a request can be replayed N times within the window.

    A nonce is kept in a slice of time by when it expires, and slices are forgotten whole: never one that holds a
    nonce that has not expired. Should the clock go back to a slice that was forgotten, nothing is taken for it.

    Hooks of one process may share it. In a forked child it is empty.

    Args:
        capacity: most nonces at once. The default takes 2 000 requests a second, in about 50 MB.
        now: the clock.
    """

    SLICE = 10_000

    outlives_process = False

    def __init__(self, capacity: int = 250_000, now: Clock | None = None) -> None:
        self._capacity = capacity
        self._now = now or milliseconds
        self.begin_afresh()

    def begin_afresh(self) -> None:
        """Forget all, as in a forked child: a thread that is not there may have been in the middle of `add`."""
        self._lock = threading.Lock()
        self._count = 0
        self._first = 0  # the first slice that was not forgotten
        self._slices: dict[int, set[str]] = {}

    def add(self, nonce: str, expires: int) -> bool:
        index = expires // self.SLICE
        with self._lock:
            self._forget(self._now() // self.SLICE)
            if index < self._first:
                raise StoreFull("its time was forgotten already")
            known = self._slices.setdefault(index, set())
            if nonce in known:
                return False
            if self._count >= self._capacity:
                raise StoreFull(f"{self._count} requests came within two minutes")
            known.add(nonce)
            self._count += 1
            return True

    def _forget(self, first: int) -> None:
        if first > self._first:
            self._first = first
            for expired in [index for index in self._slices if index < first]:
                self._count -= len(self._slices.pop(expired))
