"""The README holds: its blocks run in the order they stand in, it renders, and what it and its kin name exists."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import docutils.core
import docutils.nodes
import pytest

HERE = Path(__file__).parent
README = HERE.parent / "README.rst"
CONTRIBUTING = HERE.parent / "CONTRIBUTING.rst"

# Runs the blocks given as JSON on standard input in one namespace, each that awaits on a loop of its own, as
# ``python -m asyncio`` would. Django is set up as the README presupposes.
RUNNER = """
import ast, asyncio, inspect, json, os, sys, tempfile
import django
from django.conf import settings

with tempfile.TemporaryDirectory() as folder:
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(folder, "readme.sqlite3")}},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    )
    django.setup()
    from django.core.management import call_command
    from django.contrib.auth.models import Group, User
    call_command("migrate", verbosity=0)
    User.objects.create_user("vasia", is_staff=True)
    User.objects.create_user("petya")
    Group.objects.create(name="editors")
    from slacker.workers import DjangoThreadWorker

    namespace = {"asyncio": asyncio, "__name__": "readme"}

    async def run(code):
        result = eval(code, namespace)
        if inspect.iscoroutine(result):
            await result
        await asyncio.sleep(0)
        await DjangoThreadWorker().aclose()  # lets callbacks of proceed() arrive, and the file be removed

    for number, block in enumerate(json.load(sys.stdin), 1):
        code = compile(block, f"<block {number} of the README>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if "asyncio.run(" in block:
            exec(code, namespace)
        else:
            asyncio.run(run(code))
"""


def read(path: Path) -> docutils.nodes.document:
    settings = {"halt_level": 2, "report_level": 2, "syntax_highlight": "short"}
    return docutils.core.publish_doctree(path.read_text(), settings_overrides=settings)


@pytest.fixture(scope="module")
def document() -> docutils.nodes.document:
    return read(README)


def blocks(document: docutils.nodes.document, language: str) -> list[str]:
    """Return the blocks of a language, but those of the hook: tests/servers follows these in a project of its own."""
    return [
        block.astext()
        for block in document.findall(docutils.nodes.literal_block)
        if language in block["classes"] and not any(name.startswith("hook-") for name in block["names"])
    ]


def test_the_python_blocks_run_as_pasted(document: docutils.nodes.document) -> None:
    """Every Python block runs, after those before it."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUNNER],
        input=json.dumps(blocks(document, "python")),
        capture_output=True,
        text=True,
        cwd=README.parent,
        timeout=60,
    )

    assert ran.stderr == ""
    assert ran.stdout == "{'year': 2011, 'total': 4022}\n[4050, 4052]\nvasia\nvasia\npetya\n"


def test_it_renders_without_a_warning(document: docutils.nodes.document) -> None:
    """The README is sound reStructuredText: reading it raises on warnings, and it has a title."""
    assert document["title"] == "tornado-slacker"


@pytest.mark.parametrize("name", ["CHANGES.rst", "CONTRIBUTING.rst"])
def test_the_others_render_without_a_warning(name: str) -> None:
    """So are the texts beside it."""
    assert read(HERE.parent / name)["title"] == name.removesuffix(".rst").capitalize()


def test_the_first_commands_are_shown(document: docutils.nodes.document) -> None:
    """How to install it and the two commands of a newcomer stand in the README, as blocks of their own."""
    shown = blocks(document, "console")
    assert shown[0] == '$ pip install ".[django,server]"'
    assert shown[1:3] == ["$ python3 bootstrap.py demo", "$ python3 bootstrap.py test"]


def test_the_map_names_files_that_exist() -> None:
    """Every file that the map of the code names exists, and every module of the workers is on it."""
    text = CONTRIBUTING.read_text().partition("Map of the code")[2].partition("Imports point")[0]
    named = [word.strip(":;,") for word in text.split() if word.strip(":;,").endswith(".py")]
    package = README.parent / "slacker"

    assert len(named) > 10
    assert [name for name in named if not list(package.rglob(name.rpartition("/")[2]))] == []
    workers = {path.name for path in (package / "workers").rglob("*.py")} - {"__init__.py"}
    assert workers - {name.rpartition("/")[2] for name in named} == set()


@pytest.mark.parametrize("text", ["README.rst", "CHANGES.rst", "CONTRIBUTING.rst"])
def test_no_sentence_of_a_draft_is_left(text: str) -> None:
    """What is to be filled in, was."""
    words = (README.parent / text).read_text().split()

    assert [word for word in words if word in {"TODO", "FIXME", "XXX", "MEASURED"}] == []
