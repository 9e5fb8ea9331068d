"""The app, which adds system checks and ``manage.py runslacker``. The URL include works without it."""

from django.apps import AppConfig
from django.core import checks

from .checks import check_hook


class SlackerConfig(AppConfig):
    """Registers the checks."""

    name = "slacker.django_backend"
    label = "slacker"
    verbose_name = "tornado-slacker"

    def ready(self) -> None:
        checks.register(check_hook, checks.Tags.security)
