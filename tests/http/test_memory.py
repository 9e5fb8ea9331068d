"""What a large result takes of memory, in a client and in a server that have done nothing else."""

from __future__ import annotations

import contextlib
import json

import pytest

from .conftest import run_script
from .servers import GRANIAN, served_by

SCRIPT = """
import asyncio, gc, json
from slacker import Slacker
from slacker.workers import HttpWorker
from tests.http.servers import AUDIENCE, KEY, blobs, memory
from tests.waiting import LIVENESS

COUNT, SIZE = 100_000, 1_000

async def main():
    async with HttpWorker({url!r}, key=KEY, audience=AUDIENCE, timeout=LIVENESS) as worker:
        await Slacker(blobs, worker)(1_000, SIZE)
        client, server = memory("VmRSS"), await Slacker(memory, worker)("VmRSS")
        result = await Slacker(blobs, worker)(COUNT, SIZE)
        gc.collect()
        settled = memory("VmRSS") - client
        peaks = memory("VmHWM") - client, await Slacker(memory, worker)("VmHWM") - server
        assert len(result) == COUNT
    print(json.dumps([figure / (COUNT * SIZE) for figure in (settled, *peaks)]))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def footprint() -> tuple[float, float, float]:
    """Return what the client had afterwards and at most, and the server at most, as multiples of a 100 MB result."""
    with pytest.MonkeyPatch.context() as environment, contextlib.ExitStack() as closing:
        # What was large and is freed goes back to the system at once, so that resident size says what is in use.
        environment.setenv("MALLOC_MMAP_THRESHOLD_", f"{64 << 10}")
        server = closing.enter_context(served_by(*GRANIAN, "--blocking-threads", "1"))
        done = run_script(SCRIPT.format(url=server.url))
    assert done.returncode == 0, done.stderr
    settled, client, server_peak = json.loads(done.stdout)
    return settled, client, server_peak


def test_the_client_keeps_the_result_alone(footprint: tuple[float, float, float]) -> None:
    """When a result of 100 MB is there, little else is: the reply it came in is gone."""
    assert 0.9 < footprint[0] < 1.15


def test_the_client_never_has_it_three_times(footprint: tuple[float, float, float]) -> None:
    """While it arrives, the reply and what was decoded of it are there, and no more."""
    assert footprint[1] < 3


def test_the_server_never_has_it_three_times(footprint: tuple[float, float, float]) -> None:
    """The server has the result, and of the reply a frame or two."""
    assert footprint[2] < 3
