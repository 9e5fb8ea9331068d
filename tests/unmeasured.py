"""An environment for processes that coverage does not measure.

Measuring takes about a third of the time of a process, and all of slacker that runs in these runs elsewhere as well.
"""

from __future__ import annotations

import os

__all__ = ["unmeasured"]


def unmeasured() -> dict[str, str]:
    """Return this process's environment without the variables that make a Python process measure itself."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
