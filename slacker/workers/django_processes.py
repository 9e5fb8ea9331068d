"""The engine of `DjangoProcessWorker`: processes that set Django up as it is set up here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..django_backend import conf
from ..django_backend.remote import caller_options
from .child import Setup
from .processes import ProcessWorker

__all__ = ["Processes"]


class Processes(ProcessWorker):
    """A ProcessWorker whose processes do Django's care around each chain."""

    def setup(self) -> Setup:
        # Asked for each call: a process that began before the test databases were made must not serve a test.
        there = ["slacker.django_backend.process", "set_up"]
        return [*there, conf.settings_module(), conf.database_names(), conf.in_test_run()]

    def options(self) -> Mapping[str, Any]:
        return caller_options()
