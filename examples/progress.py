"""A progress bar over a stream: a total that is asked for in advance, and one step forward for each item.

Run it: ``python examples/progress.py``. It counts the words of Python's own library, file by file, in a thread.
"""

from __future__ import annotations

import asyncio
import sysconfig
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

from tqdm.asyncio import tqdm

import slacker
from slacker import Slacker
from slacker.workers import ThreadWorker

LIBRARY = Path(sysconfig.get_path("stdlib"))


def modules(directory: Path) -> list[Path]:
    """Return the modules in a directory, in order."""
    return sorted(directory.glob("*.py"))


def count_words(paths: list[Path]) -> Iterator[tuple[str, int]]:
    """Yield the name of each file and how many words it has: blocking work, a little at a time."""
    for path in paths:
        yield path.name, len(path.read_bytes().split())


async def main() -> None:
    """Show how the work goes on, and then what has come of it."""
    async with ThreadWorker() as worker:
        paths = Slacker(modules, worker)(LIBRARY)  # a recipe, run where it is used
        total = await Slacker(len, worker)(paths)
        words: dict[str, int] = {}
        async with aclosing(slacker.stream(Slacker(count_words, worker)(paths), chunk_size=10)) as counts:
            async for name, count in tqdm(counts, desc="Counting", total=total, unit=" files"):
                words[name] = count
    longest = max(words, key=words.__getitem__)
    print(f"{total} modules have {sum(words.values())} words, {longest} alone {words[longest]}")


if __name__ == "__main__":
    asyncio.run(main())
