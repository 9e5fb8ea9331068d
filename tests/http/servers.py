"""Servers for tests: a hook on real sockets, a server before it that misbehaves on demand, real servers beside us.

    HttpServer      a WSGI application in threads of this process; counts connections and requests
    Faulty          relays to such a server, but each new connection first gets the next fault of a script
    served_by       gunicorn or granian, in processes of their own, serving `application`

The functions at the end are the work that tests send to them.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from slacker import wire, wsgi
from slacker.hook import Config, Hook
from slacker.signing import Keyring
from tests.waiting import LIVENESS, until

ROOT = Path(__file__).parents[2]
KEY = "the key that both sides of the tests share, and that no log may show"
AUDIENCE = "tests"


def make_hook(
    key: str | Iterable[str] = KEY,
    perform: wire.Perform | None = None,
    now: Callable[[], int] | None = None,
    **config: Any,
) -> Hook:
    """Return a hook.

    Args:
        key, config: what its `Config` holds.
        perform, now: as for `Hook`.
    """
    keyring = Keyring(key)
    return Hook(lambda: Config(keyring, AUDIENCE, **config), wire.FarSide(perform) if perform else wire.PLAIN, now=now)


application = wsgi.application(make_hook(max_request=64 << 20))
"""What the servers in processes of their own serve."""


# --- a WSGI application in threads ---------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 with connections kept open; a body without Content-Length goes out in chunks."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    disable_nagle_algorithm = True
    server: HttpServer

    def setup(self) -> None:
        super().setup()
        self.server.connections.append(self.connection)

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the client is gone
            super().handle()

    def do_POST(self) -> None:
        with self.server.counting():
            environ: dict[str, Any] = {
                "REQUEST_METHOD": self.command,
                "QUERY_STRING": self.path.partition("?")[2],
                "CONTENT_TYPE": self.headers.get("content-type", ""),
                "CONTENT_LENGTH": self.headers.get("content-length", ""),
                "REMOTE_ADDR": self.client_address[0],
                "wsgi.input": self.rfile,
            }
            for name in self.headers:
                environ["HTTP_" + name.upper().replace("-", "_")] = ",".join(self.headers.get_all(name, ()))
            body = self.server.application(environ, self.start_response)
            for part in body:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if self.chunked else part)
                self.wfile.flush()
            if self.chunked:
                self.wfile.write(b"0\r\n\r\n")

    def start_response(self, status: str, headers: list[tuple[str, str]]) -> None:
        code, _, reason = status.partition(" ")
        self.close_connection |= code != "200"  # what was refused was not read, and would be taken for a request
        self.chunked = "content-length" not in {name.lower() for name, _ in headers}
        self.send_response(int(code), reason)
        for name, value in headers:
            self.send_header(name, value)
        if self.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Log nothing."""


