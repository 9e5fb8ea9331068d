"""The plots of the README, drawn from kept results: ``python -m benchmarks.plots [FILE.json]``.

    fetch-cpu    loop CPU of fetching a list, by its length; beside it process CPU
    fetch-stall  longest stall of the loop meanwhile, as loop CPU; beside it as wall time
    load         calls a second, by the number of clients
    handler      latency of an unrelated handler while reports run

Each is written as SVG and PNG beside the JSON. A way has the same colour, marker and line in all of them; the colours
are Okabe's and Ito's, which are told apart without seeing red or green, and the markers without any. Dots are medians,
bars the middle half of the rounds.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

__all__ = ["draw"]


class Look(NamedTuple):
    """How a way is drawn."""

    colour: str
    marker: str
    line: Any = "-"
    width: float = 1.5


OURS = 2.6
HERE, ELSEWHERE = "-", (0, (3, 1.2))
LOOKS = {
    "slacker over HTTP": Look("#0072B2", "o", HERE, OURS),
    "slacker, unshared": Look("#0072B2", ".", HERE, 1.0),
    "slacker in threads": Look("#56B4E9", "s", ELSEWHERE, OURS),
    "slacker in processes": Look("#009E73", "D", HERE, OURS),
    "2011 way": Look("#D55E00", "^"),
    "aiohttp + pickle": Look("#E69F00", "v"),
    "in place": Look("#000000", "x"),
    "Django async ORM": Look("#CC79A7", "P", ELSEWHERE),
    "sync_to_async": Look("#8B5E83", "p", ELSEWHERE),
    "asyncio.to_thread": Look("#777777", "*", ELSEWHERE),
    "ProcessPoolExecutor": Look("#7F7F00", "h", ELSEWHERE),
    "RPyC": Look("#777777", "<", ELSEWHERE),
    "Pyro5": Look("#A0A0A0", ">", ELSEWHERE),
    "Dask": Look("#555555", "d"),
    "no report": Look("#999999", "."),
}
"""Dashed is what does work in other threads of the loop's process."""

Tables: TypeAlias = dict[str, dict[str, Any]]
End: TypeAlias = tuple[float, float, str]  # of a line: size, value, name


def draw(data: dict[str, Any], folder: Path) -> list[Path]:
    """Draw what the results have tables for, and return the files that were written."""
    tables: Tables = {table["name"]: table for table in data["tables"]}
    written: list[Path] = []
    for name, (needed, plot) in _PLOTS.items():
        if not any(table.startswith(needed) for table in tables):
            continue
        with mpl.rc_context(_STYLE):
            figure = plot(tables)
            figure.text(0.99, 0.012, _origin(data), fontsize=7.5, color="#666666", ha="right")
            for kind in ("svg", "png"):
                written.append(folder / f"{name}.{kind}")
                figure.savefig(written[-1], metadata={"Date": None} if kind == "svg" else None)
    return written


# --- the plots -----------------------------------------------------------------------------------------------------


def _fetch_cpu(tables: Tables) -> Figure:
    figure = _two_views(
        tables,
        {"loop CPU ms": "of the loop's thread", "process CPU ms": "of all threads of its process"},
        "CPU of one fetch, ms",
    )
    _headline(figure, "What fetching a list of model instances costs on the loop's side")
    return figure


def _fetch_stall(tables: Tables) -> Figure:
    figure = _two_views(
        tables,
        {"longest stall ms": "as CPU of the loop's thread", "the same, wall ms": "as wall time"},
        "longest stall during a fetch, ms",
    )
    _headline(figure, "How long the loop stands still while a list of model instances is fetched")
    return figure


def _two_views(tables: Tables, views: dict[str, str], label: str) -> Figure:
    """Draw two figures by the number of rows side by side: what the loop alone shows, and what it leaves out."""
    figure = Figure(figsize=(10.2, 5.2))
    left, right = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(left=0.075, right=0.79, top=0.85, bottom=0.13, wspace=0.06)
    for axes, (name, title) in zip((left, right), views.items(), strict=True):
        ends = _lines(axes, tables, "fetch-", name)
        axes.set(title=title, xlabel="rows")
    _name_lines(right, ends)
    left.set_ylabel(label)
    _explain_dashes(figure)
    return figure


def _load(tables: Tables) -> Figure:
    figure = Figure(figsize=(8.4, 5.0))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.095, right=0.76, top=0.89, bottom=0.14)
    ends = _lines(axes, tables, "load-", "calls/s", log_y=False)
    axes.set(xlabel="clients at once", ylabel="calls a second")
    axes.set_ylim(bottom=0)
    _name_lines(axes, ends)
    _headline(figure, "Look-ups by primary key: two processes with two threads each")
    _explain_dashes(figure)
    return figure


