"""The far side of `DjangoProcessWorker`: what a local process does before its first chain and after its last."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import django
from django.db import connections

from .. import wire
from .remote import far_side
from .scope import close_connections

__all__ = ["set_up"]


def set_up(
    settings_module: str, databases: Mapping[str, Mapping[str, str | None]], in_test_run: bool
) -> tuple[Callable[[bytes], Iterator[wire.Frame]], Callable[[], None]]:
    """Set Django up as it is in the parent.

    Args:
        settings_module: the parent's.
        databases: of each alias, where it is in force in the parent. In a test run these are not the places of the
            settings.
        in_test_run: whether the parent has Django's test environment, in which no mail is sent for example.

    Returns:
        What makes the frames of an envelope, and what is called in the end, in the same thread.
    """
    os.environ["DJANGO_SETTINGS_MODULE"] = settings_module
    django.setup()
    for alias, place in databases.items():
        connections.settings[alias].update(place)
    if in_test_run:
        from django.test.utils import setup_test_environment  # takes its time, and is for tests only

        setup_test_environment(debug=False)  # as the test runner does, if it is not told otherwise
    connections.close_all()  # an app may have opened one when it was loaded
    return partial(wire.serve, far_side=far_side(own_thread=True)), close_connections
