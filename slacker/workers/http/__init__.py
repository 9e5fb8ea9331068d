"""`HttpWorker`: chains replayed by another server, through a signed hook (`slacker.hook`).

    worker      encode -------------------------------------------> the outcome, or what went wrong
    line        wait for a connection, perhaps to share a request        |
    sender      sign, and POST; once more if nothing left --------> verify, and begin to decode
    transport   a connection that is kept (`spread`), or a new one       |
    connection  a socket (`connecting`) --------------------------> status and body (`response`)

`streams` takes the sender's place for a call whose result comes in chunks. A `call` is what worker, line and sender
hand on; an `endpoint` is where it goes, and how it is signed. Each knows those below it. Another HTTP client takes the
place of the last two: `Transport` is the seam.
"""

from __future__ import annotations

from .transport import Answer, Arriving, HttpTransport, NotSent, StreamingTransport, Transport
from .worker import HttpWorker

__all__ = ["Answer", "Arriving", "HttpTransport", "HttpWorker", "NotSent", "StreamingTransport", "Transport"]
