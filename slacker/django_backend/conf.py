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
import sys
import urllib.parse
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar, final

import django
from django.conf import Settings, UserSettingsHolder, settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.urls import NoReverseMatch, reverse

from ..arguments import check_count, checked_timeout
from ..hook import LOOPBACK, MAX_REQUEST, Config
from ..keys import Keyring, hkdf_extract

__all__ = [
    "HOW_TO_MAKE_A_KEY",
    "Remembered",
    "allowed_clients",
    "audience",
    "database_names",
    "derived_keyring",
    "django_release",
    "hook_config",
    "hook_path",
    "in_test_run",
    "is_loopback",
    "keyring",
    "max_request",
    "server",
    "settings_module",
    "timeout",
    "with_scheme",
]

HOW_TO_MAKE_A_KEY = "python -c 'import secrets; print(secrets.token_hex(32))'"

_HOST = re.compile(r"[\w.:%-]+")

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


def _setting(name: str, default: Any) -> Any:
    return getattr(settings, name, default)


def _in_force() -> tuple[Any, ...]:
    # A tenth of what the functions of this module cost themselves. Asking Django's settings for one that is not set
    # costs an exception.
    holder = settings._wrapped
    if type(holder) is Settings:  # a module's, where each is an attribute and nothing lies behind
        values: Iterable[Any] = map(vars(holder).get, _READ_FOR_EACH_CALL)
    else:
        values = (_setting(name, None) for name in _READ_FOR_EACH_CALL)
    databases = connections.settings
    return holder, in_test_run(), *values, *databases, *[configured["NAME"] for configured in databases.values()]


