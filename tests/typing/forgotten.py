# mypy: enable-error-code="unused-awaitable"
"""An await that was forgotten, as the README advises to have it found: by this error code. Checked, never run."""

from __future__ import annotations

from slacker import Slacker
from slacker.workers import ThreadWorker

AsyncUser = Slacker(dict, ThreadWorker())


async def forgets() -> None:
    AsyncUser.objects.create(name="Anna")  # type: ignore[unused-awaitable]
    AsyncUser.objects.count().fetch()  # type: ignore[unused-awaitable]
    await AsyncUser.objects.create(name="Anna")
