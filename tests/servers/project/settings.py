"""Settings of the project that servers and test runs here use. What differs between them comes from the environment:

SLACKER_TEST_DATABASE    the entry of DATABASES, as JSON
SLACKER_TEST_SETTINGS    further settings, as JSON
"""

import json
import os

ALLOWED_HOSTS = ["127.0.0.1"]
DATABASES = {"default": json.loads(os.environ.get("SLACKER_TEST_DATABASE", "{}"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "slacker.django_backend",
    "tests.servers.project",
]
LANGUAGE_CODE = "en"
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
MIGRATION_MODULES = {"auth": None, "contenttypes": None, "sessions": None}  # tables straight from the models
ROOT_URLCONF = "tests.servers.project.urls"
SECRET_KEY = "signs the cookies of the project of these tests, and is long enough"
SLACKER_KEY = "the key that both sides of these tests share, and nobody else has"
TIME_ZONE = "UTC"
USE_TZ = True

globals().update(json.loads(os.environ.get("SLACKER_TEST_SETTINGS", "{}")))
