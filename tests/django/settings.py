"""Settings of the Django project that tests use.

The database is a SQLite file that goes when the process ends, or what the environment variable SLACKER_TEST_DATABASE
says: an entry of DATABASES, as JSON.
"""

import atexit
import json
import os
import shutil
import tempfile
from pathlib import Path


def _sqlite_file():
    directory = tempfile.mkdtemp(prefix="slacker-django-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(directory, "tests.sqlite3"))}


DATABASES = {"default": json.loads(os.environ.get("SLACKER_TEST_DATABASE", "null")) or _sqlite_file()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "tests.django.app", "tests.django.shapes"]
MIGRATION_MODULES = {"auth": None, "contenttypes": None}  # tables straight from the models
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the others take their time on purpose
ROOT_URLCONF = "tests.django.app.urls"
SECRET_KEY = "for tests"
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
