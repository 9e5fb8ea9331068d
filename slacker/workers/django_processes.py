"""The engine of `DjangoProcessWorker`: processes that set Django up as it is set up here."""

from __future__ import annotations

from ..django_backend import environment
from ..django_backend.remote import caller_options
from ..django_backend.transactions import check_alias
from .child import Setup
from .processes import ProcessWorker

__all__ = ["Processes"]


class Processes(ProcessWorker):
    """A ProcessWorker whose processes do Django's care around each chain."""

    def setup(self) -> Setup:
        # Asked for each call: a process that began before the test databases were made must not serve a test.
        there = ["slacker.django_backend.process", "set_up"]
        return [*there, environment.settings_module(), environment.databases(), environment.in_test_run()]

    def options(self) -> str:
        return caller_options()

    def check_atomic(self, alias: str) -> None:
        check_alias(alias)

    def __repr__(self) -> str:  # by the name under which it is known to whoever gets a message
        return super().__repr__().replace(type(self).__name__, "DjangoProcessWorker")
