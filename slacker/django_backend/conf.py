"""The settings, read when they are used: what both ends of the hook have in common.

=========================  =========================================  ===============================================
setting                    default                                    meaning
=========================  =========================================  ===============================================
SLACKER_SERVER             ``"http://127.0.0.1:8000"``                where the hook is; ``host:port`` is read as http
SLACKER_KEY                derived from SECRET_KEY, on loopback only  the shared secret, at least 32 bytes
SLACKER_KEY_FALLBACKS      ``[]``                                     secrets that verify as well, while keys rotate
SLACKER_ALLOWED_CLIENTS    loopback                                   addresses and networks that may call the hook
SLACKER_MAX_REQUEST        16 MiB                                     most bytes of a request
SLACKER_AUDIENCE           settings module and database names         names the environment
SLACKER_TIMEOUT            20                                         seconds for a whole call
SLACKER_STATEMENT_TIMEOUT  ``False``                                  let PostgreSQL end statements at that limit
SLACKER_WORKER             none                                       what argument-less Django workers run on
=========================  =========================================  ===============================================

A setting that cannot be used raises ImproperlyConfigured, where it is used and in ``manage.py check``.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import urllib.parse
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.urls import NoReverseMatch, reverse

from ..arguments import check_count, checked_timeout
from ..hook import LOOPBACK, MAX_REQUEST, Config

__all__ = [
    "allowed_clients",
    "hook_path",
    "is_loopback",
    "limits_statements",
    "listed",
    "max_request",
    "server",
    "setting",
    "timeout",
    "with_scheme",
]

_HOST = re.compile(r"[\w.:%-]+")


def setting(name: str, default: Any) -> Any:
    """Return a setting as it is, unchecked, or `default` where it is not set."""
    return getattr(settings, name, default)


def listed(name: str, default: Sequence[Any]) -> Sequence[Any]:
    """Return a setting that must be a list or a tuple, or `default` where it is not set.

    Raises:
        ImproperlyConfigured: it is something else, such as a string, whose letters would be taken one by one.
    """
    value: Sequence[Any] = setting(name, default)
    if not isinstance(value, list | tuple):
        raise ImproperlyConfigured(f"{name} must be a list or a tuple, got a {type(value).__name__}")
    return value


# --- where the hook is ---------------------------------------------------------------------------------------------


def server() -> str:
    """Return SLACKER_SERVER as a URL.

    Raises:
        ImproperlyConfigured: it is none.
    """
    return _server(setting("SLACKER_SERVER", None) or "http://127.0.0.1:8000")


@functools.lru_cache(maxsize=16)
def _server(given: str) -> str:
    url = with_scheme(given)
    if not _is_plain_url(url):
        raise ImproperlyConfigured(f"SLACKER_SERVER must be a URL such as 'http://127.0.0.1:8000', got {given!r}")
    return url


def with_scheme(address: str) -> str:
    """Return a URL as it is, and ``host:port`` as one of http."""
    return address if "://" in address else f"http://{address}"


def _is_plain_url(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        parts.port  # noqa: B018 (raises a ValueError for one that cannot be)
    except ValueError:
        return False
    extras = parts.query or parts.fragment or "@" in parts.netloc
    return parts.scheme in ("http", "https") and bool(_HOST.fullmatch(parts.hostname or "")) and not extras


def hook_path() -> str | None:
    """Return where the project's URLs include the hook, None if they do not. Imports them, and all views with them."""
    if not setting("ROOT_URLCONF", None):
        return None
    try:
        path: str = reverse("slacker-execute")
    except NoReverseMatch:
        return None
    return path


def is_loopback(host: str) -> bool:
    """Tell whether `host`, a name or an address, can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# --- limits --------------------------------------------------------------------------------------------------------


def timeout() -> float:
    """Return SLACKER_TIMEOUT: seconds for a whole call, 20 by default.

    Raises:
        ImproperlyConfigured: it is no number of seconds.
    """
    try:
        return checked_timeout(setting("SLACKER_TIMEOUT", 20.0), "SLACKER_TIMEOUT")
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(str(error)) from error


def limits_statements() -> bool:
    """Return SLACKER_STATEMENT_TIMEOUT: whether the database ends statements at the time limit of their call.

    Raises:
        ImproperlyConfigured: it is neither True nor False, but seconds, for example.
    """
    limits = setting("SLACKER_STATEMENT_TIMEOUT", False)
    if not isinstance(limits, bool):
        raise ImproperlyConfigured(
            f"SLACKER_STATEMENT_TIMEOUT must be True or False, got {limits!r}: the limit is that of the call"
        )
    return limits


def max_request() -> int:
    """Return SLACKER_MAX_REQUEST: most bytes of a request that the hook takes and a worker sends, 16 MiB by default.

    Raises:
        ImproperlyConfigured: it is no whole number, or less than 1.
    """
    most: int = setting("SLACKER_MAX_REQUEST", MAX_REQUEST)
    try:
        check_count("SLACKER_MAX_REQUEST", most, least=1)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(str(error)) from error
    return most


def allowed_clients() -> tuple[str, ...]:
    """Return SLACKER_ALLOWED_CLIENTS: addresses and networks that may call the hook, loopback by default.

    An empty string among them stands for unix sockets.

    Raises:
        ImproperlyConfigured: it is no list or tuple, or something in it is no address.
    """
    clients = tuple(map(str, listed("SLACKER_ALLOWED_CLIENTS", LOOPBACK)))
    try:
        Config(None, allowed_clients=clients)
    except ValueError as error:
        raise ImproperlyConfigured(f"SLACKER_ALLOWED_CLIENTS: {error}") from error
    return clients