class HttpServer(socketserver.ThreadingTCPServer):
    """Serves a WSGI application on a free port of 127.0.0.1 until the ``with`` block ends.

    Attributes:
        connections: all that were accepted, closed ones too.
        requests: how many came.
        most_busy: how many were served at once, at most.
    """

    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(self, application: Any = None, host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), _Handler)
        self.application = application or wsgi.application(make_hook(max_request=64 << 20))
        self.connections: list[socket.socket] = []
        self.requests = self.busy = self.most_busy = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), name="http-server")

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        with self._lock:
            self.requests += 1
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        try:
            yield
        finally:
            with self._lock:
                self.busy -= 1

    def hang_up(self) -> None:
        """Close all connections from this side, as a server does with idle ones."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> HttpServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self._thread.join()
        self.hang_up()
        self.server_close()

    def handle_error(self, *args: Any) -> None:
        """Be quiet about clients that went away."""


# --- faults --------------------------------------------------------------------------------------------------------


class Connection:
    """One connection from a client, in the hands of a fault.

    Attributes:
        waits: set when the fault does nothing more but wait for the client.
    """

    def __init__(self, client: socket.socket, upstream: int, waits: threading.Event) -> None:
        self.client = client
        self.upstream = upstream
        self.waits = waits

    def read_request(self) -> bytes:
        """Read one request, whole."""
        return _read_message(self.client)

    def ask(self, request: bytes) -> bytes:
        """Send `request` to the hook behind, and return its reply, whole."""
        with socket.create_connection(("127.0.0.1", self.upstream), LIVENESS) as upstream:
            upstream.sendall(request)
            return _read_message(upstream)

    def send(self, data: bytes) -> None:
        self.client.sendall(data)

    def answer(self, reply: bytes) -> None:
        """Send `reply` as the last on this connection: without the header a client might take it for the next call."""
        self.send(reply.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))

    def close(self) -> None:
        self.client.close()

    def reset(self) -> None:
        """Close with an RST."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()

    def encrypt(self, context: ssl.SSLContext) -> None:
        self.client = context.wrap_socket(self.client, server_side=True)

    def wait(self) -> None:
        """Wait until the client closes, or for the end of the test."""
        self.waits.set()
        with contextlib.suppress(OSError):
            while self.client.recv(65536):
                pass

    def relay(self, *, half_close: bool = False) -> None:
        """Carry bytes both ways until one side closes; `half_close`: end the client's side after its request."""
        with socket.create_connection(("127.0.0.1", self.upstream), LIVENESS) as upstream:
            if half_close:
                upstream.sendall(self.read_request())
                upstream.shutdown(socket.SHUT_WR)
                self.answer(_read_message(upstream))
                return
            while True:
                for ready in select.select([self.client, upstream], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    (upstream if ready is self.client else self.client).sendall(data)


def _read_message(source: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(source)
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    while len(body) < int(length[1]) if length else not body.endswith(b"0\r\n\r\n"):
        body += _received(source)
    return head + b"\r\n\r\n" + body


def _received(source: socket.socket) -> bytes:
    data = source.recv(65536)
    if not data:
        raise ConnectionError("closed in the middle of a message")
    return data


Fault = Callable[[Connection], None]


class Faulty:
    """Relays to the server at port `upstream`; each connection first gets the next fault of `script`, if there is one.

    Attributes:
        accepted: how many connections came.
        waits: set when a connection's fault waits for the client.
    """

    def __init__(self, upstream: int, host: str = "127.0.0.1") -> None:
        self.script: deque[Fault] = deque()
        self.accepted = 0
        self.waits = threading.Event()
        self.host = host
        self._upstream = upstream
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._listen()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/"

    def close_door(self) -> None:
        """Refuse connections from now on."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()

    def open_door(self) -> None:
        """Accept connections again, on the same port."""
        self._listener = socket.create_server((self.host, self.port), backlog=1024)
        self._listen()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the door is closed already
            self.close_door()
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for connection in self._sockets:
            connection.close()

    def _listen(self) -> None:
        thread = threading.Thread(target=self._accept, args=(self._listener,), name="faulty")
        self._threads.insert(0, thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            self._sockets.append(client)
            fault = self.script.popleft() if self.script else Connection.relay
            thread = threading.Thread(target=self._run, args=(fault, client), name="faulty-connection")
            self._threads.append(thread)
            thread.start()

    def _run(self, fault: Fault, client: socket.socket) -> None:
        connection = Connection(client, self._upstream, self.waits)
        with contextlib.closing(connection), contextlib.suppress(OSError, ValueError):  # client gone, or test over
            fault(connection)


# --- real servers --------------------------------------------------------------------------------------------------


class Served:
    """A server in processes of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}/"

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def workers(self) -> list[int]:
        """Return the ids of the server's child processes."""
        return children(self.process.pid)


def children(pid: int) -> list[int]:
    """Return the ids of the child processes of `pid`."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # the thread ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


def count_connections(port: int) -> int:
    """Return how many connections of this machine to its own `port` are held open by the client."""
    # 01 is established; 08 is close-wait, the server's end being closed.
    return sum(remote.endswith(f":{port:04X}") and state in ("01", "08") for _, remote, state, _ in _sockets())


def is_connecting(port: int) -> bool:
    """Tell whether somebody on this machine waits for a connection to its own `port` to stand."""
    return any(remote.endswith(f":{port:04X}") and state == "02" for _, remote, state, _ in _sockets())  # SYN sent


def listens(pid: int, port: int) -> bool:
    """Tell whether process `pid` holds the socket that listens on `port`."""
    here = f":{port:04X}"
    listening = {f"socket:[{inode}]" for local, _, state, inode in _sockets() if local.endswith(here) and state == "0A"}
    with contextlib.suppress(FileNotFoundError):  # it ended, or closed one meanwhile
        return any(str(link.readlink()) in listening for link in Path(f"/proc/{pid}/fd").iterdir())
    return False


def _sockets() -> Iterator[tuple[str, str, str, str]]:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, _, _, _, _, _, inode = line.split()[:10]
        yield local, remote, state, inode


GUNICORN = ("gunicorn", "--worker-tmp-dir", "/dev/shm", "--no-control-socket", "tests.http.servers:application")
GRANIAN = ("granian", "--interface", "wsgi", "--no-ws", "--respawn-failed-workers", "tests.http.servers:application")


@contextlib.contextmanager
def served_by(*command: str) -> Iterator[Served]:
    """Run `GUNICORN` or `GRANIAN` with more options, on a free port, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = ("--bind", f"127.0.0.1:{port}") if command[0] == "gunicorn" else ("--port", str(port))
    process = subprocess.Popen(
        [sys.executable, "-m", *command, *address, "--log-level", "critical"],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: accepts(port) or process.poll() is not None)
        assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
        yield Served(process, port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


# --- work ----------------------------------------------------------------------------------------------------------


def echo(value: Any) -> Any:
    return value


def throw(error: BaseException) -> None:
    raise error


def length(value: Any) -> int:
    return len(value)


def numbers(count: int) -> list[int]:
    return list(range(count))


def blobs(count: int, size: int) -> list[bytes]:
    """Return that many bytes objects, of which no two are one."""
    return [b"%0*d" % (size, number) for number in range(count)]


def memory(field: str) -> int:
    """Return a figure of this process in bytes: VmRSS is what it has, VmHWM the most that it ever had."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) << 10 if found else 0


def count(path: str, token: str) -> int:
    """Note in the file at `path` that the call `token` ran here; return the id of this process."""
    with Path(path).open("ab", buffering=0) as file:  # appended at once, so that processes may share it
        file.write(f"{token}\n".encode())
    return os.getpid()


def count_large(path: str, token: str, blob: bytes) -> int:
    count(path, token)
    return len(blob)


class Gate:
    """Where work in this process waits until the test opens it."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.arrived: list[str] = []

    def open(self) -> None:
        self.opened.set()


gates: dict[str, Gate] = {}


def pass_gate(path: str, token: str, name: str) -> str:
    count(path, token)
    gate = gates[name]
    gate.arrived.append(token)
    assert gate.opened.wait(LIVENESS)  # liveness bound
    return token


def count_and_wait(path: str, token: str, file: str) -> int:
    """Count, and go on when `file` exists."""
    pid = count(path, token)
    until(Path(file).exists)
    return pid


def wait_and_tell(path: str, token: str, file: str, done: str) -> None:
    """Count, wait for `file`, and make `done`."""
    count_and_wait(path, token, file)
    Path(done).touch()


def count_and_die(path: str, token: str, file: str) -> None:
    """Count, write the id of this process into `file`, and kill it."""
    Path(file).write_text(str(count(path, token)))
    os.kill(os.getpid(), signal.SIGKILL)


def call_back(path: str, token: str, url: str, timeout: float) -> str:
    """Call the hook at `url` from inside of a call to it; return the name of what that raised."""
    import asyncio

    from slacker import Slacker, run
    from slacker.workers import HttpWorker

    async def call() -> str:
        async with HttpWorker(url, key=KEY, audience=AUDIENCE, timeout=timeout) as worker:
            try:
                await run(Slacker(count, worker)(path, f"{token}-inner"))
            except Exception as error:
                return type(error).__name__
            return "answered"

    count(path, token)
    return asyncio.run(call())
