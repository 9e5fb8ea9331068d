"""The command: measure, print, keep.

    python -m benchmarks                      everything; kept as results/latest.json and .txt, with the plots
    python -m benchmarks recording            one suite; printed only
    python -m benchmarks --json out/new.json  kept there, beside it the table as out/new.txt and the plots
    python -m benchmarks --quick              a few calls of each, to see that all of it runs

Only a full run replaces the kept results: parts of different runs must not stand in one table.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import report
from .goals import GOALS, Goal, judge
from .measure import FULL, QUICK
from .tables import Table

SUITES = ("threads", "recording", "remote", "processes", "trips", "rows", "fetching", "traffic", "load", "handler")
"""The suites, in order: those of single calls before those whose long lists leave a large heap behind."""
LATEST = Path(__file__).parent / "results" / "latest.json"


def main(arguments: Sequence[str] | None = None, goals: Sequence[Goal] = GOALS) -> int:
    """Run the command and return its exit code: 1 if a goal was missed and ``--check`` given, otherwise 0."""
    options = _options(arguments)
    effort = QUICK if options.quick else FULL
    suites = {name: _load(name) for name in options.names or SUITES}
    kept = options.json or (None if options.names or options.quick else LATEST)
    plots = _load("plots") if kept is not None else None  # what it needs shall not be missed only at the end
    begun = time.monotonic()
    tables: list[Table] = []
    for name, suite in suites.items():
        if sys.stderr.isatty():
            print(f"measuring: {name}", file=sys.stderr)
        tables += suite.tables(effort)
    verdicts = judge(tables, goals)
    about = {**report.environment(), "took": f"{time.monotonic() - begun:.0f} s"}
    text = report.as_text(about, effort, tables, verdicts)
    print(text, end="")
    if kept is not None and plots is not None:
        data = report.as_data(about, effort, tables, verdicts)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(report.as_json(data) + "\n")
        if kept.is_file():  # unlike /dev/null
            kept.with_suffix(".txt").write_text(text)
            plots.draw(data, kept.parent)
    return int(options.check and not all(verdict.reached for verdict in verdicts))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What slacker costs, beside its peers.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"what to measure: {', '.join(SUITES)}; default all")
    parser.add_argument("--quick", action="store_true", help="a few calls of each; the figures mean nothing")
    parser.add_argument("--check", action="store_true", help="end with code 1 if a goal is not reached")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="keep the results there, with the table and the plots beside it"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.names).difference(SUITES):
        parser.error(f"nothing is called {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    if options.json is not None and options.json.suffix == ".txt":
        parser.error("--json takes the name of a JSON file; the table goes to the same name with .txt")
    return options


def _load(name: str) -> Any:
    try:
        return importlib.import_module(f"{__package__}.{name}")
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in ("benchmarks", "slacker"):
            raise
        raise SystemExit(f"{name} needs a package that is not installed ({error}): pip install -e .[bench]") from error


if __name__ == "__main__":
    sys.exit(main())
