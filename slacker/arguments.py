"""Counts and seconds, checked by one rule and with one message, be they arguments or settings."""

from __future__ import annotations

import threading

__all__ = ["check_count", "checked_timeout"]


def check_count(name: str, value: object, least: int) -> None:
    """Raise TypeError or ValueError unless `value` is a whole number and at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def checked_timeout(timeout: object, name: str = "timeout") -> float:
    """Return `timeout` as seconds; raise TypeError or ValueError unless it is a number above 0 that timers can take."""
    if not isinstance(timeout, int | float) or isinstance(timeout, bool):
        raise TypeError(f"{name} must be a number of seconds, got {timeout!r}")
    if not timeout > 0:
        raise ValueError(f"{name} must be a number of seconds above 0, got {timeout!r}")
    if timeout > threading.TIMEOUT_MAX:
        raise ValueError(f"{name} must be at most {threading.TIMEOUT_MAX:.0f} seconds, got {timeout!r}")
    return float(timeout)
