"""The architecture as data: what each module may import, held against what it does import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import slacker
from tests.unmeasured import unmeasured

PACKAGE = Path(slacker.__file__).parent

GUARDED = {"asyncio", "pickle"}
"""Modules of the standard library that are not everybody's: only what decides about loops or bytes may have them."""


class Layer(NamedTuple):
    """What a module may import: of slacker, and besides of the standard library but `GUARDED`."""

    inside: str = ""
    outside: str = ""


LAYERS = {
    # What is recorded and what came of it: no loop, no bytes, no framework.
    "errors": Layer(),
    "arguments": Layer(),
    "nesting": Layer(),
    "describe": Layer("nesting"),
    "steps": Layer("describe nesting"),
    "outcome": Layer("errors"),
    "replay": Layer("outcome steps"),
    "chain": Layer("describe outcome replay steps"),
    "streaming": Layer("chain outcome"),
    # Bytes. One module pickles, another signs and has never heard of pickle; the hook has heard of no framework.
    "wire.pickling": Layer("", "pickle"),
    "wire.requests": Layer("chain errors outcome wire.pickling"),
    "wire.heads": Layer("chain errors outcome wire.pickling wire.requests"),
    "wire.replies": Layer("errors outcome wire.pickling"),
    "wire.answers": Layer("chain errors outcome wire.pickling wire.replies"),
    "wire": Layer("chain errors outcome streaming wire.answers wire.heads wire.replies wire.requests"),
    "keys": Layer(),
    "signing": Layer("errors keys"),
    "nonces": Layer(),
    "hook": Layer("nonces signing wire"),
    "wsgi": Layer("hook", "_typeshed"),
    # The one place with magic, and what it records, which know workers only by their base and the one of nobody else.
    "recipe": Layer("chain nesting workers.base workers.local"),
    "stream": Layer("chain workers.base", "asyncio"),
    "proxy": Layer("chain nesting recipe stream workers.base", "asyncio"),
    "functions": Layer("arguments chain proxy recipe stream workers.base"),
    # Stands alone.
    "adisp": Layer("", "asyncio"),
    # Workers get chains; they have not heard of proxies, and but for one not of Django.
    "workers.base": Layer("chain outcome errors", "asyncio"),
    "workers.inbox": Layer("chain outcome errors workers.base", "asyncio"),
    "workers.jobs": Layer("chain outcome errors workers.inbox", "asyncio"),
    "workers.pool": Layer("chain outcome errors workers.base workers.inbox workers.jobs", "asyncio"),
    "workers.channel": Layer("chain outcome workers.inbox", "asyncio"),
    "workers.local": Layer(
        "arguments chain outcome errors streaming wire workers.base workers.channel workers.inbox workers.pool",
        "asyncio",
    ),
    "workers.transfer": Layer("chain errors outcome wire workers.base workers.decoding"),
    "workers.executor": Layer("chain outcome errors wire workers.base workers.inbox workers.transfer", "asyncio"),
    "workers.dask": Layer("chain errors workers.executor workers.transfer", "distributed"),
    "workers.child": Layer("errors wire workers.transfer"),
    "workers.processes": Layer(
        "arguments chain outcome errors workers.base workers.child workers.local workers.pool workers.transfer",
        "asyncio",
    ),
    "workers.decoding": Layer("outcome signing wire", "asyncio"),
    "workers.loops": Layer("", "asyncio"),
    "workers.http.response": Layer("", "httptools"),
    "workers.http.connection": Layer("workers.http.response", "asyncio httptools"),
    "workers.http.connecting": Layer("workers.http.connection", "asyncio"),
    "workers.http.spread": Layer("workers.http.connection", "asyncio"),
    "workers.http.transport": Layer(
        "workers.loops workers.http.connecting workers.http.connection workers.http.spread", "asyncio"
    ),
    "workers.http.endpoint": Layer("errors signing workers.http.transport"),
    "workers.http.call": Layer("chain outcome wire workers.http.endpoint", "asyncio"),
    "workers.http.line": Layer("errors outcome wire workers.http.call", "asyncio"),
    "workers.http.sender": Layer(
        "chain signing wire workers.decoding workers.http.call workers.http.endpoint workers.http.transport", "asyncio"
    ),
    "workers.http.streams": Layer(
        "chain errors outcome signing wire workers.decoding "
        "workers.http.endpoint workers.http.line workers.http.sender workers.http.transport",
        "asyncio",
    ),
    "workers.http.worker": Layer(
        "arguments chain outcome errors signing wire workers.base workers.loops workers.http.call "
        "workers.http.endpoint workers.http.line workers.http.sender workers.http.streams workers.http.transport",
        "asyncio",
    ),
    "workers.http": Layer("workers.http.transport workers.http.worker"),
    "workers.django_engines": Layer("chain django_backend.scope workers.base", "asyncio django"),
    "workers.django_processes": Layer(
        "django_backend.environment django_backend.remote django_backend.transactions workers.child workers.processes"
    ),
    "workers.django": Layer(
        "arguments chain outcome signing "
        "workers.base workers.django_engines workers.django_processes workers.local "
        "workers.http.endpoint workers.http.transport workers.http.worker "
        "django_backend.caller django_backend.conf django_backend.environment django_backend.keyrings "
        "django_backend.remembered django_backend.remote django_backend.scope django_backend.transactions",
        "asyncio django",
    ),
    # Django's care for work, wherever that runs: no loop and no worker, but in what users test with.
    "django_backend": Layer(),
    "django_backend.expressions": Layer("nesting", "django"),
    "django_backend.results": Layer("nesting streaming", "django"),
    "django_backend.columns": Layer(),
    "django_backend.rebuild": Layer("django_backend.columns", "django"),
    "django_backend.rows": Layer("django_backend.columns django_backend.rebuild", "django"),
    "django_backend.transactions": Layer("django_backend.conf", "django"),
    "django_backend.caller": Layer("", "django"),
    "django_backend.scope": Layer(
        "chain errors outcome streaming django_backend.caller django_backend.expressions django_backend.results "
        "django_backend.transactions",
        "django",
    ),
    "django_backend.conf": Layer("arguments hook", "django"),
    "django_backend.keyrings": Layer("keys django_backend.conf", "django"),
    "django_backend.environment": Layer("django_backend.conf", "django"),
    "django_backend.remembered": Layer("django_backend.conf django_backend.environment", "django"),
    "django_backend.remote": Layer(
        "chain errors hook outcome wire django_backend.caller django_backend.conf django_backend.environment "
        "django_backend.keyrings django_backend.remembered django_backend.rows django_backend.scope",
        "django",
    ),
    "django_backend.process": Layer("wire django_backend.remote django_backend.scope", "django"),
    "django_backend.views": Layer("wsgi django_backend.remote", "django"),
    "django_backend.urls": Layer("django_backend.views", "django"),
    "django_backend.server": Layer("wsgi django_backend.remote", "django"),
    "django_backend.lifeline": Layer("", "django"),
    "django_backend.checks": Layer("django_backend.conf django_backend.environment django_backend.keyrings", "django"),
    "django_backend.apps": Layer("django_backend.checks", "django"),
    "django_backend.management": Layer(),
    "django_backend.management.commands": Layer(),
    "django_backend.management.commands.runslacker": Layer(
        "django_backend.conf django_backend.keyrings django_backend.lifeline", "django granian watchfiles"
    ),
    "django_backend.testing": Layer(
        "chain outcome wsgi django_backend.caller django_backend.remote django_backend.scope "
        "django_backend.transactions workers.base workers.local",
        "asgiref asyncio django",
    ),
    # The flat faces.
    "workers": Layer(
        "workers.base workers.dask workers.local workers.executor workers.http workers.processes workers.django"
    ),
    "": Layer("adisp errors functions proxy recipe workers.base"),
}
"""By name within slacker. Whoever adds a module decides here where it stands."""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(source: str, name: str, *, package: bool = False) -> Iterator[str]:
    """Yield the absolute names of all that `source` imports, wherever in it, of slacker's own each module by itself.

    Args:
        source: of the module.
        name: of the module, within slacker.
        package: whether it is the ``__init__`` of a package.
    """
    here = ["slacker", *name.split(".")] if name else ["slacker"]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = here[: len(here) - node.level + package] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner.removeprefix("slacker.") in MODULES else base


