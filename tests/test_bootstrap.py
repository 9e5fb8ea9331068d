"""bootstrap.py, the way from a checkout to the demo or to the tests, with nothing from the network.

Each test has a small checkout of its own, in whose environment Python is a script that notes how it is called.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BOOTSTRAP = Path(__file__).parents[1] / "bootstrap.py"

FAKE_PYTHON = """\
#!/bin/sh
cd "${0%/*}/../.."
echo "$@" >> calls
case "$2" in
pytest) exit 5 ;;
pip) if [ -e no-network ]; then echo "no matching distribution"; exit 1; fi ;;
ensurepip) if [ -e interrupt ]; then kill -INT $PPID; fi ;;
esac
"""


class Checkout:
    """A checkout whose environment is ready, but for the installation."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.environment = place / ".venv"
        shutil.copy(BOOTSTRAP, place)
        for name in ("setup.py", "pyproject.toml"):
            (place / name).write_text("requirements = 1")
        python = self.environment / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(FAKE_PYTHON)
        python.chmod(0o755)

    def bootstrap(self, *arguments: str, after: str = "") -> subprocess.CompletedProcess[str]:
        """Run bootstrap.py, in a Python that was changed by the code in `after`."""
        script = str(self.place / "bootstrap.py")
        run = f"import runpy, sys; sys.argv[0] = {script!r}; {after}\nrunpy.run_path({script!r}, run_name='__main__')"
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", run, *arguments],
            cwd=self.place.parent,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[str]:
        """How the environment's Python was called since the last time that this was asked."""
        log = self.place / "calls"
        calls = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return calls


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    place = tmp_path / "checkout"
    place.mkdir()
    return Checkout(place)


@pytest.fixture
def installed(checkout: Checkout) -> Checkout:
    """One in which both jobs were done before."""
    for job in ("demo", "test"):
        checkout.bootstrap(job)
    checkout.calls()
    return checkout


@pytest.mark.parametrize("arguments", [[], ["serve"], ["--help"]])
def test_usage(checkout: Checkout, arguments: list[str]) -> None:
    """Without a job, or with one that it does not know, it shows both and ends with code 2."""
    done = checkout.bootstrap(*arguments)

    assert done.returncode == 2
    assert "python3 bootstrap.py demo [options]" in done.stderr
    assert "python3 bootstrap.py test [options]" in done.stderr
    assert checkout.calls() == []


def test_old_python(checkout: Checkout) -> None:
    """With an older Python it says which one is needed, which one this is, and where that is."""
    done = checkout.bootstrap("demo", after="sys.version_info = (3, 10, 4); sys.version = '3.10.4 (main)'")

    assert done.returncode == 1
    assert done.stderr == f"Python 3.11 or later is needed, this is 3.10.4 at {sys.executable}\n"
    assert checkout.calls() == []


def test_old_python_can_read_it() -> None:
    """It is written in what an older Python understands, which must come as far as that message."""
    tree = ast.parse(BOOTSTRAP.read_text(), feature_version=(3, 7))

    assert not [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]


def test_no_ensurepip(checkout: Checkout) -> None:
    """With a Python that comes without ensurepip it names the package that brings it."""
    done = checkout.bootstrap("demo", after="sys.modules['ensurepip'] = None")

    assert done.returncode == 1
    assert "apt-get install python{}.{}-venv".format(*sys.version_info) in done.stderr
    assert checkout.calls() == []


def test_installation(checkout: Checkout) -> None:
    """The first time it installs the checkout, editable and with the job's extra, and then does the job."""
    done = checkout.bootstrap("test")

    ensured, installed, ran = checkout.calls()
    assert ensured == "-m ensurepip"
    assert installed.startswith("-m pip install ")
    assert installed.endswith(f" --editable {checkout.place}[test]")
    assert ran == "-m pytest"
    assert done.stderr == ""


def test_new_environment(checkout: Checkout) -> None:
    """Without an environment it makes one of the Python that runs it."""
    shutil.rmtree(checkout.environment)  # and what comes next, the real ensurepip, is cut off
    checkout.bootstrap("demo", after="import subprocess; subprocess.run = sys.exit")

    python = checkout.environment / "bin" / "python"
    assert python.resolve() == Path(sys.executable).resolve()


def test_failing_installation(checkout: Checkout) -> None:
    """When pip fails it shows what pip said, and what to do."""
    (checkout.place / "no-network").touch()
    done = checkout.bootstrap("demo")

    assert done.returncode == 1
    assert "no matching distribution" in done.stdout
    assert done.stderr == "Installing failed, the lines above say why. Afterwards run the same command again.\n"


def test_failed_installation_is_repeated(checkout: Checkout) -> None:
    """After pip has failed the next call installs."""
    (checkout.place / "no-network").touch()
    checkout.bootstrap("demo")
    (checkout.place / "no-network").unlink()
    checkout.calls()
    checkout.bootstrap("demo")

    assert [call.split()[1] for call in checkout.calls()[:2]] == ["ensurepip", "pip"]


@pytest.mark.parametrize("job", ["demo", "test"])
def test_second_call_installs_nothing(installed: Checkout, job: str) -> None:
    """When nothing has changed it goes straight to the job, and says nothing itself."""
    done = installed.bootstrap(job)

    assert len(installed.calls()) == 1
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("name", ["setup.py", "pyproject.toml"])
def test_changed_requirements_are_installed(installed: Checkout, name: str) -> None:
    """After the requirements have changed it installs again."""
    (installed.place / name).write_text("requirements = 2")
    installed.bootstrap("demo")

    assert "-m ensurepip" in installed.calls()


def test_moved_checkout_is_installed(installed: Checkout) -> None:
    """A checkout that was moved is installed at its new place."""
    installed.place = installed.place.rename(installed.place.with_name("elsewhere"))
    installed.bootstrap("demo")

    assert f"{installed.place}[demo]" in installed.calls()[1]


def test_demo_options(installed: Checkout) -> None:
    """What follows ``demo`` goes to serve.py."""
    installed.bootstrap("demo", "--port", "0", "--worker", "thread")

    serve = installed.place / "examples" / "cities" / "serve.py"
    assert installed.calls() == [f"{serve} --port 0 --worker thread"]


def test_test_options(installed: Checkout) -> None:
    """What follows ``test`` goes to pytest, whose exit code is the command's."""
    done = installed.bootstrap("test", "-k", "signing")

    assert installed.calls() == ["-m pytest -k signing"]
    assert done.returncode == 5


def test_interruption(checkout: Checkout) -> None:
    """Ctrl-C during the installation ends it without a traceback."""
    (checkout.place / "interrupt").touch()
    done = checkout.bootstrap("demo")

    assert done.returncode == 130
    assert done.stderr == "Stopped. The next call takes it up again.\n"
