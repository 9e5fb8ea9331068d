"""The workers: where a chain is replayed. Those that need another package are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .base import Worker
from .local import DummyWorker, ThreadWorker

if TYPE_CHECKING:
    from .dask import DaskWorker as DaskWorker
    from .django import DjangoHttpWorker as DjangoHttpWorker
    from .django import DjangoProcessWorker as DjangoProcessWorker
    from .django import DjangoThreadWorker as DjangoThreadWorker
    from .django import DjangoWorker as DjangoWorker
    from .executor import ExecutorWorker as ExecutorWorker
    from .http import HttpWorker as HttpWorker
    from .processes import ProcessWorker as ProcessWorker

__all__ = ["DummyWorker", "ThreadWorker", "Worker"]

_LAZY = {
    "DaskWorker": ".dask",
    "DjangoHttpWorker": ".django",
    "DjangoProcessWorker": ".django",
    "DjangoThreadWorker": ".django",
    "DjangoWorker": ".django",
    "ExecutorWorker": ".executor",
    "HttpWorker": ".http",
    "ProcessWorker": ".processes",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
