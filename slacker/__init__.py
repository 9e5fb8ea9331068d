"""Take blocking work, above all Django's ORM, off a Tornado or asyncio event loop.

    AsyncUser = Slacker(User, DjangoThreadWorker())
    users = await AsyncUser.objects.filter(is_staff=True)[:5]

Another distribution, a client of the Slack service, installs a package of the same name: only one can be installed.
"""

from __future__ import annotations

from . import adisp
from .errors import (
    DeadlineExceeded,
    ProtocolError,
    QueueFull,
    Refused,
    RemoteError,
    SlackerError,
    SlackerException,
    TransportError,
    WorkerClosed,
)
from .functions import attr, batch, options, run, stream
from .proxy import Slacker
from .recipe import chain_of
from .workers.base import Worker

__all__ = [
    "DeadlineExceeded",
    "ProtocolError",
    "QueueFull",
    "Refused",
    "RemoteError",
    "Slacker",
    "SlackerError",
    "SlackerException",
    "TransportError",
    "Worker",
    "WorkerClosed",
    "adisp",
    "attr",
    "batch",
    "chain_of",
    "options",
    "run",
    "stream",
]

__version__ = "1.0.0.dev0"
