"""The keys that the settings give: those of SLACKER_KEY, or where no network can reach, derived from SECRET_KEY."""

from __future__ import annotations

import functools

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from ..keys import Keyring, hkdf_extract
from . import conf

__all__ = ["HOW_TO_MAKE_A_KEY", "derived_keyring", "keyring"]

HOW_TO_MAKE_A_KEY = "python -c 'import secrets; print(secrets.token_hex(32))'"


def keyring() -> Keyring | None:
    """Return the keys of SLACKER_KEY and its fallbacks, or None without SLACKER_KEY.

    Raises:
        ImproperlyConfigured: one of them is no key. An empty one is none either: it will be a variable of the
            environment that was forgotten.
    """
    key = conf.setting("SLACKER_KEY", None)
    if key is None:
        return None
    try:
        return _keyring((key, *conf.listed("SLACKER_KEY_FALLBACKS", ())))
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
