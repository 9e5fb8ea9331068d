"""The four spellings of one call, with a worker of threads: no server, no Django.

Run it: ``python examples/quickstart.py``
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import slacker
from slacker import Slacker, adisp
from slacker.workers import ThreadWorker


def digest(path: Path) -> str:
    """Return the SHA-256 of a file: blocking work, as any other."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


async_digest = Slacker(digest, ThreadWorker(max_workers=4))
here = Path(__file__)


async def awaited() -> None:
    """Await the recipe, anywhere on asyncio."""
    print("await   ", (await async_digest(here))[:12])


@adisp.process
def yielded() -> Generator[Any, Any, None]:
    """Yield it, in a generator; a list or dict of recipes runs in parallel."""
    first, second = yield [async_digest(here)[:12], async_digest(here.with_name("callbacks.py"))[:12]]
    print("yield   ", first, "and", second)


async def fetched() -> None:
    """Start it now and collect the result later."""
    future = async_digest(here).fetch()
    print("fetch   ", (await future)[:12])


async def called_back() -> None:
    """Have it call back."""
    done = asyncio.Event()

    def on_result(result: str) -> None:
        print("proceed ", result[:12])
        done.set()

    async_digest(here).proceed(on_result)
    await done.wait()


async def main() -> None:
    """Run the four, and show what a mistake looks like."""
    await awaited()
    await yielded()
    await fetched()
    await called_back()

    recipe = async_digest(here / "missing").upper()
    print("recipe  ", slacker.chain_of(recipe).outline())
    try:
        await recipe
    except NotADirectoryError as error:
        print("failed  ", error.__notes__[0])


if __name__ == "__main__":
    asyncio.run(main())