def _kept(found: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([list(value) if type(value) is list else value for value in found])  # they may be changed in place


@final
class Remembered(Generic[T]):
    """What was made of the settings last, for as long as all that the functions of this module read is the same.

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


# --- keys ----------------------------------------------------------------------------------------------------------


def keyring() -> Keyring | None:
    """Return the keys of SLACKER_KEY and its fallbacks, or None without SLACKER_KEY.

    Raises:
        ImproperlyConfigured: one of them is no key. An empty one is none either: it will be a variable of the
            environment that was forgotten.
    """
    key = _setting("SLACKER_KEY", None)
    if key is None:
        return None
    try:
        return _keyring((key, *_listed("SLACKER_KEY_FALLBACKS", ())))
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"SLACKER_KEY or SLACKER_KEY_FALLBACKS: {error}") from error


def derived_keyring() -> Keyring | None:
    """Return keys derived from SECRET_KEY and its fallbacks, or None if SECRET_KEY is too weak and DEBUG is off.

    For places that no network can reach: a leaked SECRET_KEY must not become remote code execution.
    """
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    fit = [secret for secret in secrets if settings.DEBUG or _is_strong(secret)]
    return _keyring(tuple(map(_derived, fit))) if fit[:1] == secrets[:1] else None


@functools.lru_cache(maxsize=16)
def _keyring(secrets: tuple[bytes | str, ...]) -> Keyring:
    keys = Keyring(secrets)
    if not all(map(_looks_random, secrets)):
        raise ValueError("a key must be random, and this one repeats itself or begins 'django-insecure-'")
    return keys


def _derived(secret: bytes | str) -> bytes:
    return hkdf_extract(b"tornado-slacker/1/django", secret.encode() if isinstance(secret, str) else secret)


def _is_strong(secret: bytes | str) -> bool:
    # What Django's own check security.W009 asks of a SECRET_KEY.
    return len(secret) >= 50 and _looks_random(secret)


def _looks_random(secret: bytes | str) -> bool:
    raw = secret.encode() if isinstance(secret, str) else secret
    return len(set(raw)) >= 5 and not raw.startswith(b"django-insecure-")


# --- the environment -----------------------------------------------------------------------------------------------


def audience() -> str:
    """Return what names this environment: requests sealed for one are worth nothing in another.

    The database names are those in force. Besides, a test run is an environment of its own, whatever SLACKER_AUDIENCE
    says: its requests must not reach the project's data through a server that happens to listen, not even those of a
    test without a database, where the real names are in force.
    """
    named = _setting("SLACKER_AUDIENCE", None)
    if not named:
        names = [f"{alias}={configured['NAME']}" for alias, configured in sorted(connections.settings.items())]
        named = "\n".join([_settings_module(), *names])
    return f"{named}\na test run" if in_test_run() else str(named)


def _settings_module() -> str:
    holder = settings._wrapped
    while isinstance(holder, UserSettingsHolder):  # made by override_settings, or settings.configure
        holder = holder.default_settings
    return getattr(holder, "SETTINGS_MODULE", "")


def settings_module() -> str:
    """Return the name of the settings module, for another process to import.

    Raises:
        ImproperlyConfigured: there is none.
    """
    module = _settings_module()
    if not module:
        raise ImproperlyConfigured(
            "The settings were made by settings.configure(), so that no other process can have the same. Put them into "
            "a module and name it in DJANGO_SETTINGS_MODULE."
        )
    return module


def database_names() -> dict[str, str | None]:
    """Return the name of each database, by alias, as it is in force: in a test run that of the test database.

    Raises:
        ImproperlyConfigured: one is SQLite in memory, which no other process can see.
    """
    names: dict[str, str | None] = {}
    for alias in connections.settings:
        connection = connections[alias]
        name = connection.settings_dict["NAME"]
        if connection.vendor == "sqlite" and connection.is_in_memory_db():
            raise ImproperlyConfigured(
                f"The database {alias!r} is SQLite in memory ({name!r}), which other processes cannot see. Give it a "
                "file, in a test run by DATABASES[...]['TEST']['NAME'], or set SLACKER_WORKER to "
                "'slacker.django_backend.testing.InlineWorker'."
            )
        names[alias] = None if name is None else str(name)  # it may be a Path
    return names


def in_test_run() -> bool:
    """Tell whether Django's test environment was set up."""
    testing = sys.modules.get("django.test.utils")  # whoever called setup_test_environment() has imported it
    return testing is not None and hasattr(testing._TestState, "saved_data")


@functools.cache
def django_release() -> str:
    """Return Django's feature release: pickled models of one cannot be trusted to load in another."""
    return ".".join(map(str, django.VERSION[:2]))


# --- where the hook is ---------------------------------------------------------------------------------------------


def server() -> str:
    """Return SLACKER_SERVER as a URL.

    Raises:
        ImproperlyConfigured: it is none.
    """
    return _server(_setting("SLACKER_SERVER", None) or "http://127.0.0.1:8000")


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
    if not _setting("ROOT_URLCONF", None):
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
    try:
        return checked_timeout(_setting("SLACKER_TIMEOUT", 20.0), "SLACKER_TIMEOUT")
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(str(error)) from error


def max_request() -> int:
    most: int = _setting("SLACKER_MAX_REQUEST", MAX_REQUEST)
    try:
        check_count("SLACKER_MAX_REQUEST", most, least=1)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(str(error)) from error
    return most


def allowed_clients() -> tuple[str, ...]:
    clients = tuple(map(str, _listed("SLACKER_ALLOWED_CLIENTS", LOOPBACK)))
    try:
        Config(None, allowed_clients=clients)
    except ValueError as error:
        raise ImproperlyConfigured(f"SLACKER_ALLOWED_CLIENTS: {error}") from error
    return clients


def _listed(name: str, default: Sequence[Any]) -> Sequence[Any]:
    value: Sequence[Any] = _setting(name, default)
    if not isinstance(value, list | tuple):
        raise ImproperlyConfigured(f"{name} must be a list or a tuple, got a {type(value).__name__}")
    return value


# --- the far side --------------------------------------------------------------------------------------------------


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
    keys = keyring()
    if keys is None:
        return Config(derived_keyring() if unreachable else None, audience(), max_request())
    return Config(keys, audience(), max_request(), allowed_clients())
