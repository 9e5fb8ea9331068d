"""Environments: neither a test run nor staging reaches the project's database; tests can have a hook of their own."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.test import override_settings

from slacker import Slacker, TransportError
from slacker.workers import DjangoHttpWorker
from tests.waiting import LIVENESS

from .conftest import AUDIENCE
from .helpers import Server, django, environment

CLIENT = """
import asyncio, django
django.setup()
from slacker import Slacker, run
from slacker.workers import DjangoHttpWorker
from tests.servers.project.models import Author
authors = Slacker(Author, DjangoHttpWorker()).objects
asyncio.run(run(authors.create(name="of a client")))
print(asyncio.run(run(authors.values_list("name", flat=True))))
"""


def client(database: dict[str, Any], server: Server, module: str) -> subprocess.CompletedProcess[str]:
    """Run a client with the settings of `module`, which writes to the database and prints what it finds there."""
    return subprocess.run(
        [sys.executable, "-c", CLIENT],
        env={**environment(database, SLACKER_SERVER=server.url), "DJANGO_SETTINGS_MODULE": module},
        capture_output=True,
        text=True,
        timeout=LIVENESS,
    )


@pytest.fixture(scope="module")
def server(database: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the project's database, with the audience that there is by default."""
    with Server("runslacker", database, tmp_path_factory.mktemp("log") / "log") as started:
        yield started


class Suite(NamedTuple):
    """What came of the project's test suite."""

    code: int
    output: str

    def passed(self, case: str, test: str) -> bool:
        return bool(re.search(rf"^{test} \(\S*\.{case}\.{test}\) \.\.\. ok$", self.output, re.MULTILINE))


@pytest.fixture(scope="module")
def suite(database: dict[str, Any], server: Server, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """Run the project's test suite while two servers of its database listen, one of them with SLACKER_AUDIENCE."""
    log = tmp_path_factory.mktemp("log") / "log"
    with Server("runslacker", database, log, SLACKER_AUDIENCE=AUDIENCE) as named:
        given = {"SERVER": server.url, "NAMED_SERVER": named.url, "NAME": AUDIENCE}
        return Suite(*django("test", "tests.servers.project.suite", "-v", "2", database=database, **given))


# --- test runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["TestCase", "TransactionTestCase", "SimpleTestCase"])
def test_a_test_run_does_not_reach_the_database(suite: Suite, kind: str) -> None:
    """A server of the project that happens to listen refuses the calls of a test run."""
    assert suite.passed(f"Reaching{kind}", "test_by_default"), suite.output


@pytest.mark.parametrize("kind", ["TestCase", "TransactionTestCase", "SimpleTestCase"])
def test_nor_by_its_audience(suite: Suite, kind: str) -> None:
    """It does so, too, when both sides have the same SLACKER_AUDIENCE."""
    assert suite.passed(f"Reaching{kind}", "test_by_name"), suite.output


def test_only_a_client_of_the_same_settings_reaches_it(suite: Suite, database: dict[str, Any], server: Server) -> None:
    """Outside of tests a client with the server's settings is served, and finds nothing there that tests had left."""
    served = client(database, server, "tests.servers.project.settings")
    assert "'of a client'" in served.stdout, served.stderr
    assert "'of a test'" not in served.stdout


@pytest.mark.parametrize(
    "test",
    [
        "test_both_sides_see_the_rows",
        "test_in_an_async_test",
        "test_many_calls_at_once",
        "test_the_address",
        "test_after_a_failure",
        "test_no_connection_is_left",
    ],
)
def test_hook_server(suite: Suite, test: str) -> None:
    """In a TransactionTestCase `hook_server` serves the test's own database, without any key in the settings."""
    assert suite.passed("HookServer", test), suite.output


def test_the_test_database_can_be_dropped(suite: Suite) -> None:
    """After all that no connection is left that would keep the test database from being dropped."""
    assert suite.code == 0, suite.output
    assert "Destroying test database" in suite.output
    assert "ResourceWarning" not in suite.output


# --- others ----------------------------------------------------------------------------------------------------------


def test_another_settings_module_is_another_environment(database: dict[str, Any], server: Server) -> None:
    """A client whose settings have another name is refused, though all of them are the same."""
    refused = client(database, server, "tests.servers.project.staging")
    assert "TransportError" in refused.stderr
    assert "the audience" in refused.stderr


def test_another_database_is_another_environment(server: Server, tmp_path: Path) -> None:
    """A client with another database is refused, and nothing runs."""
    ran = tmp_path / "ran"

    async def call() -> None:
        async with DjangoHttpWorker(server.url) as worker:
            await Slacker(Path.touch, worker)(ran)

    with (
        override_settings(SLACKER_AUDIENCE=None),
        pytest.raises(TransportError, match="the audience") as caught,
    ):
        asyncio.run(call())
    assert (caught.value.status, ran.exists()) == (403, False)
