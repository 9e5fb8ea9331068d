"""Somebody who uses the fast handler meanwhile: ``python -m benchmarks.far_side.probe PORT``, asked by standard input.

A request goes out each 5 milliseconds, on one connection. If the answer to the last has not come by then the next goes
as soon as it has, and its latency still counts from when it should have gone: a server that stands still for a second
keeps two hundred visitors waiting, not one.

    go      begin
    stop    end, and print the latencies since: seconds, as JSON in a line
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time

EVERY = 0.005
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
END = b"fast"


def main(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for line in sys.stdin:
            if line == "go\n":
                stop, latencies = threading.Event(), list[float]()
                thread = threading.Thread(target=_ask, args=(connection, stop, latencies))
                thread.start()
            elif line == "stop\n":
                stop.set()
                thread.join()
                print(json.dumps([round(latency, 6) for latency in latencies]), flush=True)


def _ask(connection: socket.socket, stop: threading.Event, latencies: list[float]) -> None:
    due = time.perf_counter()
    # What was due before the end is asked still: those visitors came.
    while not stop.is_set() or due < time.perf_counter() - EVERY:
        time.sleep(max(0.0, due - time.perf_counter()))
        connection.sendall(REQUEST)
        answer = b""
        while not answer.endswith(END):
            answer += connection.recv(4096)
        latencies.append(time.perf_counter() - due)
        due += EVERY


if __name__ == "__main__":
    main(int(sys.argv[1]))
