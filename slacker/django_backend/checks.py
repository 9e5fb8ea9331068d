"""System checks: settings with which a call would fail, or the hook be open to more than was meant.

=======  ==============================================================================================
E001     SLACKER_KEY or a fallback is no key: too short, or not random
E002     the URLs include the hook, and without DEBUG and SLACKER_KEY it refuses everybody
E003     SLACKER_SERVER is no URL
E004     another setting has a value that cannot be used
E005     SLACKER_WORKER cannot be imported
W001     the URLs include the hook, and SLACKER_SERVER's host is not in ALLOWED_HOSTS
W002     the URLs include the hook, and SECURE_SSL_REDIRECT sends calls to SLACKER_SERVER elsewhere
=======  ==============================================================================================
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured
from django.http.request import validate_host
from django.utils.module_loading import import_string

from . import conf, environment, keyrings

__all__ = ["check_hook"]

_MAKE_A_KEY = f"Make one with: {keyrings.HOW_TO_MAKE_A_KEY}"


def check_hook(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """Check the settings of both ends of the hook."""
    path = conf.hook_path()
    found = [
        *_unusable("slacker.E001", keyrings.keyring, hint=_MAKE_A_KEY),
        *_unusable("slacker.E003", conf.server),
        *_unusable("slacker.E004", conf.allowed_clients, conf.max_request, conf.timeout, conf.limits_statements),
        *_missing_worker(),
    ]
    if path is None or found or environment.in_test_run():
        # Without the include runslacker serves the hook, if anybody does, and looks at nothing of the following. In a
        # test run DEBUG is off, whatever the settings say: what is wrong without it must not keep tests from running.
        return found
    return [*_missing_key(), *_wrong_host(), *_redirect(path)]


def _unusable(number: str, *used: Callable[[], object], hint: str | None = None) -> Iterator[CheckMessage]:
    for use in used:
        try:
            use()
        except ImproperlyConfigured as error:
            yield Error(str(error), hint=hint, id=number)


def _missing_worker() -> Iterator[CheckMessage]:
    path = getattr(settings, "SLACKER_WORKER", None)
    if not path:
        return
    try:
        import_string(path)
    except Exception as error:  # the module may raise whatever it likes
        yield Error(
            f"SLACKER_WORKER = {path!r} cannot be imported: {error}",
            hint="It must be the dotted path of a worker class or a worker object.",
            id="slacker.E005",
        )


def _missing_key() -> Iterator[CheckMessage]:
    if not settings.DEBUG and keyrings.keyring() is None:
        yield Error(
            "slacker.django_backend.urls is included without a SLACKER_KEY: without DEBUG the hook refuses everybody.",
            hint=f"Set SLACKER_KEY, the same on both sides. {_MAKE_A_KEY}",
            id="slacker.E002",
        )


def _wrong_host() -> Iterator[CheckMessage]:
    name = urllib.parse.urlsplit(conf.server()).hostname or ""
    host = f"[{name}]" if ":" in name else name
    # With DEBUG an empty list means these, see HttpRequest.get_host.
    allowed = settings.ALLOWED_HOSTS or ([".localhost", "127.0.0.1", "[::1]"] if settings.DEBUG else [])
    if not validate_host(host, allowed):
        yield CheckWarning(
            f"SLACKER_SERVER's host {host!r} is not in ALLOWED_HOSTS: the hook would answer 400.",
            hint=f"Add {host!r} to ALLOWED_HOSTS.",
            id="slacker.W001",
        )


def _redirect(path: str) -> Iterator[CheckMessage]:
    exempt = any(re.search(pattern, path.lstrip("/")) for pattern in settings.SECURE_REDIRECT_EXEMPT)
    if settings.SECURE_SSL_REDIRECT and not exempt and conf.server().startswith("http://"):
        yield CheckWarning(
            "SECURE_SSL_REDIRECT is on and SLACKER_SERVER is an http:// address: the hook would answer 301.",
            hint="Use https, exempt the hook by SECURE_REDIRECT_EXEMPT, or serve it by manage.py runslacker.",
            id="slacker.W002",
        )
