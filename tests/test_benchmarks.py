"""The benchmarks run, count right and report what they found. No claim here is about speed."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import benchmarks.__main__ as command
from benchmarks import fetching, handler, load, measure, meters, plots, report
from benchmarks.goals import GOALS, Goal, judge
from benchmarks.measure import Case, Effort, take_turns
from benchmarks.tables import Row, Spread, Table, percentile, ratios, spread
from tests.unmeasured import unmeasured

CHECKOUT = Path(__file__).parents[1]

THREAD_PEERS = [
    "run_in_executor",
    "asyncio.to_thread",
    "anyio.to_thread",
    "sync_to_async, sensitive",
    "sync_to_async, not",
]
REMOTE_PEERS = [
    *("slacker over HTTP", "in place", "2011 way", "aiohttp + pickle", "RPyC", "Pyro5", "Dask"),
    "ProcessPoolExecutor",
]
PROCESS_PEERS = ["ProcessWorker", "slacker in processes", "ProcessPoolExecutor", "Dask"]
FETCHING_PEERS = [
    *("slacker over HTTP", "slacker in threads", "slacker in processes", "in place", "2011 way"),
    *("aiohttp + pickle", "sync_to_async", "Django async ORM", "ProcessPoolExecutor", "Dask", "RPyC", "Pyro5"),
]
LOAD_OVER_HTTP = ["slacker over HTTP", "slacker, unshared", "2011 way", "aiohttp + pickle"]
LOAD_PEERS = [
    *(*LOAD_OVER_HTTP, "RPyC", "Pyro5", "ProcessPoolExecutor"),
    *("slacker in threads", "Django async ORM", "in place"),
]
ROWS = {
    "threads-at-once": ["slacker, fetch()", "slacker, record, fetch()", "slacker, await", *THREAD_PEERS],
    "threads-in-turn": ["slacker, await", *THREAD_PEERS],
    "recording": ["slacker", "dask.delayed"],
    "record-and-encode": ["slacker", "dask.delayed"],
    "large-argument": ["slacker"],
    "remote-call-in-turn": REMOTE_PEERS,
    "remote-call-at-once": REMOTE_PEERS,
    "rows-dump": ["slacker", "pickle", "pickle, in chunks"],
    "rows-load": ["slacker", "pickle", "pickle, in chunks"],
    "orm-get-in-turn": [*REMOTE_PEERS, "Django async ORM"],
    "orm-get-at-once": [*REMOTE_PEERS, "Django async ORM"],
    "process-call-in-turn": PROCESS_PEERS,
    "process-call-at-once": PROCESS_PEERS,
    "process-get-at-once": [name for name in PROCESS_PEERS if name != "ProcessWorker"],
    "fetch-100": FETCHING_PEERS,
    "fetch-1000": FETCHING_PEERS,
    "fetch-5000": FETCHING_PEERS,
    "fetch-20000": [name for name in FETCHING_PEERS if name not in ("Dask", "Pyro5")],
    "traffic": ["slacker over HTTP", "2011 way", "aiohttp + pickle", "RPyC", "Pyro5"],
    "batch-20": ["20 calls", "20 calls at once", "a batch of 20"],
    "stream": ["slacker over HTTP"],
    "load-1": LOAD_PEERS,
    "load-16": LOAD_PEERS,
    "load-64": LOAD_PEERS,
    "load-mixed": LOAD_OVER_HTTP,
    "handler": [
        *("slacker over HTTP", "slacker in threads", "slacker in processes", "Django async ORM"),
        *("sync_to_async", "asyncio.to_thread", "ProcessPoolExecutor", "2011 way", "in place", "no report"),
    ],
}


def made_up_table() -> Table:
    return Table(
        "made-up",
        "Made-up work",
        [Row("ours", {"wall us": [1.0, 6.0, 3.0]}), Row("theirs", {"wall us": [10.0, 12.0, 10.0]})],
        baseline="theirs",
    )


HOPELESS = Goal("recording", "slacker", 0.0, against="dask.delayed")


# --- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    kept = tmp_path_factory.mktemp("results") / "quick.json"
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--json", str(kept)],
        cwd=CHECKOUT,
        env=unmeasured(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return SimpleNamespace(
        text=ran.stdout,
        kept_text=kept.with_suffix(".txt").read_text(),
        data=json.loads(kept.read_text()),
        files={path.name for path in kept.parent.iterdir()},
    )


def test_a_quick_run_measures_every_row(quick_run: SimpleNamespace) -> None:
    """Tables and rows stand in the JSON in the order in which they are given, each with as many figures as rounds."""
    tables = quick_run.data["tables"]
    assert {table["name"]: [row["name"] for row in table["rows"]] for table in tables} == ROWS
    for table in tables:
        assert len({len(values) for row in table["rows"] for values in row["figures"].values()}) == 1


def test_a_run_that_is_kept_is_drawn(quick_run: SimpleNamespace) -> None:
    """Beside JSON and table lie all plots, in both formats."""
    drawn = {f"{name}.{kind}" for name in ("fetch-cpu", "fetch-stall", "load", "handler") for kind in ("svg", "png")}
    assert quick_run.files == {"quick.json", "quick.txt", *drawn}


def test_a_quick_run_prints_what_it_keeps(quick_run: SimpleNamespace) -> None:
    """The text has the header, all tables and all rows, and is kept beside the JSON."""
    assert quick_run.text == quick_run.kept_text
    assert all(f"{name}:" in quick_run.text for name in ("python", "packages", "CPUs", "platform", "date", "took"))
    assert "the figures mean nothing" in quick_run.text
    lines = quick_run.text.splitlines()
    for name, rows in ROWS.items():
        title = next(number for number, line in enumerate(lines) if line.endswith(f"[{name}]"))
        assert all(line.startswith(row) for line, row in zip(lines[title + 3 :], rows, strict=False))


def test_every_goal_is_judged(quick_run: SimpleNamespace) -> None:
    """Each goal has a verdict in the JSON, and one in the table beside its row."""
    assert [(goal["table"], goal["row"], goal["limit"]) for goal in quick_run.data["goals"]] == [
        (goal.table, goal.row, goal.limit) for goal in GOALS
    ]
    assert quick_run.text.count("goal <= ") + quick_run.text.count("goal >= ") == len(GOALS)


def test_a_missed_goal_ends_with_1_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """--check turns a missed goal into exit code 1."""
    assert command.main(["recording", "--quick", "--check"], [HOPELESS]) == 1
    assert "goal <= 0 x dask.delayed: " in (printed := capsys.readouterr().out)
    assert " NOT reached\n" in printed


def test_a_missed_goal_ends_with_0_if_not_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --check a missed goal is only said."""
    assert command.main(["recording", "--quick"], [HOPELESS]) == 0
    assert " NOT reached\n" in capsys.readouterr().out


