"""Work for workers to do: plain functions and classes that any of them can import."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import slacker
import slacker.wire
from slacker import Slacker, Worker
from tests.waiting import LIVENESS, until

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


def nap(seconds: float) -> None:
    time.sleep(seconds)


def append(file: str, text: str) -> None:
    with Path(file).open("a") as opened:
        opened.write(text)


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


# --- for processes -----------------------------------------------------------------------------------------------

DOOMS: dict[str, Callable[[], Any]] = {
    "ValueError": lambda: fail(ValueError, "boom"),
    "sys.exit": lambda: sys.exit(3),
    "os._exit": lambda: os._exit(3),
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
}
"""What may become of work, or of the process that it runs in."""


def meet(doom: str) -> Any:
    return DOOMS[doom]()


class DoomOnLoad:
    """Meets its doom where it is unpickled."""

    def __init__(self, doom: str) -> None:
        self.doom = doom

    def __reduce__(self) -> Any:
        return meet, (self.doom,)


class DoomOnDump(DoomOnLoad):
    """Meets its doom where it is pickled."""

    def __reduce__(self) -> Any:
        return meet(self.doom)


def hold(directory: str, name: str) -> str:
    """Write the process's number into the file `name`, and return when there is a file "go"."""
    Path(directory, name + "~").write_text(str(os.getpid()))
    Path(directory, name + "~").rename(Path(directory, name))
    until(Path(directory, "go").exists)
    return name


def run_in_a_process(value: Any) -> Any:
    """Run a chain on a ProcessWorker of its own from inside of work."""

    async def main() -> Any:
        from slacker.workers import ProcessWorker

        async with ProcessWorker(1) as worker:
            return await Slacker(with_pid, worker)(value)

    return asyncio.run(main())


def fork_twice() -> int:
    """Make a child process that makes another, and return how it ended."""
    if (child := os.fork()) == 0:
        if (grandchild := os.fork()) == 0:
            os._exit(0)
        os._exit(os.waitpid(grandchild, 0)[1])
    return os.waitpid(child, 0)[1]


def read_input() -> str:
    return sys.stdin.read()


def leave_a_child_and_die(directory: str) -> None:
    """Fork a process that outlives this one, and kill this one."""
    if not os.fork():
        hold(directory, "child")
        os._exit(0)
    until(Path(directory, "child").exists)
    os.kill(os.getpid(), signal.SIGKILL)


def set_up(directory: str, name: str, fails: bool) -> Any:
    """What a process does first: wait, as `hold` does, and then perhaps fail."""
    hold(directory, name)
    if fails:
        raise LookupError("nothing to set up")
    return slacker.wire.serve, lambda: Path(directory, "ended").touch()


# --- streams -----------------------------------------------------------------------------------------------------


class Source:
    """Items that are made one by one, in this process, and what is known of that.

    Attributes:
        begun: set when the first one is to be made.
        made: how many were made so far.
        ended: set when no more will be made, and whatever made them was left.
        gate: where the item that has this number waits until the test opens it.
    """

    def __init__(self) -> None:
        self.number = id(self)
        self.made = 0
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.gate: int | None = None
        self.opened = threading.Event()

    def recipe(self, worker: Worker | None, count: int, size: int = 0) -> Any:
        """Return the recipe for a generator of `count` numbers; with a size, of so many bytes instead."""
        return Slacker(items_of, worker)(self.number, count, size)

    async def has_ended(self) -> None:
        assert await asyncio.to_thread(self.ended.wait, LIVENESS)  # liveness bound


sources: dict[int, Source] = {}


def items_of(source: int, count: int, size: int) -> Iterator[Any]:
    made_by = sources[source]
    made_by.begun.set()
    try:
        for number in range(count):
            if made_by.gate == number:
                assert made_by.opened.wait(LIVENESS)  # liveness bound
            made_by.made += 1
            yield b"%0*d" % (size, number) if size else number
    finally:
        made_by.ended.set()


def fail_after(count: int) -> Iterator[int]:
    yield from range(count)
    raise ValueError(f"no more than {count}")


def with_a_lock_at(number: int) -> Iterator[Any]:
    yield from range(number)
    yield threading.Lock()
