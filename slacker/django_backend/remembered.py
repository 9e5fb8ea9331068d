"""What was made of the settings, kept while they are the same: to read and check them all takes long, for each call.

What `conf`, `keyrings` and `environment` read for it is listed here.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any, Generic, TypeVar, final

from django.conf import Settings, settings
from django.db import connections

from . import conf, environment

__all__ = ["Remembered"]

T = TypeVar("T")

_READ_FOR_EACH_CALL = (
    "SLACKER_SERVER",
    "SLACKER_KEY",
    "SLACKER_KEY_FALLBACKS",
    "SLACKER_ALLOWED_CLIENTS",
    "SLACKER_MAX_REQUEST",
    "SLACKER_AUDIENCE",
    "SLACKER_TIMEOUT",
    "SECRET_KEY",
    "SECRET_KEY_FALLBACKS",
    "DEBUG",
    "ROOT_URLCONF",
)


_name_of = itemgetter("NAME")


def _in_force() -> tuple[Any, ...]:
    # A tenth of what all that is made of it costs. Asking Django's settings for one that is not set costs an exception.
    holder = settings._wrapped
    if type(holder) is Settings:  # a module's, where each is an attribute and nothing lies behind
        values: Iterable[Any] = map(vars(holder).get, _READ_FOR_EACH_CALL)
    else:
        values = (conf.setting(name, None) for name in _READ_FOR_EACH_CALL)
    databases = connections.settings
    return holder, environment.in_test_run(), *values, *databases, *map(_name_of, databases.values())


def _kept(found: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([list(value) if type(value) is list else value for value in found])  # they may be changed in place


@final
class Remembered(Generic[T]):
    """What was made of the settings last, for as long as all that was read for it is the same.

    found, made = remembered.look()
    if made is None:
        made = ...
        remembered.keep(found, made)
    """

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: tuple[tuple[Any, ...], T] | None = None

    def look(self) -> tuple[tuple[Any, ...], T | None]:
        """Return what is in force, to be given to `keep`, and what was made of just that, or None."""
        found, last = _in_force(), self._last
        return last if last is not None and last[0] == found else (_kept(found), None)

    def keep(self, found: tuple[Any, ...], made: T) -> None:
        """Keep what was made since `look` found that, unless that has changed meanwhile: it may be made of both."""
        if found == _in_force():
            self._last = found, made
