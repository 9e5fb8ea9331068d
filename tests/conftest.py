"""What every test gets: a loop for ``async def`` tests, a detector of blocking calls on it, no silent skips in CI.

And one PostgreSQL for all that want a database in it.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
from collections.abc import Iterator

import coverage
import pytest
from blockbuster import BlockBusterFunction, blockbuster_ctx

from tests.postgres import PostgreSQL, running_postgresql
from tests.waiting import LIVENESS

ONCE = (
    *("tests/examples/", "tests/http/test_leaks.py", "tests/http/test_memory.py", "tests/http/test_transport.py"),
    *("tests/django/test_leaks.py", "tests/workers/test_leaks.py", "tests/remote/test_mutations.py"),
    *("tests/servers/test_strangers.py", "tests/servers/test_life.py", "tests/servers/test_readme_hook.py"),
    *("tests/servers/test_streams.py", "tests/servers/test_environments.py"),
    *("tests/workers/test_dask.py", "tests/test_benchmarks.py", "tests/test_bootstrap.py"),
)
"""What takes long and hardly depends on the Python, besides all that needs a Dask cluster: CI runs these on one Python,
and the rest, ``-m "not once"``, on all."""


def pytest_configure() -> None:
    """Let interrupts through: where tests run in the background of a shell they are ignored, and by children too."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(ONCE) or "DaskWorker" in item.nodeid:
            item.add_marker("once")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test on a loop of its own; it must leave no task behind."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def test() -> None:
        # A liveness bound, and more than that of one wait, which tells more.
        await asyncio.wait_for(pyfuncitem.obj(**arguments), 2 * LIVENESS)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"the test left tasks behind: {left}"

    asyncio.run(test())
    return True


@pytest.fixture(autouse=True)
def blocking_calls_on_the_loop_fail() -> Iterator[None]:
    """Fail a test in which slacker's own code makes a blocking call while its thread runs a loop."""
    with blockbuster_ctx("slacker") as detector:
        for name in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
            allow_measuring(detector.functions[name])
        yield


def allow_measuring(function: BlockBusterFunction) -> None:
    """Let coverage take its lock, as its tracer does in whatever function it comes to: others may hold it just then."""
    measuring = coverage.Coverage.current()
    lock = measuring and measuring._collector and measuring._collector.data_lock
    if lock:
        detects = function.can_block_predicate
        function.deactivate()
        function.can_block_predicate = lambda *args, **options: args[0] is lock or detects(*args, **options)
        function.activate()


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
