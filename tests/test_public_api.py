"""The public names: all there, all documented, and none changed by accident."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from importlib import metadata
from importlib.resources import files
from types import FunctionType
from typing import Any

import pytest

import slacker
import slacker.workers

MODULES = [
    *["slacker", "slacker.adisp", "slacker.chain", "slacker.errors", "slacker.functions", "slacker.outcome"],
    *["slacker.workers", "slacker.workers.base", "slacker.workers.django", "slacker.workers.executor"],
    *["slacker.workers.local", "slacker.workers.processes"],
    *["slacker.django_backend.results", "slacker.django_backend.scope", "slacker.django_backend.testing"],
]
"""Where users and writers of workers import from."""

every_module = pytest.mark.parametrize("name", MODULES)


def public(module: str) -> dict[str, Any]:
    loaded = importlib.import_module(module)
    return {name: getattr(loaded, name) for name in loaded.__all__}


PUBLIC = {
    f"{module}.{name}": value
    for module in MODULES
    for name, value in public(module).items()
    if isinstance(value, type | FunctionType)
}

METHODS = {
    f"{kind.__name__}.{name}": getattr(kind, name)
    for kind in [*public("slacker").values(), *public("slacker.workers").values()]
    if isinstance(kind, type)
    for name, value in vars(kind).items()
    if isinstance(value, FunctionType | staticmethod) and not name.startswith("_")
}


@every_module
def test_all_is_sorted(name: str) -> None:
    """``__all__`` is sorted and names nothing twice."""
    names = importlib.import_module(name).__all__
    assert list(names) == sorted(set(names))


@every_module
def test_all_is_complete(name: str) -> None:
    """``__all__`` has every public class and function that the module defines."""
    module = importlib.import_module(name)
    defined = {
        key
        for key, value in vars(module).items()
        if issubclass(type(value), type | FunctionType) and value.__module__ == name and not key.startswith("_")
    }
    assert defined - set(module.__all__) == set()


def test_names_of_slacker() -> None:
    """The public names of slacker are these."""
    assert " ".join(slacker.__all__) == (
        "DeadlineExceeded ProtocolError QueueFull Refused RemoteError Slacker SlackerError SlackerException "
        "TransportError Worker WorkerClosed adisp attr batch chain_of options run stream"
    )


def test_errors_are_flat() -> None:
    """Every error can be imported from slacker itself."""
    assert set(slacker.errors.__all__) <= set(slacker.__all__)


# --- documentation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PUBLIC)
def test_docstring(path: str) -> None:
    """Every public class and function has a docstring of its own, not a dataclass's signature."""
    documented = PUBLIC[path]
    generated = f"{documented.__name__}("
    assert not (documented.__doc__ or generated).startswith(generated)


@pytest.mark.parametrize("path", METHODS)
def test_docstring_of_method(path: str) -> None:
    """Every public method of what users call has a docstring, its own or that of what it implements."""
    method = METHODS[path]
    assert inspect.getdoc(method) or inspect.getdoc(getattr(slacker.Worker, method.__name__))


# --- signatures ------------------------------------------------------------------------------------------------------

