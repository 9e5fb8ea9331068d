"""Write asynchronous code as generators: ``result = yield something`` waits without blocking the loop.

    class AuthorHandler(tornado.web.RequestHandler):
        @adisp.process
        def get(self, name):
            author = yield AsyncAuthor.objects.get(name=name)  # an awaitable
            token = yield fetch_token(author.id)  # a function that takes a callback, under adisp.async_
            books, prizes = yield [books_of(author), prizes_of(author)]  # in parallel
            self.write(...)

A generator runs in its caller as far as its first yield, from there on in a Task. What it may yield stands at
`CallbackDispatcher`. A failure is raised at the yield; what cannot be raised there is logged. An exception object that
comes as a result is a result.

The design follows Ivan Sagalaev's adisp, as found in brukva. The module stands alone: all it takes is asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, final, overload

__all__ = ["CallbackDispatcher", "async_", "process"]

P = ParamSpec("P")
R = TypeVar("R")
Callback: TypeAlias = Callable[..., None]
Caller: TypeAlias = Callable[[Callback], object]

logger = logging.getLogger("slacker.adisp")

_running: set[asyncio.Future[Any]] = set()
"""What was started here, each until it ends: the loop itself refers to its tasks only weakly."""


def process(func: Callable[P, Generator[Any, Any, R]]) -> Callable[P, asyncio.Future[R]]:
    """Decorate a generator function, or method, that yields what it waits for.

    A call runs it to its first yield, in the caller's context, and goes on in a Task, in a copy of that context.
    Nobody need refer to the Task. Cancelling it cancels what the generator waits for, then raises CancelledError at
    the yield; cancelling what `tornado.gen.coroutine` returns stops nothing.

    Returns:
        A function that returns the Task, whose result is the generator's return value; or a finished Future, if
        the function ended or raised before its first yield or has none. KeyboardInterrupt and SystemExit pass.

    Raises:
        TypeError: `func` is not callable, or is ``async def``.
        RuntimeError: no event loop is running. From the decorated function, before any of it ran.
    """
    if not callable(func):
        raise TypeError(f"adisp.process takes a generator function, not {type(func).__qualname__}.")
    if inspect.iscoroutinefunction(func) or inspect.isasyncgenfunction(func):
        raise TypeError(f"{_name(func)} is `async def`: await it directly, without adisp.process.")

    @functools.wraps(func)
    def start(*args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
        def generator() -> Generator[Any, Any, R]:
            begun: Any = func(*args, **kwargs)
            result: R = (yield from begun) if isinstance(begun, Generator) else begun
            return result

        return _begin(generator())

    return start


@final
class CallbackDispatcher(Generic[R]):
    """Drive one generator, as `process` does with that of each call.

    What may be yielded, asked in this order, and what comes back:

     1. An awaitable, such as a Future, a coroutine, a Slacker: its result.
     2. A callable that takes a callback, such as `async_` makes: what the callback is called with, at once, later or
        from another thread; None if with nothing. If the callable returns an awaitable, and that fails before
        the callback was called, the failure is raised.
     3. A mapping of these: a dict with the same keys.
     4. Any other iterable of these except str, bytes and bytearray: a list.

    The parts of 3 and 4, which may nest, run in parallel. All are started at once, an awaitable by its type's
    ``__adisp_start__()``, which returns a Future, or else by `asyncio.ensure_future`. All are waited for, then the
    first failure in the order written is raised and others are logged. So does `tornado.gen.multi`, for lists and
    dicts only; `asyncio.gather` raises the first failure in time and leaves the rest running.

    Args:
        generator: not started yet; nobody else may drive it.

    Attributes:
        future: the Task that drives the generator, or a finished Future if it ended before its first yield.

    Raises:
        RuntimeError: no event loop is running; nothing of the generator ran.
    """

    __slots__ = ("future",)

    def __init__(self, generator: Generator[Any, Any, R]) -> None:
        self.future = _begin(generator)


@overload
def async_(
    func: Callable[..., object], *, cbname: str = ..., cbwrapper: Callable[[Callback], Any] = ...
) -> Callable[..., Caller]: ...


@overload
def async_(
    func: None = None, *, cbname: str = ..., cbwrapper: Callable[[Callback], Any] = ...
) -> Callable[[Callable[..., object]], Callable[..., Caller]]: ...


def async_(
    func: Callable[..., object] | None = None,
    *,
    cbname: str = "callback",
    cbwrapper: Callable[[Callback], Any] = lambda callback: callback,
) -> Callable[..., Any]:
    """Make a function that takes a callback fit to be yielded: in 2011 ``async``, now a keyword.

    Use it as a function, ``async_(fetch, cbname="on_done")``, or as a decorator, with arguments or without, also over
    `process`. A call of what it returns runs nothing: it gives a callable that does, each time it is yielded.

    Args:
        func: may return an awaitable, see `CallbackDispatcher`, which is cancelled when the wait is.
        cbname: the keyword by which `func` takes its callback. All other arguments pass as they are.
        cbwrapper: takes the callback and returns the one that `func` gets.

    Raises:
        TypeError: `func` is not callable. From the decorated function: it was given a callback.
    """
    if func is None:
        return functools.partial(async_, cbname=cbname, cbwrapper=cbwrapper)
    if not callable(func):
        raise TypeError(f"adisp.async_ takes a function, not {type(func).__qualname__}.")

    @functools.wraps(func)
    def prepare(*args: object, **kwargs: object) -> Caller:
        if cbname in kwargs:
            raise TypeError(f"{_name(func)}: leave out {cbname!r}, the yield passes one.")

        @functools.wraps(func)
        def caller(callback: Callback) -> object:
            return func(*args, **{cbname: cbwrapper(callback)}, **kwargs)

        return caller

    return prepare


def _begin(generator: Generator[Any, Any, R]) -> asyncio.Future[R]:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "No event loop is running, so the generator was not started. From a script, with f the decorated function: "
            "tornado.ioloop.IOLoop.current().run_sync(f), or asyncio.run(main()) and `await f()` in main."
        ) from None
    try:
        yielded = next(generator)
    except StopIteration as stop:
        future = loop.create_future()
        future.set_result(stop.value)
        return future
    except (Exception, asyncio.CancelledError) as error:
        return _failed(error)
    first = [yielded]
    del yielded
    task = loop.create_task(_drive(generator, first))
    task.add_done_callback(functools.partial(_end, generator, first))
    _keep(task)
    return task


async def _drive(generator: Generator[Any, Any, R], first: list[Any]) -> R:
    yielded = first.pop()
    while True:
        try:
            value, error = (await yielded, None) if _is_awaitable(yielded) else await _wait(yielded)
        except BaseException as raised:
            value, error = None, raised
        # After the except block: within it, `raised` would become the context of what the generator raises next.
        # A failure's traceback refers to this frame. The frame must not refer back, that would be a cycle.
        del yielded
        try:
            yielded = generator.send(value) if error is None else generator.throw(error)
        except StopIteration as stop:
            result: R = stop.value
            return result
        finally:
            del value, error


def _end(generator: Generator[Any, Any, Any], first: list[Any], task: asyncio.Future[Any]) -> None:
    if task.cancelled():  # perhaps before its first step: then nobody has heard of it yet
        _cancel(first)
        with contextlib.suppress(StopIteration, asyncio.CancelledError):
            generator.throw(asyncio.CancelledError())
    generator.close()


def _cancel(yielded: Any) -> None:
    """Cancel what runs of what was yielded; the rest was not begun."""
    if asyncio.isfuture(yielded):
        yielded.cancel()
    elif inspect.iscoroutine(yielded):
        yielded.close()
    elif isinstance(yielded, Mapping):
        _cancel([*yielded.values()])
    elif isinstance(yielded, list | tuple | set | frozenset):
        for part in yielded:
            _cancel(part)


async def _wait(yielded: Any) -> tuple[Any, BaseException | None]:
    """Start what was yielded and wait for all of it; return its result, or else what to raise."""
    started: list[asyncio.Future[Any]] = []
    shape = _start(yielded, started)
    failures: list[BaseException] = []
    try:
        await asyncio.gather(*started, return_exceptions=True)
    except asyncio.CancelledError as cancelled:  # gather has cancelled all of `started` and waited for them
        failures.append(cancelled)
    failures += _failures(started)
    _log_failures(failures[1:])
    try:
        return (None, failures[0]) if failures else (_results(shape), None)
    finally:  # as in _drive: the traceback of what failed to start refers to this frame
        started.clear()
        del shape, failures


def _start(yielded: Any, started: list[asyncio.Future[Any]]) -> Any:
    """Start `yielded`, append its Futures to `started`, return it with each part replaced by its Future."""
    try:
        if _is_awaitable(yielded):
            started.append(_future_of(yielded))
        elif callable(yielded):
            started.append(_call(yielded))
        elif isinstance(yielded, Mapping):
            return {key: _start(value, started) for key, value in yielded.items()}
        elif isinstance(yielded, Iterable) and not isinstance(yielded, str | bytes | bytearray):
            return [_start(item, started) for item in yielded]
        else:
            raise TypeError(
                "Yield an awaitable, a callable that takes a callback (see adisp.async_), or a dict, list, tuple or "
                f"other iterable of these, not {type(yielded).__qualname__}."
            )
    except (Exception, asyncio.CancelledError) as error:
        started.append(_failed(error))
    return started[-1]


def _results(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {key: _results(value) for key, value in shape.items()}
    if isinstance(shape, list):
        return [_results(item) for item in shape]
    return shape.result()


def _failures(futures: Iterable[asyncio.Future[Any]]) -> list[BaseException]:
    failures = []
    for future in dict.fromkeys(futures):
        try:
            future.result()  # unlike exception(), it resets the traceback, which would grow with each yield
        except BaseException as error:
            failures.append(error.with_traceback(error.__traceback__ and error.__traceback__.tb_next))
    return failures


def _log_failures(failures: Iterable[BaseException]) -> None:
    for failure in failures:
        if not isinstance(failure, asyncio.CancelledError):  # which asyncio, too, passes over in silence
            logger.error("A failure besides the one that is raised at the yield", exc_info=failure)


def _call(caller: Caller) -> asyncio.Future[Any]:
    """Call `caller` with a callback; return a Future for what the callback is called with."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    thread = threading.get_ident()
    calls = 0

    def settle(result: object) -> None:
        nonlocal calls
        calls += 1
        if not future.done():
            future.set_result(result)
        elif calls == 2 and not future.cancelled():
            logger.warning("%s called its callback a second time: only the first call counts", _name(caller))

    def callback(result: object = None, /) -> None:
        if threading.get_ident() != thread:
            with contextlib.suppress(RuntimeError):  # the loop is closed, nobody waits any more
                loop.call_soon_threadsafe(settle, result)
        elif not loop.is_closed():
            settle(result)

    def on_returned(returned: asyncio.Future[Any]) -> None:
        if returned.cancelled():
            future.cancel()
        elif (error := returned.exception()) is not None:
            if future.done():
                logger.error("%s failed when nobody waited for it any more", _name(caller), exc_info=error)
            else:
                future.set_exception(error)

    returned = caller(callback)
    if _is_awaitable(returned):
        running = _future_of(returned)
        running.add_done_callback(on_returned)
        future.add_done_callback(lambda _: future.cancelled() and running.cancel())
        _keep(running)
    return future


def _is_awaitable(thing: object) -> bool:
    # Its type is asked: an object that records attributes has any that one asks for.
    return hasattr(type(thing), "__await__")


def _future_of(awaitable: Any) -> asyncio.Future[Any]:
    start = getattr(type(awaitable), "__adisp_start__", None)
    awaitable = awaitable if start is None else start(awaitable)
    future: asyncio.Future[Any] = asyncio.ensure_future(awaitable, loop=asyncio.get_running_loop())
    return future


def _failed(error: BaseException) -> asyncio.Future[Any]:
    future = asyncio.get_running_loop().create_future()
    if isinstance(error, asyncio.CancelledError):
        future.cancel()
    elif isinstance(error, StopIteration):  # which no Future takes
        failure = RuntimeError("StopIteration was raised where it does not end a generator")
        failure.__cause__ = error
        future.set_exception(failure)
    else:
        future.set_exception(error)
    return future


def _keep(future: asyncio.Future[Any]) -> None:
    _running.add(future)
    future.add_done_callback(_running.discard)


def _name(thing: object) -> str:
    return str(getattr(thing, "__qualname__", type(thing).__qualname__))
