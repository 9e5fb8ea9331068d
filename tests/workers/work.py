"""Work for workers to do: plain functions and classes that any of them can import."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from dataclasses import dataclass
from typing import Any, NoReturn

import slacker
from slacker import Slacker, Worker

LIVENESS = 30.0
"""Seconds that nothing here takes by far: past it something hangs."""

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="unset")


def echo(value: Any) -> Any:
    return value


def are_one(first: Any, second: list[Any], third: Any) -> bool:
    """Tell whether what is given in three places is one object."""
    return first is second[0] is third


def fail(kind: type[BaseException], *args: Any, **kwargs: Any) -> NoReturn:
    raise kind(*args, **kwargs)


def throw(error: BaseException) -> NoReturn:
    raise error


def recurse() -> Any:
    return recurse()


def get_var() -> str:
    return VAR.get()


def swap_var(value: str) -> str:
    """Set the variable and return what it was."""
    before = VAR.get()
    VAR.set(value)
    return before


def run_nested(worker: Worker, value: Any) -> Any:
    """Run a chain on `worker` from inside of work, on a loop of its own."""
    return asyncio.run(slacker.run(Slacker(echo, worker)(value)))


def with_pid(value: Any) -> tuple[int, Any]:
    return os.getpid(), value


class Shelf:
    """Something to take steps from."""

    size = 3

    def __init__(self, *titles: str) -> None:
        self.titles = titles

    def __getitem__(self, key: Any) -> Any:
        return self.titles[key]

    def find(self, title: str, *, upper: bool = False) -> str:
        found = self.titles[self.titles.index(title)]
        return found.upper() if upper else found


@dataclass(frozen=True)
class Frozen(Exception):
    """Takes no new attributes: no note, and no traceback by assignment."""

    code: int


def raise_frozen() -> None:
    raise Frozen(7)


class OutOfStock(Exception):
    """An exception that does not survive ``type(error)(*error.args)``."""

    def __init__(self, title: str, *, left: int) -> None:
        super().__init__(f"only {left} of {title!r} left")
        self.title = title
        self.left = left


class Odd(BaseException):
    """No Exception."""


class StrRaises(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class OddStrRaises(Odd):
    __str__ = StrRaises.__str__
    __repr__ = __str__


class ReduceRaises(Exception):
    def __reduce__(self) -> NoReturn:
        raise RuntimeError("no pickle")


class TakesNoNote(Exception):
    def add_note(self, note: str) -> NoReturn:
        raise AttributeError("no note")


class Payload:
    """Something that can be watched while it goes."""


class Blocker:
    """Work that tells when it has begun and ends when it is told to."""

    def __init__(self) -> None:
        self.values: list[Any] = []  # of the calls that have begun, in that order
        self._begun = threading.Semaphore(0)
        self._may_end = threading.Event()

    def wait(self, value: Any = None) -> Any:
        self.values.append(value)
        self._begun.release()
        assert self._may_end.wait(LIVENESS)
        return value

    def wait_and_fail(self, error: BaseException) -> NoReturn:
        self.wait()
        raise error

    async def begun(self, calls: int = 1) -> None:
        """Return when so many calls more have begun."""
        for _ in range(calls):
            assert await asyncio.to_thread(self._begun.acquire, timeout=LIVENESS)

    def release(self) -> None:
        self._may_end.set()
