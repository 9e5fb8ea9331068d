"""Outages: the database or the query server cannot answer for a moment, through no fault of the request or the code."""

import logging

from django.db import DatabaseError, InterfaceError

from slacker import DeadlineExceeded, QueueFull, TransportError, WorkerClosed


def explain(error: BaseException | None) -> str:
    """Return what to tell people about `error`, or nothing if it is no outage."""
    match error:
        case DatabaseError() | InterfaceError():
            return "The database cannot answer now. Please try again in a moment."
        case TransportError() | DeadlineExceeded() | QueueFull() | WorkerClosed():
            return "The query server cannot answer now. Please try again in a moment."
    return ""


def shorten(record: logging.LogRecord) -> bool:
    """As a filter of log records, make one line of what is logged of an outage: there may be many, and all alike."""
    error = record.exc_info[1] if record.exc_info else None
    if explain(error):
        first_lines = [str(text).partition("\n")[0] for text in (record.getMessage(), error)]
        record.msg, record.args = "%s: %s: %s", (first_lines[0], type(error).__name__, first_lines[1])
        record.exc_info = record.exc_text = None
    return True
