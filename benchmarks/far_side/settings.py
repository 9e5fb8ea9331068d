"""Settings of the project. What must not be the same twice comes from the environment, which `processes` makes."""

import os

ALLOWED_HOSTS = ["127.0.0.1"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["BENCHMARKS_DATABASE"],
        "CONN_MAX_AGE": None,  # or the view of the 2011 way would connect anew for each call
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "slacker.django_backend"]
MIDDLEWARE: list[str] = []  # which favours the 2011 way: only its view would pass through them
MIGRATION_MODULES = {"auth": None, "contenttypes": None}  # tables straight from the models
ROOT_URLCONF = "benchmarks.far_side.pickled"
SECRET_KEY = os.environ["BENCHMARKS_SECRET"]
USE_TZ = True
