"""The hook's own work in Django: replay a chain with what its caller sent along."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from django.utils import timezone

from ..chain import Chain
from ..errors import Refused
from ..hook import Hook
from ..outcome import Error, Outcome
from . import conf
from .scope import Caller, perform

__all__ = ["caller_options", "hook", "perform_as_sent"]


def hook(*, unreachable: Callable[[], bool], own_thread: bool) -> Hook:
    """Return a hook for this project.

    Args:
        unreachable: tells, for each request, whether no network can reach the hook.
        own_thread: see `slacker.django_backend.scope.perform`.
    """
    return Hook(lambda: conf.hook_config(unreachable=unreachable()), partial(perform_as_sent, own_thread))


def caller_options() -> dict[str, Any]:
    """Return what goes along with a request: language, time zone, and the Django release on this side."""
    caller = Caller.current()
    return {"django": conf.django_release(), "language": caller.language, "zone": _zone_name(caller.timezone)}


def perform_as_sent(own_thread: bool, chain: Chain, options: Mapping[str, Any]) -> Outcome:
    """Replay `chain` as Django work, with the `caller_options` that came along."""
    here, there = conf.django_release(), options.get("django")
    if there is not None and there != here:
        message = f"the caller has Django {there}, the hook {here}: models cannot be exchanged. Update one of them."
        return Error(Refused(message, reason="version"), 0)
    local = Caller.current()  # for what does not come along, from an HttpWorker that is not Django's
    language = options.get("language", local.language)
    zone = _zone(options["zone"]) if "zone" in options else local.timezone
    return perform(chain, Caller(language, zone), own_thread=own_thread)


def _zone_name(zone: dt.tzinfo) -> str | float:
    """Return the zone's name, or its offset in seconds if it is a fixed one."""
    return zone.utcoffset(None).total_seconds() if isinstance(zone, dt.timezone) else str(zone)


def _zone(name: str | float) -> dt.tzinfo:
    """Return the zone of that name or offset; the project's own if there is none such here."""
    try:
        return zoneinfo.ZoneInfo(name) if isinstance(name, str) else dt.timezone(dt.timedelta(seconds=name))
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        default: dt.tzinfo = timezone.get_default_timezone()
        return default
