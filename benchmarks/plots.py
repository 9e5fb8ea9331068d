"""The plots of the README, drawn from kept results: ``python -m benchmarks.plots [FILE.json]``.

    fetch-cpu    loop CPU of fetching a list, by its length
    fetch-stall  longest stall of the loop meanwhile
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
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, NullFormatter

__all__ = ["draw"]


class Look(NamedTuple):
    """How a way is drawn."""

    colour: str
    marker: str
    line: str = "-"
    width: float = 1.5


OURS = 2.6
LOOKS = {
    "slacker over HTTP": Look("#0072B2", "o", width=OURS),
    "slacker in threads": Look("#56B4E9", "s", width=OURS),
    "slacker in processes": Look("#009E73", "D", width=OURS),
    "2011 way": Look("#D55E00", "^"),
    "aiohttp + pickle": Look("#E69F00", "v"),
    "in place": Look("#000000", "x"),
    "Django async ORM": Look("#CC79A7", "P"),
    "sync_to_async": Look("#8B5E83", "p", "--"),
    "asyncio.to_thread": Look("#777777", "*", "--"),
    "ProcessPoolExecutor": Look("#7F7F00", "h", "--"),
    "RPyC": Look("#777777", "<", ":"),
    "Pyro5": Look("#A0A0A0", ">", ":"),
    "Dask": Look("#555555", "d", "--"),
    "no report": Look("#999999", "."),
}

Tables = dict[str, dict[str, Any]]


def draw(data: dict[str, Any], folder: Path) -> list[Path]:
    """Draw what the results have tables for, and return the files that were written."""
    tables: Tables = {table["name"]: table for table in data["tables"]}
    written: list[Path] = []
    for name, (needed, plot) in _PLOTS.items():
        if not any(table.startswith(needed) for table in tables):
            continue
        with plt.rc_context(_STYLE):
            figure, axes = plt.subplots(figsize=(8.4, 5.0))
            plot(axes, tables)
            figure.text(0.99, 0.01, _origin(data), fontsize=7.5, color="#666666", ha="right")
            for kind in ("svg", "png"):
                written.append(folder / f"{name}.{kind}")
                figure.savefig(written[-1], metadata={"Date": None} if kind == "svg" else None)
            plt.close(figure)
    return written


# --- the plots -----------------------------------------------------------------------------------------------------


def _fetch_cpu(axes: Axes, tables: Tables) -> None:
    _lines(axes, tables, "fetch-", "loop CPU ms")
    axes.set(
        title="What a list of model instances costs the loop", xlabel="rows", ylabel="CPU of the loop's thread, ms"
    )


def _fetch_stall(axes: Axes, tables: Tables) -> None:
    _lines(axes, tables, "fetch-", "longest stall ms")
    axes.set(
        title="How long the loop stands still meanwhile",
        xlabel="rows",
        ylabel="most CPU of the loop's thread at a stretch, ms",
    )
    axes.axhline(10, color="#999999", linewidth=0.8, zorder=0)


def _load(axes: Axes, tables: Tables) -> None:
    _lines(axes, tables, "load-", "calls/s", log_y=False)
    axes.set(
        title="Look-ups by primary key: two processes with two threads each",
        xlabel="clients at once",
        ylabel="calls a second",
    )
    axes.set_ylim(bottom=0)


def _handler(axes: Axes, tables: Tables) -> None:
    axes.figure.subplots_adjust(left=0.21, right=0.97, top=0.92, bottom=0.15)
    rows = tables["handler"]["rows"]
    for place, row in enumerate(reversed(rows)):
        look = LOOKS.get(row["name"], Look("#000000", "."))
        p50, p99 = row["summary"]["p50 ms"], row["summary"]["p99 ms"]
        axes.plot([p50["median"], p99["median"]], [place, place], color=look.colour, linewidth=3, alpha=0.35)
        axes.plot(p50["median"], place, "o", color=look.colour, markerfacecolor="white", markersize=7)
        axes.errorbar(
            p99["median"], place, xerr=_bars([p99]), fmt="o", color=look.colour, markersize=8, elinewidth=1, capsize=3
        )
        axes.annotate(
            f"{p99['median']:.3g} ms",
            (p99["high"], place),
            (8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
    axes.set_yticks(range(len(rows)), [row["name"] for row in reversed(rows)])
    axes.set_xscale("log")
    axes.margins(x=0.12)
    _plain_numbers(axes.xaxis)
    axes.grid(axis="y", visible=False)
    axes.set(
        title=tables["handler"]["title"], xlabel="latency of the handler, ms: median (ring) and 99th percentile (dot)"
    )


_PLOTS: dict[str, tuple[str, Callable[[Axes, Tables], None]]] = {
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
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "font.size": 10,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "savefig.dpi": 150,
    "svg.hashsalt": "slacker",  # or each drawing of the same figures would be another file
}


def _lines(axes: Axes, tables: Tables, beginning: str, figure: str, *, log_y: bool = True) -> None:
    axes.figure.subplots_adjust(left=0.1, right=0.76, top=0.92, bottom=0.15)
    sized = [table for name, table in tables.items() if name.startswith(beginning) and table["size"] is not None]
    sized.sort(key=lambda table: table["size"])
    ends: list[tuple[float, float, str]] = []
    for name, look in LOOKS.items():
        points = [
            (table["size"], row["summary"][figure]) for table in sized for row in table["rows"] if row["name"] == name
        ]
        if not points:
            continue
        sizes, summaries = zip(*points, strict=True)
        medians = [summary["median"] for summary in summaries]
        axes.errorbar(
            sizes,
            medians,
            yerr=_bars(summaries),
            color=look.colour,
            marker=look.marker,
            linestyle=look.line,
            linewidth=look.width,
            markersize=6,
            elinewidth=1,
        )
        ends.append((sizes[-1], medians[-1], name))
    axes.set_xscale("log")
    axes.set_xticks([table["size"] for table in sized])
    if log_y:
        axes.set_yscale("log")
        _plain_numbers(axes.yaxis)
    _plain_numbers(axes.xaxis)
    _name_lines(axes, ends)


def _name_lines(axes: Axes, ends: Sequence[tuple[float, float, str]]) -> None:
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
            arrowprops={"arrowstyle": "-", "color": look.colour, "alpha": 0.4, "linewidth": 0.7, "shrinkB": 5},
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
    return heights


def _bars(summaries: Sequence[dict[str, float]]) -> list[list[float]]:
    return [
        [summary["median"] - summary["low"] for summary in summaries],
        [summary["high"] - summary["median"] for summary in summaries],
    ]


def _plain_numbers(axis: Axis) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}".replace(",", "\u2009")))
    axis.set_minor_formatter(NullFormatter())


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
