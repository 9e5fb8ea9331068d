"""`HttpWorker`: chains replayed by another server, through a signed hook (`slacker.hook`).

    worker      encode ---------------------------------------> what the caller gets, or what went wrong
    line        wait for a connection, perhaps with others           |
    sender      sign, and POST; once more if nothing left ----> verify, and begin to decode
    transport   keep connections, and choose one (`spread`)          |
    connection  a socket (`connecting`), a parser ------------> status and body

Each knows those below it. Another HTTP client takes the place of the last two: `Transport` is the seam.
"""

from __future__ import annotations

from .transport import Answer, HttpTransport, NotSent, Transport
from .worker import HttpWorker

__all__ = ["Answer", "HttpTransport", "HttpWorker", "NotSent", "Transport"]
