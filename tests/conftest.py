"""What every test gets: a loop for ``async def`` tests, a detector of blocking calls on it, no silent skips in CI.

And one PostgreSQL for all that want a database in it.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx

from tests.postgres import PostgreSQL, running_postgresql


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test on a loop of its own; it must leave no task behind."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def test() -> None:
        await asyncio.wait_for(pyfuncitem.obj(**arguments), 60)  # liveness bound
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"the test left tasks behind: {left}"

    asyncio.run(test())
    return True


@pytest.fixture(autouse=True)
def blocking_calls_on_the_loop_fail() -> Iterator[None]:
    """Fail a test in which slacker's own code makes a blocking call while its thread runs a loop."""
    with blockbuster_ctx("slacker") as detector:
        for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):  # coverage's own, when it measures
            detector.functions[name].can_block_in("coverage/collector.py", {"lock_data"})
        yield


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    """Run a PostgreSQL, in which each package makes a database of its own."""
    with running_postgresql() as server:
        yield server


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skips_are_failures() and terminalreporter.stats.get("skipped"):
        terminalreporter.section("skipped, but SLACKER_NO_SKIPS is set: failed")


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if _skips_are_failures() and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _skips_are_failures() -> bool:
    return bool(os.environ.get("SLACKER_NO_SKIPS"))