def violations(source: str, name: str, layer: Layer, *, package: bool = False) -> set[str]:
    """Return what `source` imports beyond what `layer` allows."""
    inside = {f"slacker.{module}" for module in layer.inside.split()}
    outside = (sys.stdlib_module_names - GUARDED) | set(layer.outside.split())
    return {
        found
        for found in imports(source, name, package=package)
        if found not in inside and found.partition(".")[0] not in outside
    }


# --- the code --------------------------------------------------------------------------------------------------------


def test_every_module_has_a_layer() -> None:
    """The table lists every module that there is, and no other."""
    assert set(LAYERS) == set(MODULES)


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str) -> None:
    """A module imports only what its layer allows."""
    path = MODULES[name]
    found = violations(path.read_text(), name, LAYERS[name], package=path.name == "__init__.py")
    assert found == set()


# --- the check itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "name", "found"),
    [
        ("import pickle", "chain", {"pickle"}),
        ("from .chain import Chain", "outcome", {"slacker.chain"}),
        ("from .recipe import Recipe", "nesting", {"slacker.recipe"}),
        ("import pickle as p", "chain", {"pickle"}),
        ("from pickle import loads", "proxy", {"pickle"}),
        ("import asyncio.events", "outcome", {"asyncio.events"}),
        ("import django.db, os", "proxy", {"django.db"}),
        ("import tornado", "workers.base", {"tornado"}),
        ("from .proxy import Slacker", "chain", {"slacker.proxy"}),
        ("from . import proxy", "chain", {"slacker.proxy"}),
        ("from . import Slacker", "chain", {"slacker"}),
        ("from .. import proxy", "workers.base", {"slacker.proxy"}),
        ("from ..proxy import Slacker", "workers.base", {"slacker.proxy"}),
        ("from .local import DummyWorker", "workers.base", {"slacker.workers.local"}),
        ("import slacker.proxy", "errors", {"slacker.proxy"}),
        ("from slacker import Slacker", "errors", {"slacker"}),
        ("from slacker.workers import django", "proxy", {"slacker.workers.django"}),
        ("def later():\n    from .proxy import Slacker", "chain", {"slacker.proxy"}),
        ("if TYPE_CHECKING:\n    from .proxy import Slacker", "chain", {"slacker.proxy"}),
        ("try:\n    import uvloop\nexcept ImportError:\n    pass", "workers.base", {"uvloop"}),
        ("from .outcome import Error\nimport os.path", "chain", set()),
        ("from ..chain import Chain\nimport asyncio", "workers.local", set()),
    ],
)
def test_planted(source: str, name: str, found: set[str]) -> None:
    """The check sees an import in any form and any place, and lets the allowed pass."""
    assert violations(source, name, LAYERS[name]) == found


