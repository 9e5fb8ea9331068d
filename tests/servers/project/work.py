"""What the tests have servers do."""

from __future__ import annotations

import contextvars
import datetime as dt
import decimal
import importlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.db import connection, transaction
from django.utils import timezone, translation


def refill() -> None:
    """Leave in the database: Ann with "Ashes" and "Bread" (600 pages), Bob with "Clouds"."""
    from .models import Author, Book

    with transaction.atomic():
        Author.objects.all().delete()
        ann, bob = Author.objects.create(name="Ann"), Author.objects.create(name="Bob")
        Book.objects.create(author=ann, title="Ashes")
        Book.objects.create(author=ann, title="Bread", pages=600)
        Book.objects.create(author=bob, title="Clouds")


def echo(value: Any) -> Any:
    return value


def size(value: Any) -> int:
    return len(value)


def create_and_fail(name: str) -> None:
    from .models import Author

    Author.objects.create(name=name)
    raise ValueError("after it was created")


def count_authors() -> int:
    from .models import Author

    return Author.objects.count()


def session() -> int:
    """Return the id of PostgreSQL's process for this thread's connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def atomic_blocks() -> int:
    return len(connection.atomic_blocks)


def surroundings() -> tuple[str | None, str]:
    return translation.get_language(), str(timezone.get_current_timezone())


VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="unset")


def leave_traces() -> None:
    """Change what belongs to the context, and fill what servers write their logs to."""
    VAR.set("left behind")
    decimal.getcontext().prec = 3
    translation.activate("fr")
    timezone.activate(dt.UTC)
    print("to stdout " * 10_000)
    print("to stderr " * 10_000, file=sys.stderr)


def traces() -> tuple[object, ...]:
    return VAR.get(), decimal.getcontext().prec, *surroundings()


def process() -> int:
    return os.getpid()


def was_spawned() -> bool:
    return "--multiprocessing-fork" in sys.orig_argv  # as `multiprocessing` calls it, whatever the name suggests


def version() -> Any:
    """Return what stands in a module of the test's."""
    return importlib.import_module("changing").version


def kill_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(begun: str, may_end: str) -> str:
    """Create the file `begun`, and return when `may_end` exists."""
    Path(begun).touch()
    while not Path(may_end).exists():
        time.sleep(0.01)
    return "ended"


def endless(size: int) -> Iterator[bytes]:
    """Query once, and yield that many bytes again and again."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    while True:
        yield bytes(size)


def fill(count: int) -> None:
    """Leave that many books of one author in the database."""
    from .models import Author, Book

    with transaction.atomic():
        Author.objects.all().delete()
        ann = Author.objects.create(name="Ann")
        Book.objects.bulk_create([Book(author=ann, title=f"{n:050}") for n in range(count)], batch_size=1000)


def peak() -> int:
    """Return the most bytes of memory that this process ever had."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) << 10
