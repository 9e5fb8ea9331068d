"""What ``manage.py check`` says of the settings."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from django.apps import apps
from django.core import checks
from django.test import override_settings

from slacker.django_backend import environment
from slacker.django_backend.checks import check_hook

from .helpers import django

KEY = hashlib.sha256(b"a key of tests").hexdigest()  # the same in each process, as it names tests


def found(**settings: Any) -> list[str]:
    """Return the numbers of what is found with `settings`."""
    with override_settings(**settings):
        return [message.id for message in check_hook()]


RIGHT: list[dict[str, Any]] = [
    {},
    {"SLACKER_KEY": KEY, "SLACKER_KEY_FALLBACKS": [b"0123456789" * 4]},
    {"SLACKER_KEY": None, "DEBUG": True},
    {"SLACKER_KEY": None, "ROOT_URLCONF": "django.contrib.auth.urls"},
    {"SLACKER_KEY": None, "ROOT_URLCONF": None},
    {"SLACKER_SERVER": "https://hook.example.com", "ALLOWED_HOSTS": ["hook.example.com"], "SECURE_SSL_REDIRECT": True},
    {"SLACKER_SERVER": "http://[::1]:8000", "ALLOWED_HOSTS": ["[::1]"]},
    {"SLACKER_SERVER": "localhost:8000", "ALLOWED_HOSTS": [], "DEBUG": True},
    {"SLACKER_SERVER": "http://10.1.2.3", "ALLOWED_HOSTS": ["*"]},
    {"SLACKER_SERVER": "http://10.1.2.3", "SECURE_SSL_REDIRECT": True, "ROOT_URLCONF": None},
    {"SECURE_SSL_REDIRECT": True, "SECURE_REDIRECT_EXEMPT": ["^slacker/"]},
    {"SLACKER_WORKER": "slacker.django_backend.testing.InlineWorker"},
    {"SLACKER_WORKER": None},
    {"SLACKER_ALLOWED_CLIENTS": ["10.0.0.0/8", "::1", ""], "SLACKER_TIMEOUT": 5, "SLACKER_MAX_REQUEST": 1 << 30},
]

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("slacker.E001", {"SLACKER_KEY": "short"}),
    ("slacker.E001", {"SLACKER_KEY": ""}),
    ("slacker.E001", {"SLACKER_KEY": "x" * 32}),
    ("slacker.E001", {"SLACKER_KEY": f"django-insecure-{KEY}", "DEBUG": True}),
    ("slacker.E001", {"SLACKER_KEY": KEY, "SLACKER_KEY_FALLBACKS": ["short"]}),
    ("slacker.E002", {"SLACKER_KEY": None}),
    ("slacker.E003", {"SLACKER_SERVER": "ftp://127.0.0.1"}),
    ("slacker.E003", {"SLACKER_SERVER": "http://127.0.0.1:port", "ROOT_URLCONF": None}),
    ("slacker.E004", {"SLACKER_ALLOWED_CLIENTS": "10.0.0.0/8"}),
    ("slacker.E004", {"SLACKER_ALLOWED_CLIENTS": ["10.0.0.0/99"]}),
    ("slacker.E004", {"SLACKER_TIMEOUT": 0}),
    ("slacker.E004", {"SLACKER_STATEMENT_TIMEOUT": 5}),
    ("slacker.E004", {"SLACKER_MAX_REQUEST": "16 MiB"}),
    ("slacker.E005", {"SLACKER_WORKER": "no.such.module"}),
    ("slacker.E005", {"SLACKER_WORKER": "undotted"}),
    ("slacker.E005", {"SLACKER_WORKER": "slacker.workers.NoSuchWorker"}),
    ("slacker.E005", {"SLACKER_WORKER": 5, "ROOT_URLCONF": None}),
    ("slacker.W001", {"SLACKER_SERVER": "http://10.1.2.3"}),
    ("slacker.W001", {"SLACKER_SERVER": "http://[::1]:8000"}),
    ("slacker.W001", {"ALLOWED_HOSTS": []}),
    ("slacker.W002", {"SECURE_SSL_REDIRECT": True}),
    ("slacker.W002", {"SECURE_SSL_REDIRECT": True, "SECURE_REDIRECT_EXEMPT": ["^elsewhere/"]}),
]


@pytest.mark.parametrize("settings", RIGHT, ids=str)
def test_nothing_is_said_of_what_is_right(settings: dict[str, Any]) -> None:
    """Settings with which calls pass are passed over in silence."""
    assert found(**settings) == []


@pytest.mark.parametrize(("number", "settings"), WRONG, ids=str)
def test_what_is_wrong_is_said(number: str, settings: dict[str, Any]) -> None:
    """Each cause has its number."""
    assert [number] == found(**settings)


@pytest.mark.parametrize(
    "settings", [{"SLACKER_KEY": None}, {"ALLOWED_HOSTS": []}, {"SECURE_SSL_REDIRECT": True}], ids=str
)
def test_tests_run_without_what_debug_stands_in_for(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The test runner switches DEBUG off and looks at the checks: it is not stopped by what DEBUG makes right."""
    monkeypatch.setattr(environment, "in_test_run", lambda: True)
    assert found(**settings) == []
    assert found(SLACKER_KEY="short") == ["slacker.E001"]


def test_all_that_is_unusable_is_said_at_once() -> None:
    """Nobody has to run the check again and again to hear of one after another."""
    unusable = {"SLACKER_KEY": "", "SLACKER_SERVER": "ftp://", "SLACKER_TIMEOUT": 0, "SLACKER_MAX_REQUEST": 0}
    assert found(**unusable) == ["slacker.E001", "slacker.E003", "slacker.E004", "slacker.E004"]


@pytest.mark.parametrize("settings", [{"SLACKER_KEY": ""}, {"SLACKER_KEY": None}], ids=str)
def test_a_key_can_be_made_as_the_check_says(settings: dict[str, Any]) -> None:
    """What is said of a key says how to make one."""
    with override_settings(**settings):
        assert ["secrets.token_hex(32)" in (message.hint or "") for message in check_hook()] == [True]


def test_the_app_registers_the_check() -> None:
    """In INSTALLED_APPS the app is called "slacker", and its checks are run with those of security."""
    assert apps.get_app_config("slacker").name == "slacker.django_backend"
    with override_settings(SLACKER_KEY=""):
        assert "slacker.E001" in [message.id for message in checks.run_checks(tags=[checks.Tags.security])]


def test_an_empty_project_is_right() -> None:
    """In a project that has nothing but the app ``manage.py check`` has nothing to say."""
    empty = {"INSTALLED_APPS": ["slacker.django_backend"], "MIDDLEWARE": [], "ROOT_URLCONF": None, "SLACKER_KEY": None}
    assert django("check", database={}, **empty) == (0, "System check identified no issues (0 silenced).\n")


def test_an_error_stops_a_server() -> None:
    """With an unusable key no server starts."""
    code, output = django("runslacker", database={}, SLACKER_KEY="short")
    assert code == 1
    assert "slacker.E001" in output
