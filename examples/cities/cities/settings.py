"""Django's settings: one app, one database, one hook.

Without any configuration the database is a SQLite file beside the code. The environment names another:

    CITIES_DB=/somewhere/cities.sqlite3                             another file
    CITIES_DATABASE_URL=postgresql://user:password@host:5432/name   PostgreSQL
    CITIES_DATABASE_URL=postgresql://user@/name?host=/run/postgres  PostgreSQL, by the socket in that directory

It names also the hook, for both of its sides. ``serve.py`` does this for the one that it starts:

    SLACKER_KEY=...                                                 64 random hexadecimal digits
    SLACKER_SERVER=http://127.0.0.1:8000                            where ``manage.py runslacker`` listens
"""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

INSTALLED_APPS = ["cities", "slacker.django_backend"]
USE_TZ = True


def database(environ: Mapping[str, str]) -> dict[str, object]:
    """Return Django's description of the database that `environ` asks for."""
    if url := environ.get("CITIES_DATABASE_URL"):
        return postgresql(url)
    default = Path(__file__).parent.parent / "var" / "cities.sqlite3"
    path = Path(environ.get("CITIES_DB") or default).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}


def postgresql(url: str) -> dict[str, object]:
    """Return Django's description of the database at `url`; what follows its ``?``, but ``host``, goes to psycopg.

    Raises:
        ImproperlyConfigured: it is no such URL. The message does not repeat it: it may hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        name = unquote(parts.path.removeprefix("/"))
        if parts.scheme not in ("postgresql", "postgres") or not name:
            raise ValueError
    except ValueError:
        message = "CITIES_DATABASE_URL must look like postgresql://user:password@host:port/name"
        raise ImproperlyConfigured(message) from None
    options = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": options.pop("host", "") or unquote(parts.hostname or ""),
        "PORT": str(port or ""),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "NAME": name,
        "OPTIONS": options,
    }


DATABASES = {"default": database(os.environ)}
SLACKER_KEY = os.environ.get("SLACKER_KEY")
SLACKER_SERVER = os.environ.get("SLACKER_SERVER")
