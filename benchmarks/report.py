"""What was measured, as text for people and as JSON for programs.

The JSON has each row in a line of its own, so that two runs can be compared by ``diff``, and figures with five digits,
which is more than any of them deserves.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from typing import Any

import slacker

from .goals import Verdict
from .measure import Effort
from .tables import Row, Spread, Table, ratios, spread

__all__ = ["as_data", "as_json", "as_text", "environment"]

PACKAGES = (
    *("tornado", "django", "httptools", "granian", "gunicorn", "aiohttp", "anyio", "asgiref", "distributed"),
    *("rpyc", "Pyro5"),
)

_METHOD = """\
The median of all rounds, and in brackets the bounds of their middle half. What is in us is per call. The cases of a
table take turns; ratios are computed round by round; threads and connections are made anew each {rounds} rounds; the
garbage collector is on. Other work on the machine spoils the figures; the ratios suffer least. Trust those whose
bounds are close."""


def environment() -> dict[str, str]:
    """Return what the figures depend on and a reader can compare: neither host name nor paths."""
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join([f"slacker {slacker.__version__}", *(f"{name} {_version(name)}" for name in PACKAGES)]),
        "platform": f"{platform.system()} {platform.machine()}",
        "CPUs": str(os.cpu_count()),
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # a suite that needs it would have said so
        return "(not installed)"


def as_text(about: dict[str, str], effort: Effort, tables: Sequence[Table], verdicts: Sequence[Verdict]) -> str:
    """Return header and tables as plain text with aligned columns."""
    width = max(map(len, about)) + 1
    header = "\n".join(f"{name + ':':<{width}} {value}" for name, value in about.items())
    method = _METHOD.format(rounds=effort.rounds) + ("\nA quick run: the figures mean nothing." * effort.is_quick)
    return "\n\n".join([header, method, *(_table_text(table, verdicts) for table in tables)]) + "\n"


def as_data(
    about: dict[str, str], effort: Effort, tables: Sequence[Table], verdicts: Sequence[Verdict]
) -> dict[str, Any]:
    """Return everything as plain data: the figures of all rounds, their summaries, the verdicts."""
    return {
        "environment": about,
        "effort": dataclasses.asdict(effort),
        "tables": [_table_data(table) for table in tables],
        "goals": [
            {**dataclasses.asdict(verdict.goal), "measured": _short(verdict.measured), "reached": verdict.reached}
            for verdict in verdicts
        ],
    }


def as_json(data: Any) -> str:
    """Return what `as_data` returned as text: a table, row or goal a line."""
    if isinstance(data, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {as_json(value)}" for key, value in data.items()) + "}"
    if isinstance(data, list) and data and isinstance(data[0], dict):
        return "[\n" + ",\n".join(map(as_json, data)) + "\n]"
    return json.dumps(data)


def _table_text(table: Table, verdicts: Sequence[Verdict]) -> str:
    lines = [["", *table.rows[0].figures, *([f"x {table.baseline}"] if table.baseline else []), ""]]
    for row in table.rows:
        measured = [row.figures.get(name) for name in table.rows[0].figures]
        cells = [_cell(spread(values)) if values else "-" for values in measured]
        ratio = [_cell(spread(_ratios(table, row)))] if table.baseline else []
        goals = [str(one) for one in verdicts if (one.goal.table, one.goal.row) == (table.name, row.name)]
        lines.append([row.name, *cells, *ratio, "; ".join(goals)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rounds = len(next(iter(table.rows[0].figures.values())))
    text = [f"{table.title} ({rounds} round{'s' * (rounds > 1)})  [{table.name}]", ""]
    for name, *cells, verdict in lines:
        aligned = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:-1], strict=True)]
        text.append("   ".join([f"{name:<{widths[0]}}", *aligned, verdict]).rstrip())
    return "\n".join([*text, *table.notes])


def _cell(values: Spread) -> str:
    return f"{_number(values.median)} ({_number(values.low)}-{_number(values.high)})"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def _ratios(table: Table, row: Row) -> list[float]:
    assert table.baseline is not None
    return ratios(row.figures[table.compared], table.row(table.baseline).figures[table.compared])


def _table_data(table: Table) -> dict[str, Any]:
    rows = []
    for row in table.rows:
        data: dict[str, Any] = {
            "name": row.name,
            "summary": {name: _summary(values) for name, values in row.figures.items()},
        }
        if table.baseline:
            data["ratio"] = _summary(_ratios(table, row))
        data["figures"] = {name: [*map(_short, values)] for name, values in row.figures.items()}
        rows.append(data)
    return {**dataclasses.asdict(table), "rows": rows}


def _summary(values: Sequence[float]) -> dict[str, float]:
    return {name: _short(value) for name, value in dataclasses.asdict(spread(values)).items()}


def _short(value: float) -> float:
    return float(f"{value:.5g}")
