"""What is called, by every peer in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.auth import get_user_model

__all__ = ["add_one", "all_users", "get_user", "get_users"]


def add_one(number: int) -> int:
    """Do next to nothing."""
    return number + 1


def get_user(pk: int) -> Any:
    """Return a row as an instance of its model."""
    return get_user_model().objects.get(pk=pk)


def get_users(count: int) -> list[Any]:
    """Return the first rows as instances of their model."""
    return list(get_user_model().objects.order_by("pk")[:count])


def all_users(times: int) -> Iterator[Any]:
    """Yield all rows as instances of their model, so many times, reading them as they are asked for."""
    for _ in range(times):
        yield from get_user_model().objects.order_by("pk").iterator()
