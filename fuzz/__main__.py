"""Run the targets and say what came of it; exit with 1 if something was believed or escaped."""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections import Counter

from .targets import TARGETS


def main(arguments: list[str] | None = None) -> int:
    """Run as told on the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=f"some of {', '.join(TARGETS)}; by default all")
    parser.add_argument("--runs", type=int, default=100_000, help="of each target (%(default)s)")
    parser.add_argument("--seed", default="0", help="the same seed gives the same mutations (%(default)s)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="number of the first run (%(default)s)")
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    failed = 0
    for name in options.targets or TARGETS:
        failed += _run(name, options.seed, range(options.first, options.first + options.runs))
    return 1 if failed else 0


def _run(name: str, seed: str, numbers: range) -> int:
    came: Counter[str] = Counter()
    failed = 0
    begun = time.perf_counter()
    for number in numbers:
        try:
            came[TARGETS[name](random.Random(f"{seed}/{name}/{number}"))] += 1
        except Exception:
            failed += 1
            traceback.print_exc()
            print(f"again: python -m fuzz --runs 1 --seed {seed} --from {number} {name}", file=sys.stderr)
    shown = ", ".join(f"{count} {what}" for what, count in came.most_common())
    print(f"{name}: {len(numbers)} runs in {time.perf_counter() - begun:.1f} s: {failed} failed, {shown}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