@pytest.mark.parametrize(
    ("source", "name", "found"),
    [
        ("from .pool import Pool", "workers", {"slacker.workers.pool"}),
        ("from ..proxy import Slacker", "workers", {"slacker.proxy"}),
        ("from .chain import Chain", "", {"slacker.chain"}),
        ("from . import adisp, errors", "", set()),
    ],
)
def test_planted_in_a_package(source: str, name: str, found: set[str]) -> None:
    """The check knows what relative imports mean in an ``__init__``."""
    assert violations(source, name, LAYERS[name], package=True) == found


# --- what is loaded when ---------------------------------------------------------------------------------------------

OPTIONAL = {"asgiref", "distributed", "django", "granian", "httptools", "multiprocessing", "tornado"}
"""What slacker can use and does not need, or takes its time to load."""


def loaded_by(code: str) -> set[str]:
    """Return which of `OPTIONAL` a new interpreter has loaded after `code`."""
    code += f"\nimport sys; print(*{OPTIONAL} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    environment = unmeasured()  # coverage has modules of its own loaded
    done = subprocess.run(command, cwd=PACKAGE.parent, env=environment, check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("code", ["import slacker", "import slacker.workers", "from slacker.workers import *"])
def test_imports_nothing_optional(code: str) -> None:
    """Importing slacker loads none of what it does not need."""
    assert loaded_by(code) == set()


def test_loads_django_on_first_use() -> None:
    """Django is loaded when a worker for it is asked for."""
    assert "django" in loaded_by("import slacker.workers; slacker.workers.DjangoThreadWorker")
