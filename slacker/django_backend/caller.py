"""What a call takes along of the place it comes from: the active language and time zone.

Django keeps both in context variables. Where nothing was activated, as in most places, its own functions find that out
by exceptions: with those a tenth of what a look-up over HTTP costs the loop. So the variables are asked first. That
they are what asgiref makes of its `Local` is not said anywhere; it is seen by what activating something sets, and where
nothing is seen, Django is asked.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import Any, Self, final

from django.conf import settings
from django.core.signals import setting_changed
from django.utils import timezone, translation

__all__ = ["Caller", "active"]


@final
@dataclass(frozen=True, slots=True)
class Caller:
    """The active language (None: none) and time zone."""

    language: str | None
    timezone: dt.tzinfo

    @classmethod
    def current(cls) -> Self:
        return cls(*active())


def active() -> tuple[str | None, dt.tzinfo]:
    """Return the active language, or None, and the active time zone."""
    language, zone = _variables()
    return (
        settings.LANGUAGE_CODE if language and language.get(None) is None else translation.get_language(),
        timezone.get_default_timezone() if zone and zone.get(None) is None else timezone.get_current_timezone(),
    )


@functools.cache
def _variables() -> tuple[ContextVar[Any] | None, ContextVar[Any] | None]:
    return _set_by(translation.deactivate_all), _set_by(functools.partial(timezone.activate, dt.UTC))


def _set_by(activate: Callable[[], object]) -> ContextVar[Any] | None:
    context = Context()
    context.run(activate)
    variables = list(context)
    return variables[0] if len(variables) == 1 else None


def _look_again(**_: object) -> None:
    _variables.cache_clear()  # overriding LANGUAGE_CODE gives Django another variable


setting_changed.connect(_look_again)
