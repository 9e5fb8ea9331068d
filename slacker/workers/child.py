"""One local process that replays chains, from both sides: `Child` here, `main` there.

    here                                  there
    Child(setup) --- setup, as JSON --->  prepare: Django, for example
                 <-- END or what failed   ready
    ask ------------ envelope --------->  wire.serve
                 <-- frames, END -------

The process is a fresh interpreter, started as `subprocess` starts it: never a fork, which copies locks that threads
hold. `multiprocessing` would import the program's ``__main__`` again, which has to be guarded and cannot be found for
``python -`` or in a notebook, and which nothing here needs: what stands in ``__main__`` is never sent.

There the work runs in a thread. The main thread watches the channel, and when this side is gone, killed even, ends
the process, as soon as the work lets go of the GIL. Nothing of it goes over stdin or stdout, which are the work's.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from io import BufferedIOBase
from typing import Any, TypeAlias, final

from .. import wire
from ..errors import SlackerError, TransportError
from .transfer import Frames

__all__ = ["Child", "Setup", "main"]

Setup: TypeAlias = Sequence[Any] | None
"""What a process does first: [module, function, *arguments], plain data, or None for nothing.

The function returns two others: one that makes frames of an envelope, otherwise `wire.serve`, and one that is called in
the end."""

_SIZE = struct.Struct(">Q")
_HEAD = struct.Struct(">BIQ")  # kind of frame, number of the answer, size of the payload
_END = 0  # the kind that is no frame

_BOOTSTRAP = "import sys; sys.path[:], sys.argv[:] = {here!r}; from slacker.workers.child import main; main({channel})"

_MAX_TEXT = 10_000

# --- here ----------------------------------------------------------------------------------------------------------


@final
class Child:
    """A process, used by one thread; only `kill` and `forget` come from others.

    Args:
        setup: what it shall do first.

    Attributes:
        busy: whether it has work, or is being set up.

    Raises:
        SlackerError: it cannot be started. `executed` is False.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.busy = True  # until it is ready
        try:
            self._channel, theirs = socket.socketpair()
            _channels.update((self._channel, theirs))
        except OSError as error:
            raise _not_started(error) from error
        try:
            self._process = subprocess.Popen(
                [*_interpreter(), "-c", _BOOTSTRAP.format(here=_here(), channel=theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,  # not the terminal's: what comes of Ctrl-C the parent decides
            )
        except OSError as error:
            self._channel.close()
            raise _not_started(error) from error
        finally:
            theirs.close()
        self._replies = self._channel.makefile("rb")

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def get_ready(self) -> None:
        """Wait until the process has done what it does first.

        Raises:
            SlackerError: that failed; no call was handed over.
        """
        self._send(json.dumps(self.setup).encode())
        _, failure = self._receive("before it was ready; the call did not run", executed=False)
        self.busy = False
        if failure:
            *_, last_line = failure.decode().rstrip().splitlines()
            error = SlackerError(f"a process cannot be set up, this call did not run: {last_line}", executed=False)
            error.add_note(failure.decode())
            raise error

    def ask(self, envelope: bytes) -> Frames:
        """Have the process replay what `envelope` holds, and return the frames of its reply.

        Raises:
            TransportError: the process died, for what the work did or by somebody's hand.
        """
        self.busy = True
        self._send(envelope)
        frames, _ = self._receive("while it had this call; whether that was done is not known", executed=None)
        self.busy = False
        return frames

    def end(self, patience: float) -> None:
        """Let the process end, and kill it if it has not after so many seconds."""
        with contextlib.suppress(OSError):  # it is gone already
            self._channel.shutdown(socket.SHUT_RDWR)
        self._reap(patience)
        self._replies.close()
        self._channel.close()

    def kill(self) -> None:
        self._process.kill()

    def forget(self) -> None:
        """In a forked child: let go of what is the parent's."""
        _let_go(self._channel)  # not by way of the file, whose lock may be held for ever
        self._process.returncode = 0  # or there is a warning, when this is collected, that it still runs

    def _send(self, message: bytes) -> None:
        try:
            self._channel.sendall(_SIZE.pack(len(message)) + message)
        except OSError as error:
            raise self._death("before it had read this call, which did not run", executed=False) from error

    def _receive(self, when: str, *, executed: bool | None) -> tuple[Frames, bytes]:
        frames: Frames = deque()
        try:
            while True:
                kind, answer, size = _HEAD.unpack(_read(self._replies, _HEAD.size))
                payload = _read(self._replies, size)
                if kind == _END:
                    return frames, payload
                frames.append((kind, answer, payload))
        except (OSError, EOFError):
            raise self._death(when, executed=executed) from None

    def _death(self, when: str, *, executed: bool | None) -> TransportError:
        code = self._reap(1.0)
        how = f"was ended by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with exit code {code}"
        return TransportError(f"a process {how} {when}", executed=executed)

    def _reap(self, patience: float) -> int:
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


_channels: weakref.WeakSet[socket.socket] = weakref.WeakSet()
"""All ends of them that are here, also of processes that are just being started."""


def _let_go(channel: socket.socket) -> None:
    if (descriptor := channel.detach()) >= 0:
        os.close(descriptor)


def _after_fork_in_child() -> None:
    for channel in list(_channels):  # held by two, it would not tell of the end of either
        _let_go(channel)


os.register_at_fork(after_in_child=_after_fork_in_child)


def _not_started(error: OSError) -> SlackerError:
    return SlackerError(f"a process cannot be started, this call did not run: {error}", executed=False)


def _here() -> tuple[list[str], list[str]]:
    """Return path and arguments of this process: settings may well ask whether "test" is among the latter."""
    return list(map(str, sys.path)), list(map(str, getattr(sys, "argv", [])))


def _interpreter() -> list[str]:
    # -X dev, -W error and the like hold for the processes too, as they do for those of multiprocessing.
    return [sys.executable, *subprocess._args_from_interpreter_flags()]  # type: ignore[attr-defined]


def _read(file: BufferedIOBase, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


# --- there ---------------------------------------------------------------------------------------------------------


def main(descriptor: int) -> None:
    """Be the process: serve the channel that has this descriptor until the other side closes it."""
    with socket.socket(fileno=descriptor) as channel:
        channel.set_inheritable(False)
        _channels.add(channel)  # else, after a fork, nobody would notice that this one died
        work = threading.Thread(target=_work, args=[channel], name="slacker-work", daemon=True)
        work.start()
        watch = select.poll()
        watch.register(channel, 0)  # only for the end, which is always reported
        watch.poll()
        work.join(1.0)
        if work.is_alive():
            os._exit(1)


def _work(channel: socket.socket) -> None:
    try:
        with channel.makefile("rwb") as stream:
            _serve(stream)
    except (OSError, EOFError):
        pass  # the other side is gone
    finally:
        with contextlib.suppress(OSError):
            channel.shutdown(socket.SHUT_RDWR)  # which the main thread waits for


def _serve(stream: BufferedIOBase) -> None:
    setup = json.loads(_next(stream))
    try:
        serve, end = _prepare(setup)
    except BaseException:
        _reply(stream, (), traceback.format_exc()[-_MAX_TEXT:].encode(errors="replace"))
        return
    _reply(stream, ())
    try:
        while True:
            _reply(stream, serve(_next(stream)))
    finally:
        end()


def _prepare(setup: Setup) -> tuple[Callable[[bytes], Iterable[wire.Frame]], Callable[[], None]]:
    if setup is None:
        return wire.serve, lambda: None
    module, name, *arguments = setup
    prepared: tuple[Callable[[bytes], Iterable[wire.Frame]], Callable[[], None]]
    prepared = getattr(importlib.import_module(module), name)(*arguments)
    return prepared


def _next(stream: BufferedIOBase) -> bytes:
    (size,) = _SIZE.unpack(_read(stream, _SIZE.size))
    return _read(stream, size)


def _reply(stream: BufferedIOBase, frames: Iterable[wire.Frame], end: bytes = b"") -> None:
    for frame in frames:
        stream.write(_HEAD.pack(frame.kind, frame.answer, len(frame.payload)))
        stream.write(frame.payload)
    stream.write(_HEAD.pack(_END, 0, len(end)))
    stream.write(end)
    with contextlib.suppress(Exception):  # somebody's own stdout
        sys.stdout.flush()  # what the work printed, before what it returned
    stream.flush()
