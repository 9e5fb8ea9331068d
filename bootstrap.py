"""From a fresh checkout to the running demo, or to the tests, with nothing but Python 3.11 or later.

    python3 bootstrap.py demo [options]    serve the cities of the world on http://127.0.0.1:8888/
    python3 bootstrap.py test [options]    run the tests

The first call makes a virtual environment, .venv in the checkout, and installs the checkout there with what the job
needs. Later calls do so only after the requirements have changed. Options go to examples/cities/serve.py or to pytest,
whose exit code is the command's.
"""

# An older Python must be able to read this file to the end, to say what is wrong: no f-strings here.

import hashlib
import importlib.util
import os
import subprocess
import sys
import venv
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent
VENV = CHECKOUT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def main() -> None:
    """Install what the job needs, then become the job."""
    job, options = "".join(sys.argv[1:2]), sys.argv[2:]
    if job not in ("demo", "test"):
        fail(__doc__.strip(), code=2)
    if sys.version_info < (3, 11):  # noqa: UP036  whoever has an older one tries it with that
        fail("Python 3.11 or later is needed, this is", sys.version.split()[0], "at", sys.executable)
    try:
        install(job)
    except KeyboardInterrupt:
        fail("Stopped. The next call takes it up again.", code=130)
    if job == "demo":
        become(str(CHECKOUT / "examples" / "cities" / "serve.py"), *options)
    os.chdir(str(CHECKOUT))  # where pytest looks for its settings
    become("-m", "pytest", *options)


def install(extra: str) -> None:
    """Install the checkout with `extra` in its environment, unless that was done and nothing has changed since."""
    stamp = VENV / ("installed-" + extra)
    state = fingerprint()
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == state:
        return
    if importlib.util.find_spec("ensurepip") is None:
        package = "python{}.{}-venv".format(*sys.version_info)
        fail("This Python comes without ensurepip. On Debian and Ubuntu, install it by: apt-get install", package)
    if not PYTHON.exists():  # or it is a link to a Python that is gone
        say("Making a virtual environment in", VENV)
        venv.create(str(VENV), clear=True, symlinks=os.name != "nt")
    say("Installing slacker[" + extra + "]; the first time this takes a minute or two")
    run("-m", "ensurepip")
    run("-m", "pip", "install", "--disable-pip-version-check", "--editable", str(CHECKOUT) + "[" + extra + "]")
    stamp.write_text(state)


def fingerprint() -> str:
    """Return a digest of what an installation depends on, its place included."""
    parts = [sys.version.encode(), str(CHECKOUT).encode()]
    parts += [(CHECKOUT / name).read_bytes() for name in ("setup.py", "pyproject.toml")]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def run(*arguments: str) -> None:
    """Run the environment's Python silently, unless it fails."""
    done = subprocess.run([str(PYTHON), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        say(done.stdout.decode(errors="replace"))
        fail("Installing failed, the lines above say why. Afterwards run the same command again.")


def become(*arguments: str) -> None:
    """Replace this process by the environment's Python; on Windows, which cannot do that, wait for it."""
    command = [str(PYTHON), *arguments]
    if os.name == "nt":
        sys.exit(subprocess.call(command))
    os.execv(command[0], command)


def say(*words: object) -> None:
    """Print `words` at once: what is still in a buffer is lost when this process is replaced."""
    print(*words, flush=True)


def fail(*words: object, code: int = 1) -> None:
    """Print `words` where errors go, and exit with `code`."""
    print(*words, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
