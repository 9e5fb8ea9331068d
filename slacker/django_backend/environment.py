"""Which environment this process is in, so that no chain runs in another: settings, databases, test run, release."""

from __future__ import annotations

import functools
import sys

import django
from django.conf import UserSettingsHolder, settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from . import conf

__all__ = ["audience", "databases", "django_release", "in_test_run", "settings_module"]


def audience() -> str:
    """Return what names this environment: requests sealed for one are worth nothing in another.

    The database names are those in force. Besides, a test run is an environment of its own, whatever SLACKER_AUDIENCE
    says: its requests must not reach the project's data through a server that happens to listen, not even those of a
    test without a database, where the real names are in force.
    """
    named = conf.setting("SLACKER_AUDIENCE", None)
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


_WHERE = ("NAME", "HOST", "PORT", "USER", "PASSWORD")


def databases() -> dict[str, dict[str, str | None]]:
    """Return where each database is, by alias, as it is in force: in a test run that is the test database, and whatever
    server the test run has named.

    Raises:
        ImproperlyConfigured: one is SQLite in memory, which no other process can see.
    """
    places: dict[str, dict[str, str | None]] = {}
    for alias in connections.settings:
        connection = connections[alias]
        name = connection.settings_dict["NAME"]
        if connection.vendor == "sqlite" and connection.is_in_memory_db():
            raise ImproperlyConfigured(
                f"The database {alias!r} is SQLite in memory ({name!r}), which other processes cannot see. Give it a "
                "file, in a test run by DATABASES[...]['TEST']['NAME'], or set SLACKER_WORKER to "
                "'slacker.django_backend.testing.InlineWorker'."
            )
        given = {key: connection.settings_dict.get(key) for key in _WHERE}
        places[alias] = {key: value if value is None else str(value) for key, value in given.items()}  # or a Path
    return places


def in_test_run() -> bool:
    """Tell whether Django's test environment was set up."""
    testing = sys.modules.get("django.test.utils")  # whoever called setup_test_environment() has imported it
    return testing is not None and hasattr(testing._TestState, "saved_data")


@functools.cache
def django_release() -> str:
    """Return Django's feature release: pickled models of one cannot be trusted to load in another."""
    return ".".join(map(str, django.VERSION[:2]))
