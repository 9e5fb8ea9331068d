"""The hook's own work in Django: how it is set up, and to replay a chain with what its caller sent along."""

from __future__ import annotations

import datetime as dt
import functools
import time
import zoneinfo
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation
from django.utils import timezone

from .. import wire
from ..chain import Chain
from ..errors import Refused
from ..hook import Config, Hook
from ..outcome import Error, Outcome, Value
from . import conf, environment, keyrings
from .caller import Caller, active
from .remembered import Remembered
from .rows import pack
from .scope import perform, perform_stream

__all__ = ["caller_options", "far_side", "hook", "hook_config"]

wire.explanations[SynchronousOnlyOperation] = (
    "it is or holds a QuerySet, or a lazy object such as request.user, which would query the database here; make it a "
    "recipe, Slacker(Model, worker).objects..., which is replayed where the other one is, or pass a primary key"
)


def hook(*, unreachable: Callable[[], bool], own_thread: bool) -> Hook:
    """Return a hook for this project.

    Args:
        unreachable: tells, for each request, whether no network can reach the hook.
        own_thread: see `slacker.django_backend.scope.perform`.
    """
    return Hook(lambda: hook_config(unreachable=unreachable()), far_side(own_thread=own_thread))


_configs: dict[bool, Remembered[Config]] = {False: Remembered(), True: Remembered()}  # by whether unreachable


def hook_config(*, unreachable: bool) -> Config:
    """Return how the hook is set up.

    Args:
        unreachable: no network can reach this hook, by construction, so that a key derived from SECRET_KEY will do.
            Then only clients on loopback are allowed.

    Raises:
        ImproperlyConfigured: a setting is unusable.
    """
    remembered = _configs[unreachable]
    found, made = remembered.look()
    if made is None:
        made = _make_config(unreachable=unreachable)
        remembered.keep(found, made)
    return made


def _make_config(*, unreachable: bool) -> Config:
    keys = keyrings.keyring()
    if keys is None:
        return Config(keyrings.derived_keyring() if unreachable else None, environment.audience(), conf.max_request())
    return Config(keys, environment.audience(), conf.max_request(), conf.allowed_clients())


def caller_options(max_reply: int | None = None) -> str:
    """Return what goes along with a request, encoded: language, time zone, this side's Django release, and the most
    bytes of a result.
    """
    language, zone = active()
    return _encoded(language, _zone_name(zone), max_reply)


@functools.lru_cache(maxsize=256)
def _encoded(language: str | None, zone: str | float, max_reply: int | None) -> str:
    options = {"django": environment.django_release(), "language": language, "zone": zone}
    return wire.encode_options(options if max_reply is None else {**options, "max_reply": max_reply})


def _perform(own_thread: bool, chain: Chain, options: Mapping[str, Any], encode: wire.Encode) -> Outcome:
    """Replay `chain` with what its caller sent along; for `slacker.wire.serve`.

    Args:
        own_thread: see `slacker.django_backend.scope.perform`.
        chain: what to replay.
        options: those of the request and the call.
        encode: see `slacker.django_backend.scope.perform`.
    """
    if (refused := _refusal(options)) is not None:
        return refused
    deadline = _deadline(options.get("deadline"))
    return perform(chain, _caller(options), own_thread=own_thread, deadline=deadline, encode=encode)


def _stream(own_thread: bool, chain: Chain, options: Mapping[str, Any]) -> Generator[Value | Error, None, None]:
    """As `_perform`, for streams."""
    if (refused := _refusal(options)) is not None:
        yield refused
    else:
        deadline = _deadline(options.get("deadline"))
        yield from perform_stream(chain, options["stream"], _caller(options), own_thread=own_thread, deadline=deadline)


def far_side(*, own_thread: bool) -> wire.FarSide:
    """Return what Django does with the calls of a request; see `slacker.django_backend.scope.perform`."""
    return wire.FarSide(partial(_perform, own_thread), partial(_stream, own_thread), pack)


def _refusal(options: Mapping[str, Any]) -> Error | None:
    here, there = environment.django_release(), options.get("django")
    if there in (None, here):
        return None
    message = f"the caller has Django {there}, the hook {here}: models cannot be exchanged. Update one of them."
    return Error(Refused(message, reason="version"), 0)


def _caller(options: Mapping[str, Any]) -> Caller:
    if "language" in options and "zone" in options:
        return Caller(options["language"], _zone(options["zone"]))
    return Caller.current()  # it comes from an HttpWorker that is not Django's


def _deadline(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else time.monotonic() + milliseconds / 1000 - time.time()


def _zone_name(zone: dt.tzinfo) -> str | float:
    """Return the zone's name, or its offset in seconds if it is a fixed one.

    Raises:
        ValueError: it is neither, and means nothing elsewhere.
    """
    if isinstance(zone, dt.timezone):
        return zone.utcoffset(None).total_seconds()
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)  # a ZoneInfo's, or one of pytz's
    if not isinstance(name, str):
        raise ValueError(f"the active time zone, {zone!r}, has no name that another process knows; use a ZoneInfo")
    return name


def _zone(name: str | float) -> dt.tzinfo:
    """Return the zone of that name or offset; the project's own if there is none such here."""
    try:
        return zoneinfo.ZoneInfo(name) if isinstance(name, str) else dt.timezone(dt.timedelta(seconds=name))
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        default: dt.tzinfo = timezone.get_default_timezone()
        return default