SIGNATURES = {
    slacker.Slacker: "(obj, worker=None)",
    slacker.Slacker.fetch: "(self)",
    slacker.Slacker.proceed: "(self, callback=None, on_error=None)",
    slacker.attr: "(q, name)",
    slacker.chain_of: "(q)",
    slacker.options: "(q, worker=None, *, timeout=None, atomic=None)",
    slacker.batch: "(*qs, return_exceptions=False)",
    slacker.run: "(q)",
    slacker.Worker.run: "(self, chain)",
    slacker.Worker.submit: "(self, chain)",
    slacker.Worker.aclose: "(self, timeout=10.0)",
    slacker.Worker.check_open: "(self)",
    slacker.workers.DummyWorker: "(*, pickled=False)",
    slacker.workers.HttpWorker: (
        "(url, *, key, max_connections=8, max_queue=1000, timeout=20.0, max_batch=4, max_reply=268435456, "
        "max_request=16777216, audience='', transport=None, host=None)"
    ),
    slacker.workers.DjangoHttpWorker: (
        "(url=None, *, key=None, max_connections=None, max_queue=None, max_batch=None, timeout=None, max_reply=None, "
        "audience=None, transport=None, host=None)"
    ),
    slacker.workers.ThreadWorker: "(max_workers=None, *, thread_name_prefix='slacker', max_queue=None)",
    slacker.workers.ThreadWorker.aclose: "(self, timeout=10.0)",
    slacker.workers.ExecutorWorker: "(executor, *, shutdown=False)",
    slacker.workers.ProcessWorker: "(max_workers=None, *, max_queue=None)",
    slacker.workers.ProcessWorker.aclose: "(self, timeout=10.0)",
    slacker.workers.DjangoProcessWorker: "(max_workers=None, *, max_queue=None)",
    slacker.workers.DjangoThreadWorker: "(max_workers=None, *, thread_name_prefix=None, max_queue=None)",
    slacker.workers.DjangoThreadWorker.aclose: "(self, timeout=10.0)",
    slacker.adisp.process: "(func)",
    slacker.adisp.async_: "(func=None, *, cbname='callback', cbwrapper=Ellipsis)",
    slacker.adisp.CallbackDispatcher: "(generator)",
    slacker.SlackerError: "(message='', *, executed=Ellipsis)",
    slacker.WorkerClosed: "(message='', *, executed=Ellipsis)",
    slacker.QueueFull: "(message='', *, executed=Ellipsis)",
    slacker.DeadlineExceeded: "(message='', *, executed=Ellipsis)",
    slacker.TransportError: "(message='', *, status=None, executed=Ellipsis)",
    slacker.ProtocolError: "(message='', *, executed=Ellipsis)",
    slacker.Refused: "(message='', *, reason='', executed=Ellipsis, details=None)",
    slacker.RemoteError: "(type_name='', message='', *, executed=Ellipsis)",
    slacker.chain.Chain: "(root, steps=(), nested=(), options=Options(timeout=None, atomic=None))",
    slacker.chain.Chain.replay: "(self, base=None)",
    slacker.chain.Chain.outline: "(self)",
    slacker.chain.Attr: "(name)",
    slacker.chain.Call: "(args, kwargs)",
    slacker.chain.Item: "(key)",
}


def signature(function: Callable[..., object]) -> str:
    """Return the signature without types, which tests/typing holds; for a function as default stands Ellipsis."""
    whole = inspect.signature(function)
    bare = [
        parameter.replace(
            annotation=parameter.empty,
            default=... if isinstance(parameter.default, FunctionType) else parameter.default,
        )
        for parameter in whole.parameters.values()
    ]
    return str(whole.replace(parameters=bare, return_annotation=whole.empty))


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_signature(function: Callable[..., object]) -> None:
    """The parameters of what users call are these."""
    assert signature(function) == SIGNATURES[function]


# --- the package -----------------------------------------------------------------------------------------------------


def test_typed() -> None:
    """The package says that it has types."""
    assert files("slacker").joinpath("py.typed").is_file()


def test_version() -> None:
    """Where slacker is installed, it is installed under its own version."""
    assert {found.version for found in metadata.distributions(name="tornado-slacker")} <= {slacker.__version__}


def test_lazy_workers_are_listed() -> None:
    """`dir` shows the workers that are loaded on first use."""
    lazy = (
        "DjangoHttpWorker DjangoProcessWorker DjangoThreadWorker DjangoWorker ExecutorWorker HttpWorker ProcessWorker"
    )
    assert {*lazy.split(), *slacker.workers.__all__} <= set(dir(slacker.workers))


@pytest.mark.parametrize("module", [slacker, slacker.workers])
def test_unknown_name(module: object) -> None:
    """A name that is not there is missing in the ordinary way."""
    with pytest.raises(AttributeError, match="has no attribute 'NoSuchWorker'"):
        module.NoSuchWorker  # type: ignore[attr-defined]
