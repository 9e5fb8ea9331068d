"""What every worker promises that hands over bytes: how results, exceptions and arguments fare on the way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from slacker import DeadlineExceeded, Refused, RemoteError, Slacker, Worker
from slacker.wire import RemoteTraceback

from . import work
from .conftest import LOCAL, WORKERS
from .work import OutOfStock

REMOTE = [name for name in WORKERS if name not in LOCAL]
pytestmark = pytest.mark.parametrize("worker", REMOTE, indirect=True)


async def assert_works(worker: Worker) -> None:
    for value in range(20):
        assert await Slacker(work.echo, worker)(value) == value


# --- results -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        NotImplemented,
        ...,
        "text",
        {"nested": [("a", 2.5), {1, 2}, b"bytes"]},
        list(range(5_000)),
        work.Payload,
        work.echo,
        ValueError,
        ValueError("a value"),
        SystemExit(3),
        StopIteration("a value"),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_returns_an_equal_result(worker: Worker, value: Any) -> None:
    """What the work returns arrives equal, also when it is None, an exception or a class of exceptions."""
    result = await Slacker(work.echo, worker)(value)
    assert (type(result), repr(result)) == (type(value), repr(value))


def count_up() -> Iterator[int]:
    yield 1


def nested(depth: int) -> list[Any]:
    result: list[Any] = []
    for _ in range(depth):
        result = [result]
    return result


class RefusesToLoad:
    def __reduce__(self) -> tuple[Any, ...]:
        return work.fail, (LookupError, "no more of these")


class ExitsWhenPickled:
    def __reduce__(self) -> NoReturn:
        raise SystemExit(3)


@pytest.mark.parametrize(
    ("root", "args", "said"),
    [
        (threading.Lock, (), "lock"),
        (count_up, (), "generator"),
        (nested, (100_000,), "recursion"),
        (ExitsWhenPickled, (), "SystemExit"),
        (RefusesToLoad, (), "no more of these"),
    ],
    ids=["lock", "generator", "too deep", "exits", "does not load"],
)
async def test_says_which_result_cannot_come(worker: Worker, root: Any, args: tuple[Any, ...], said: str) -> None:
    """A result that cannot be pickled, or not be loaded, is a RemoteError that says so: the work ran.

    Django's processes refuse generators before that, as the work's own error.
    """
    is_refused = root is count_up and type(worker).__name__ == "DjangoProcessWorker"
    with pytest.raises(TypeError if is_refused else RemoteError, match=said) as caught:
        await Slacker(root, worker)(*args)
    assert is_refused or caught.value.executed is True
    await assert_works(worker)


class Obliging:
    def __getattr__(self, name: str) -> str:
        return name.upper()


async def test_asks_objects_that_make_up_their_attributes(worker: Worker) -> None:
    """A step is an attribute as any other, also where the object makes it when it is asked."""
    assert await Slacker(Obliging, worker)().title.lower() == "title"


# --- exceptions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        (KeyError, ("told",)),
        (TimeoutError, ("told",)),
        (work.TakesNoNote, ("told",)),
        (ExceptionGroup, ("told", [ValueError("a"), KeyError("b")])),
    ],
)
async def test_raises_what_the_work_raised(worker: Worker, kind: type[Exception], args: tuple[Any, ...]) -> None:
    """An exception that can be pickled arrives as itself, with what the far side saw as its cause."""
    with pytest.raises(kind, match="told") as caught:
        await Slacker(work.fail, worker)(kind, *args)
    assert (type(caught.value), repr(caught.value.args)) == (kind, repr(args))
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert not isinstance(caught.value, DeadlineExceeded)


def causes(error: BaseException) -> Iterator[BaseException]:
    while error.__cause__ is not None:
        yield (error := error.__cause__)


@pytest.mark.parametrize(
    ("kind", "args", "options", "text"),
    [
        (StopIteration, ("told",), {}, "told"),
        (StopAsyncIteration, ("told",), {}, "told"),
        (GeneratorExit, ("told",), {}, "told"),
        (SystemExit, ("told",), {}, "told"),
        (asyncio.CancelledError, ("told",), {}, "told"),
        (work.Odd, ("told",), {}, "told"),
        (BaseExceptionGroup, ("told", [SystemExit()]), {}, "told"),
        (OutOfStock, ("Emma",), {"left": 2}, "only 2 of 'Emma' left"),
        (work.ReduceRaises, ("told",), {}, "told"),
    ],
)
async def test_names_what_cannot_be_raised(
    worker: Worker, kind: type[BaseException], args: tuple[Any, ...], options: dict[str, Any], text: str
) -> None:
    """What means something to a loop, or does not survive the way, arrives as RemoteError that says what it was."""
    with pytest.raises(RemoteError, match=text) as caught:
        await Slacker(work.fail, worker)(kind, *args, **options)
    assert caught.value.executed is True
    assert caught.value.type_name.endswith(kind.__name__)
    assert caught.value.__notes__ == ["slacker: at step 1, fail, of fail(...)"]
    assert RemoteTraceback in map(type, causes(caught.value))
    await assert_works(worker)


@pytest.mark.filterwarnings("ignore:Sending large graph:UserWarning")  # Dask's own: it is right
async def test_cuts_what_nobody_reads(worker: Worker) -> None:
    """An exception with a message of 10 MB arrives with its beginning."""
    with pytest.raises((ValueError, RemoteError), match=r"^(ValueError: )?long") as caught:
        await Slacker(work.fail, worker)(ValueError, "long" * 2_500_000)
    assert len(str(caught.value)) < 1_000_000


# --- arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [threading.Lock(), lambda: None, nested(100_000), ExitsWhenPickled()], ids=type)
async def test_refuses_arguments_that_cannot_go(worker: Worker, value: Any) -> None:
    """An argument that cannot be pickled is refused here, by its place: nothing ran."""
    with pytest.raises(Refused, match=r"argument 1 of step 1, echo, of echo\(\.\.\.\) cannot be pickled") as caught:
        await Slacker(work.echo, worker)(value)
    assert (caught.value.reason, caught.value.executed) == ("unpicklable", False)
    await assert_works(worker)


async def test_says_which_argument_cannot_be_loaded(worker: Worker) -> None:
    """An argument that cannot be loaded over there is refused by name: nothing ran."""
    with pytest.raises(Refused, match="no more of these") as caught:
        await Slacker(work.echo, worker)(RefusesToLoad())
    assert caught.value.executed is False
    await assert_works(worker)
