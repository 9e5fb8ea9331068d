"""The visitors of the fast handler: ``python -m benchmarks.far_side.probe PORT``, directed by standard input.

One comes each 5 milliseconds, whether or not those before have been answered, with a connection of its own: one that is
idle, or a new one if none is. So a server that stands still for a second keeps two hundred waiting, as it would in
earnest, and none waits because of another.

    go      begin
    stop    let nobody come any more, and when all are answered print their latencies: seconds, as JSON in a line
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

EVERY = 0.005
REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
END = b"fast"


class Visitors:
    """Those that came since "go", and the connections that are idle."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self.latencies: list[float] = []

    async def come(self) -> None:
        due = time.perf_counter()
        while True:
            task = asyncio.create_task(self._visit())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            due += EVERY
            await asyncio.sleep(due - time.perf_counter())

    async def all_answered(self) -> None:
        await asyncio.gather(*self._under_way)

    async def _visit(self) -> None:
        begun = time.perf_counter()
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(REQUEST)
        await reader.readuntil(END)
        self.latencies.append(time.perf_counter() - begun)
        self._idle.append((reader, writer))


async def main(port: int) -> None:
    """Obey until standard input ends."""
    visitors = Visitors(port)
    while line := await asyncio.to_thread(sys.stdin.readline):
        if line == "go\n":
            visitors.latencies.clear()
            coming = asyncio.create_task(visitors.come())
        else:
            coming.cancel()
            await visitors.all_answered()
            print(json.dumps([round(latency, 6) for latency in visitors.latencies]), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