def _handler(tables: Tables) -> Figure:
    figure = Figure(figsize=(8.4, 4.4))
    axes = figure.subplots()
    figure.subplots_adjust(left=0.22, right=0.97, top=0.89, bottom=0.17)
    rows = tables["handler"]["rows"][::-1]
    for place, row in enumerate(rows):
        look = LOOKS[row["name"]]
        p50, p99 = row["summary"]["p50 ms"], row["summary"]["p99 ms"]
        axes.plot([p50["median"], p99["median"]], [place, place], color=look.colour, linewidth=3, alpha=0.35)
        axes.plot(p50["median"], place, "o", color=look.colour, markerfacecolor="white", markersize=7)
        axes.errorbar(p99["median"], place, xerr=_bars([p99]), fmt="o", color=look.colour, markersize=8, elinewidth=1)
        label = f"{p99['median']:.3g}" if p99["median"] < 100 else f"{p99['median']:.0f}"
        axes.annotate(label, (p99["high"], place), (8, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    for name, row in zip(axes.get_yticklabels(), rows, strict=True):
        name.set_fontweight("bold" if LOOKS[row["name"]].width == OURS else "normal")
    axes.margins(x=0.1)
    axes.set_xscale("log")
    _in_decades(axes.xaxis)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("latency, ms: median (ring), 99th percentile (dot)")
    _headline(figure, tables["handler"]["title"])
    return figure


_PLOTS: dict[str, tuple[str, Callable[[Tables], Figure]]] = {
    "fetch-cpu": ("fetch-", _fetch_cpu),
    "fetch-stall": ("fetch-", _fetch_stall),
    "load": ("load-", _load),
    "handler": ("handler", _handler),
}
"""The tables that each needs, by the beginning of their names, and who draws it."""


# --- what they share -----------------------------------------------------------------------------------------------

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.size": 10,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.markersize": 6,
    "savefig.dpi": 150,
    "svg.hashsalt": "slacker",  # or each drawing of the same figures would be another file
}


def _lines(axes: Axes, tables: Tables, beginning: str, figure: str, *, log_y: bool = True) -> list[End]:
    """Draw a line for each way over the tables that have a size; return where they end."""
    sized = [table for name, table in tables.items() if name.startswith(beginning) and table["size"] is not None]
    sized.sort(key=lambda table: table["size"])
    ends: list[End] = []
    for name, look in LOOKS.items():
        rows = [(table["size"], row) for table in sized for row in table["rows"] if row["name"] == name]
        if not rows:
            continue
        sizes = [size for size, _ in rows]
        summaries = [row["summary"][figure] for _, row in rows]
        medians = [summary["median"] for summary in summaries]
        axes.errorbar(
            sizes,
            medians,
            yerr=_bars(summaries),
            color=look.colour,
            marker=look.marker,
            linestyle=look.line,
            linewidth=look.width,
            elinewidth=1,
        )
        ends.append((sizes[-1], medians[-1], name))
    axes.set_xscale("log")
    _in_decades(axes.xaxis)
    axes.set_xticks([table["size"] for table in sized])
    axes.tick_params(which="minor", bottom=False)
    if log_y:
        axes.set_yscale("log")
        _in_decades(axes.yaxis)
    return ends


def _in_decades(axis: Axis) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}".replace(",", "\u2009")))
    axis.set_minor_formatter(NullFormatter())


def _headline(figure: Figure, text: str) -> None:
    figure.text(0.012, 0.945, text, fontsize=12.5, fontweight="bold")


def _explain_dashes(figure: Figure) -> None:
    figure.text(0.012, 0.012, "dashed: works in other threads, which take turns with the loop", fontsize=7.5)


def _name_lines(axes: Axes, ends: Sequence[End]) -> None:
    """Write the names in a column beside the plot, each as near to the end of its line as the others let it."""
    axes.autoscale_view()
    to_axes = axes.transData + axes.transAxes.inverted()
    places = sorted((float(to_axes.transform(end[:2])[1]), end) for end in ends)
    heights = _apart([height for height, _ in places], least=0.052)
    for height, (_, (size, value, name)) in zip(heights, places, strict=True):
        look = LOOKS[name]
        axes.annotate(
            name,
            (size, value),
            (1.045, height),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            fontweight="bold" if look.width == OURS else "normal",
            color=look.colour,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": look.colour,
                "alpha": 0.4,
                "linewidth": 0.7,
                "shrinkB": 5,
                "relpos": (0, 0.5),
            },
        )


def _apart(wanted: Sequence[float], least: float) -> list[float]:
    """Move ascending heights until each is at least `least` above the last, and no further than needed."""
    heights = list(wanted)
    for _ in range(500):
        for below, above in itertools.pairwise(range(len(heights))):
            overlap = least - (heights[above] - heights[below])
            if overlap > 1e-9:
                heights[below] -= overlap / 2
                heights[above] += overlap / 2
    too_high = max(0.0, heights[-1] - max(1.0, *wanted)) if heights else 0.0
    return [height - too_high for height in heights]


def _bars(summaries: Sequence[dict[str, float]]) -> list[list[float]]:
    return [
        [summary["median"] - summary["low"] for summary in summaries],
        [summary["high"] - summary["median"] for summary in summaries],
    ]


def _origin(data: dict[str, Any]) -> str:
    about = data["environment"]
    warning = "a quick run: the figures mean nothing; " if data["effort"]["share"] < 1 else ""
    return (
        f"{warning}{about['date'][:10]}, {about['python']}, {about['CPUs']} CPUs; median and middle half of the rounds"
    )


def main(arguments: Sequence[str]) -> None:
    """Draw the plots of a file, by default of the results that are kept."""
    path = Path(arguments[0]) if arguments else Path(__file__).parent / "results" / "latest.json"
    for written in draw(json.loads(path.read_text()), path.parent):
        print(written)


if __name__ == "__main__":
    main(sys.argv[1:])