def test_a_full_run_replaces_the_kept_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run without arguments, everything is kept as latest.json and latest.txt."""
    monkeypatch.setattr(command, "FULL", Effort(sittings=1, rounds=1, share=0.01))
    monkeypatch.setattr(command, "SUITES", ("recording",))
    monkeypatch.setattr(command, "LATEST", tmp_path / "results" / "latest.json")
    assert command.main([]) == 0
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["latest.json", "latest.txt"]


def test_part_of_a_run_does_not_replace_the_kept_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of some suites, or a quick one, is kept only where it is told to."""
    monkeypatch.setattr(command, "LATEST", tmp_path / "latest.json")
    assert command.main(["recording", "--quick"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_gets_no_plots_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """--json /dev/null writes nothing anywhere."""
    monkeypatch.setattr(plots, "draw", lambda *_: pytest.fail("drawn"))
    assert command.main(["recording", "--quick", "--json", "/dev/null"]) == 0
    assert not Path("/dev/null.txt").exists()


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A suite that does not exist is a wrong argument, and the answer names those that do."""
    with pytest.raises(SystemExit) as refused:
        command.main(["thread"])
    assert refused.value.code == 2
    assert "nothing is called thread; there are threads, recording, remote, " in capsys.readouterr().err


def test_json_and_table_need_two_files(capsys: pytest.CaptureFixture[str]) -> None:
    """The table takes the JSON's name with .txt: a JSON file of that name would be lost."""
    with pytest.raises(SystemExit) as refused:
        command.main(["--json", "results.txt"])
    assert refused.value.code == 2
    assert "the table goes to the same name with .txt" in capsys.readouterr().err


def test_a_peer_that_is_not_installed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """No row is left out silently: the run ends and names the extra."""
    monkeypatch.delitem(sys.modules, "benchmarks.recording", raising=False)
    monkeypatch.setitem(sys.modules, "dask.delayed", None)
    with pytest.raises(SystemExit, match=r"recording needs a package .*dask\.delayed.*pip install -e \.\[bench\]"):
        command.main(["recording", "--quick"])


def test_a_broken_suite_is_no_missing_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of our own that is missing is not explained by an extra."""
    monkeypatch.setattr(command, "SUITES", ("nonsense",))
    with pytest.raises(ModuleNotFoundError, match="nonsense"):
        command.main([])


# --- taking turns --------------------------------------------------------------------------------------------------


def sitting_of(*cases: Case) -> Callable[[], AbstractAsyncContextManager[list[Case]]]:
    @asynccontextmanager
    async def sitting() -> AsyncIterator[list[Case]]:
        yield list(cases)

    return sitting


def case_of(name: str, do: Callable[[], object], calls: int = 1) -> Case:
    async def turn() -> object:
        return do()

    return Case(name, calls, turn)


def test_cases_take_turns_after_a_warm_up() -> None:
    """Each round runs all cases once, in order; the first round of a sitting is not counted."""
    turns: list[str] = []
    cases = [case_of("A", lambda: turns.append("A")), case_of("B", lambda: turns.append("B"))]
    rows = take_turns(sitting_of(*cases), Effort(sittings=2, rounds=3))
    assert turns == ["A", "B"] * (2 * (1 + 3))
    assert [(row.name, [len(values) for values in row.figures.values()]) for row in rows] == [
        ("A", [6, 6, 6]),
        ("B", [6, 6, 6]),
    ]


def test_each_sitting_has_a_loop_of_its_own() -> None:
    """What a sitting makes is made anew for the next, and closed before."""
    seen: list[object] = []

    @asynccontextmanager
    async def sitting() -> AsyncIterator[list[Case]]:
        seen.append(asyncio.get_running_loop())
        yield [case_of("A", lambda: None)]
        seen.append("closed")

    take_turns(sitting, Effort(sittings=2, rounds=1))
    assert [kind for kind in seen if kind == "closed"] == seen[1::2]
    assert seen[0] is not seen[2]


def test_figures_are_microseconds_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the three clocks advance during a turn is divided by its calls."""
    clocks = SimpleNamespace(wall=0.0, loop=0.0, process=0.0)

    def advance() -> None:
        clocks.wall += 8.0
        clocks.loop += 2.0
        clocks.process += 4.0

    monkeypatch.setattr(
        measure,
        "time",
        SimpleNamespace(
            perf_counter=lambda: clocks.wall, thread_time=lambda: clocks.loop, process_time=lambda: clocks.process
        ),
    )
    (row,) = take_turns(sitting_of(case_of("A", advance, calls=1_000_000)), Effort(sittings=1, rounds=1))
    assert row.figures == {"wall us": [8.0], "loop CPU us": [2.0], "process CPU us": [4.0]}


def test_cases_that_do_different_work_are_refused() -> None:
    """What the turns return must be equal, or the comparison is none."""
    with pytest.raises(ValueError, match="'B' returned 2, 'A' 1: not the same work"):
        take_turns(sitting_of(case_of("A", lambda: 1), case_of("B", lambda: 2)), Effort(sittings=1, rounds=1))


def test_a_case_may_have_a_meter_of_its_own() -> None:
    """What it returns is kept by round, under the names that it gives."""
    measured = iter([1.0, 2.0])

    async def meter(case: Case) -> dict[str, float]:
        return {case.name: next(measured)}

    (row,) = take_turns(sitting_of(Case("A", 1, case_of("A", lambda: None).turn, meter)), Effort(1, 2))
    assert row.figures == {"A": [1.0, 2.0]}


def test_less_sittings_are_no_more_than_there_were() -> None:
    """Work that takes long has few sittings in a full run, and in a quick one no more than others."""
    assert (Effort(12, 5).within(2), Effort(1, 5).within(2)) == (Effort(2, 5), Effort(1, 5))


def test_an_effort_makes_at_least_one_call() -> None:
    """A small share is rounded, but never to nothing."""
    assert (Effort(1, 5).count(300), Effort(1, 5, 0.02).count(300), Effort(1, 5, 0.02).count(6)) == (300, 6, 1)


# --- meters --------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=0.0)
    fake = SimpleNamespace(perf_counter=lambda: clock.now, thread_time=lambda: clock.now / 2)
    monkeypatch.setattr(meters, "time", fake)
    return clock


async def test_a_stall_is_the_longest_time_between_two_wake_ups(clock: SimpleNamespace) -> None:
    """Two stalls with a wake-up between them are not added up; CPU and wall time have their own."""

    async def turn() -> None:
        clock.now += 5.0
        await asyncio.sleep(5 * meters.TICK)
        clock.now += 2.0

    assert await meters.longest_stall(turn) == (2.5, 5.0)


async def test_what_stalls_at_the_very_end_is_seen(clock: SimpleNamespace) -> None:
    """A result that is decoded in one piece blocks the loop just before the turn ends."""

    async def turn() -> None:
        await asyncio.sleep(5 * meters.TICK)
        clock.now += 3.0

    assert await meters.longest_stall(turn) == (1.5, 3.0)


async def test_work_lost_is_what_a_busy_task_did_not_get_done(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time in which it ran is not lost, however long the turn took."""

    def piece() -> None:
        clock.now += 1.0

    async def turn() -> None:
        clock.now += 10.0
        for _ in range(20):
            await asyncio.sleep(0)
        clock.now += 5.0

    monkeypatch.setattr(meters, "_piece", piece)
    assert await meters.work_lost(turn) == 15.0


# --- statistics, goals, report -------------------------------------------------------------------------------------


def test_spread_is_median_middle_half_least_and_most() -> None:
    """One wild round moves the most, and nothing else."""
    assert spread([3.0, 1.0, 2.0, 1000.0, 2.5]) == Spread(2.5, low=2.0, high=3.0, least=1.0, most=1000.0)


def test_one_round_is_its_own_spread() -> None:
    """All of it is that value."""
    assert spread([3.0]) == Spread(3.0, 3.0, 3.0, 3.0, 3.0)


def test_a_percentile_is_what_so_many_of_100_values_do_not_exceed() -> None:
    """Between two values it lies between them; one value is all of them."""
    assert percentile([float(number) for number in range(101)], 99) == 99.0
    assert percentile([1.0, 3.0], 50) == 2.0
    assert percentile([3.0], 99) == 3.0


def test_ratios_are_computed_round_by_round() -> None:
    """Their median is not the ratio of the medians."""
    table = made_up_table()
    found = ratios(table.row("ours").figures["wall us"], table.row("theirs").figures["wall us"])
    assert found == [0.1, 0.5, 0.3]
    assert ratios([1.0, 4.0, 100.0], [10.0, 8.0, 100.0]) == [0.1, 0.5, 1.0]  # of the medians: 0.4


def test_ratios_need_the_same_rounds() -> None:
    """Figures of different runs cannot be compared."""
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("goal", "verdict"),
    [
        (Goal("made-up", "ours", 0.35, against="theirs"), "goal <= 0.35 x theirs: 0.3 reached"),
        (Goal("made-up", "ours", 0.3, against="theirs"), "goal <= 0.3 x theirs: 0.3 reached"),
        (Goal("made-up", "ours", 0.29, against="theirs"), "goal <= 0.29 x theirs: 0.3 NOT reached"),
        (Goal("made-up", "ours", 3), "goal <= 3 wall us: 3 reached"),
        (Goal("made-up", "ours", 2), "goal <= 2 wall us: 3 NOT reached"),
    ],
)
def test_a_goal_is_a_limit_for_a_median(goal: Goal, verdict: str) -> None:
    """Of the ratios of all rounds, or of the figure itself where the goal names no other row."""
    assert [str(judged) for judged in judge([made_up_table()], [goal])] == [verdict]


def test_of_calls_a_second_more_is_better() -> None:
    """A goal for them is a lower limit, and a verdict on another figure than wall time names it."""
    table = Table("load", "Load", [Row("ours", {"calls/s": [30.0]}), Row("theirs", {"calls/s": [10.0]})])
    goals = [Goal("load", "ours", limit, against="theirs", figure="calls/s") for limit in (3, 4)]
    assert [str(judged) for judged in judge([table], goals)] == [
        "goal >= 3 x theirs in calls/s: 3 reached",
        "goal >= 4 x theirs in calls/s: 3 NOT reached",
    ]


def test_a_goal_of_another_table_waits() -> None:
    """A goal whose table was not measured has no verdict."""
    assert judge([made_up_table()], GOALS) == []


def test_a_goal_for_a_row_that_is_not_there_is_a_mistake() -> None:
    """A misspelt goal must not count as one that was not measured."""
    with pytest.raises(KeyError, match="has no row 'our', only"):
        judge([made_up_table()], [Goal("made-up", "our", 1.0)])


def test_columns_are_aligned() -> None:
    """The table reads down as well as across; a verdict stands behind its row."""
    table = made_up_table()
    text = report.as_text({"date": "today"}, Effort(1, 3), [table], judge([table], [Goal("made-up", "ours", 2)]))
    assert text.splitlines()[-4:] == [
        "",
        "                  wall us              x theirs",
        "ours     3.00 (2.00-4.50)   0.300 (0.200-0.400)   goal <= 2 wall us: 3 NOT reached",
        "theirs   10.0 (10.0-11.0)      1.00 (1.00-1.00)",
    ]


def test_each_row_is_a_line_of_the_json() -> None:
    """The text is JSON all the same, and has all rounds."""
    table = made_up_table()
    data = report.as_data({"date": "today"}, Effort(1, 3), [table], judge([table], [Goal("made-up", "ours", 2)]))
    text = report.as_json(data)
    assert json.loads(text) == data
    assert [line.split(",")[0] for line in text.splitlines() if line.startswith('{"name"')] == [
        '{"name": "made-up"',
        '{"name": "ours"',
        '{"name": "theirs"',
    ]
    assert data["tables"][0]["rows"][0]["figures"] == {"wall us": [1.0, 6.0, 3.0]}


# --- plots ---------------------------------------------------------------------------------------------------------


def results(*names: str) -> dict[str, Any]:
    """Return results with a table of each name, in which two ways have every figure that is drawn."""
    figures = ["loop CPU ms", "process CPU ms", "longest stall ms", "the same, wall ms", "calls/s", "p50 ms", "p99 ms"]
    rows = [
        Row(name, {figure: [value, value + 1, value + 2] for figure in figures})
        for name, value in (("slacker over HTTP", 1.0), ("2011 way", 4.0))
    ]
    sizes = {name: int(name.rpartition("-")[2]) for name in names if "-" in name}
    tables = [Table(name, "Made-up work", rows, size=sizes.get(name)) for name in names]
    return report.as_data({"date": "2026-01-01", "python": "CPython", "CPUs": "2"}, Effort(1, 3), tables, [])


def test_plots_are_drawn_of_the_tables_that_there_are(tmp_path: Path) -> None:
    """Results of some suites give their plots and no others."""
    written = plots.draw(results("fetch-100", "fetch-1000", "recording"), tmp_path)
    assert [path.name for path in written] == ["fetch-cpu.svg", "fetch-cpu.png", "fetch-stall.svg", "fetch-stall.png"]
    assert [path.read_bytes()[:4] for path in written] == [b"<?xm", b"\x89PNG"] * 2


def test_the_same_results_give_the_same_files(tmp_path: Path) -> None:
    """Drawing again changes nothing in the repository."""
    data = results("load-1", "load-64", "handler")
    first = [path.read_bytes() for path in plots.draw(data, tmp_path)]
    assert [path.read_bytes() for path in plots.draw(data, tmp_path)] == first


def test_plots_can_be_drawn_from_a_kept_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command takes the JSON, and tells what it wrote beside it."""
    kept = tmp_path / "kept.json"
    kept.write_text(report.as_json(results("handler")))
    plots.main([str(kept)])
    assert capsys.readouterr().out.split() == [f"{tmp_path}/handler.svg", f"{tmp_path}/handler.png"]


def test_every_way_has_a_look() -> None:
    """A row without one would not be drawn, silently."""
    assert {*fetching.PEERS, *load.PEERS, *handler.PEERS} <= plots.LOOKS.keys()


def test_names_that_would_lie_upon_one_another_are_moved_apart() -> None:
    """Their order stays, and what has room stays where it is."""
    moved = plots._apart([0.1, 0.5, 0.5, 0.51], least=0.1)
    assert moved[0] == 0.1
    assert [round(above - below, 6) >= 0.1 for below, above in itertools.pairwise(moved)] == [True] * 3
