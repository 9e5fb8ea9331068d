"""The project's settings under another name."""

from .settings import *  # noqa: F403 (all of them)
