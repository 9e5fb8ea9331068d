"""The demo's own hook server: ``manage.py runslacker`` in processes of its own, on a free port of this machine.

They form a process group. Ctrl-C in a terminal does not reach it, so that it is the demo that ends the hook, after the
last query; and one signal to the group ends also those that the first of them left behind.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Self

MANAGE = Path(__file__).parent.parent / "manage.py"
PATIENCE = 60  # seconds until it must listen; it takes one or two
PAUSE = 1  # seconds before it is started again
GRACE = 10  # seconds for what it still does when it is told to end

logger = logging.getLogger(__name__)


class HookFailed(Exception):
    """The hook server did not come up."""


class HookServer:
    """A hook server, for the time of an ``async with`` block. Whenever it dies it is started again, at the same port.

    It gets the environment of this process, in which the settings find the same database and the same SLACKER_KEY.

    Args:
        processes: how many serve; by default ``runslacker`` decides.

    Attributes:
        url: where it is.

    Raises:
        HookFailed: on entering the block. It has said on stderr what is wrong.
    """

    def __init__(self, processes: int | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address: tuple[str, int] = free.getsockname()
        self._options = [] if processes is None else ["--processes", str(processes)]
        self._was_up = False
        self.url = "http://{}:{}".format(*self._address)

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while not await self._listens():
            if self._keeper.done() or loop.time() > deadline:
                await self.__aexit__()
                raise HookFailed("The hook server did not come up.")
            await asyncio.sleep(0.05)
        self._was_up = True
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeper

    async def _keep(self) -> None:
        """Run it until this task is cancelled, again and again if it was up once."""
        command = [sys.executable, str(MANAGE), "runslacker", "{}:{}".format(*self._address), *self._options]
        while True:
            process = await asyncio.create_subprocess_exec(*command, process_group=0)
            try:
                code = await process.wait()
            finally:
                await end(process)
            if not self._was_up:
                return
            logger.warning("The hook server ended with exit code %d. It is started again.", code)
            await asyncio.sleep(PAUSE)

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(*self._address)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True


async def end(process: asyncio.subprocess.Process) -> None:
    """End `process`, gracefully if it still runs, and whatever is left of its group."""
    if process.returncode is None:
        process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
