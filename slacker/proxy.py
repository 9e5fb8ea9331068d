"""The recording proxy.

A `Slacker` records; a worker runs. From ``worker.run(chain)`` on the proxy is gone. This is the only module with a
``__getattr__`` for users' names, so every name that is *not* recorded is decided here.
"""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Self, final

from .chain import AS_USUAL, Attr, Call, Chain, Item, attribute
from .nesting import PLAIN, are_plain
from .recipe import Recipe, chain_of, checked_worker, nested_in, set_state, with_step, worker_of
from .stream import CHUNK_SIZE, Stream
from .workers.base import Worker

__all__ = ["Slacker", "is_dunder"]

_OWN = frozenset({"add_done_callback", "fetch", "proceed", "resolve_expression"})
"""Public names that are not recorded: the two methods, and two by which libraries tell what an object is. Answering
those makes `asyncio.wait([q])` hang and `F() + q` fail."""


_own_attribute = object.__getattribute__


def _guard(use: str) -> Callable[..., NoReturn]:
    def misused(self: Slacker, *args: object) -> NoReturn:
        raise TypeError(
            f"{use}: {chain_of(self).outline()} is a recipe that has not run, not its result; await it first "
            "(result = await q) and use the result."
        )

    return misused


_not_iterable = _guard("not iterable")
_not_a_mapping = _guard("no mapping")
_KEYS = (Attr("keys"), Call((), {}))
"""The steps that `dict(q)` and `f(**q)` record on their way to an iterator."""


@final
class Slacker(Recipe):
    """Records what is done to an object, to be done somewhere else.

    Getting an attribute, calling, indexing and slicing each return a *new* Slacker that holds a longer chain of
    steps; nothing is done and the old one stays as it was, so prefixes can be kept and shared. To run the chain,
    ``await`` it, ``yield`` it under `slacker.adisp.process` or `tornado.gen.coroutine`, or call `fetch` or
    `proceed`. Awaited twice, it runs twice.

    Names that start with an underscore are not recorded, nor are ``fetch`` and ``proceed``, which are methods, nor
    ``add_done_callback`` and ``resolve_expression``: `slacker.attr` records any of these but double underscores.

    Equality and hash are identity, so ``q == 5`` is plain False. Copying gives the same object.

    Args:
        obj: where the chain starts: a class, function, module or instance. Workers that leave the process need to
            pickle it.
        worker: who runs the chain. None waits for `options`; run without one, the chain runs in place on a
            `DummyWorker`.

    Raises:
        TypeError: `obj` is a coroutine function, an awaitable or a Slacker; `worker` is no `Worker`.
    """

    __slots__ = ()

    def __init__(self, obj: Any, worker: Worker | None = None) -> None:
        _check_root(obj)
        set_state(self, (obj, (), checked_worker(worker), (), AS_USUAL))

    # --- recording --------------------------------------------------------------------------------------------

    def __getattribute__(self, name: str) -> Slacker:
        # Not __getattr__, which is asked only after a look-up has failed: on CPython 3.11 that failure costs as much as
        # the rest of recording an attribute.
        if name[:1] == "_" or name in _OWN:
            return _own_attribute(self, name)  # type: ignore[no-any-return]  # checkers know these by name
        return with_step(self, attribute(name))

    def __getattr__(self, name: str) -> NoReturn:
        way = "wrap what needs it in a function" if is_dunder(name) else f"use slacker.attr(q, {name!r})"
        if name == "add_done_callback":  # it will be asyncio that asks
            way = f"a recipe is no Future, pass q.fetch() to what waits for one; to record the name, {way}"
        raise AttributeError(f"{name!r} is not recorded on a Slacker; {way}", name=name, obj=self)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Slacker:
        if are_plain(map(type, args)) and are_plain(map(type, kwargs.values())):
            return with_step(self, Call(args, kwargs))
        q, (args, kwargs) = nested_in(self, (args, kwargs))
        return with_step(q, Call(args, kwargs))

    def __getitem__(self, key: Any) -> Slacker:
        kind = type(key)
        if kind in PLAIN or (kind is slice and are_plain((type(key.start), type(key.stop), type(key.step)))):
            return with_step(self, Item(key))
        q, (key,) = nested_in(self, (key,))
        return with_step(q, Item(key))

    # --- running ----------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, Any, Any]:
        return worker_of(self).run(chain_of(self)).__await__()

    def fetch(self) -> asyncio.Future[Any]:
        """Start the chain now and return a Future of the running loop for its result.

        Unlike a recipe, a Future is one run; awaiting it twice gives the same result. Cancelling it stops waiting;
        what becomes of the work is the worker's to say.

        Raises:
            RuntimeError: no event loop is running.
        """
        return worker_of(self).submit(chain_of(self))

    __adisp_start__ = fetch

    def proceed(
        self,
        callback: Callable[[Any], object] | None = None,
        on_error: Callable[[Exception], object] | None = None,
    ) -> None:
        """Start the chain now and call back on the loop.

        Args:
            callback: called with the result, on success only.
            on_error: called with the exception otherwise. Without one a failure goes to the loop's exception
                handler, which by default logs it, as does an exception that either of the two raises.

        Raises:
            TypeError: a callback is not callable, or calling it would do nothing: it is a coroutine function or a
                recipe. Nothing was started.
            RuntimeError: no event loop is running.
        """
        for name, given in (("callback", callback), ("on_error", on_error)):
            if given is not None and (not callable(given) or type(given) is Slacker or _is_async(given)):
                raise TypeError(f"{name} must be a plain function or None, got {given!r}; nothing was started")
        self.fetch().add_done_callback(_caller_back(chain_of(self), callback, on_error))

    def __aiter__(self) -> Stream:
        return Stream(worker_of(self), chain_of(self), CHUNK_SIZE).__aiter__()

    # --- a recipe is not its result ---------------------------------------------------------------------------

    if not TYPE_CHECKING:  # a checker that sees none of these objects to their use
        __bool__ = _guard("no truth value")
        __len__ = _guard("no length")
        __next__ = _guard("not an iterator")
        __contains__ = _guard("'in' cannot look into it")
        __setattr__ = _guard("attributes cannot be set")
        __delattr__ = _guard("attributes cannot be deleted")
        __setitem__ = _guard("items cannot be set")
        __delitem__ = _guard("items cannot be deleted")
        __format__ = _guard("no part of a text")

        def __iter__(self) -> Iterator[NoReturn]:
            if chain_of(self).steps[-2:] != _KEYS:
                _not_iterable(self)
            # dict() and ** hide a TypeError of iter() behind one that says nothing, and pass on what next() raises.
            return iter(partial(_not_a_mapping, self), None)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"{chain_of(self).outline()} is a recipe and cannot be pickled; await it first and pickle the result, "
            "or pickle slacker.chain_of(q), its plain data"
        )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __repr__(self) -> str:
        return f"<Slacker {chain_of(self)}>"

    def __str__(self) -> str:
        # Without the values: whoever takes it for its result may write it into a page.
        return f"<Slacker {chain_of(self).outline()}>"


def _caller_back(
    chain: Chain, callback: Callable[[Any], object] | None, on_error: Callable[[Exception], object] | None
) -> Callable[[asyncio.Future[Any]], None]:
    # A closure and not a partial: when a callback raises, the loop logs a partial's arguments, and the chain's values.
    def call_back(future: asyncio.Future[Any]) -> None:
        if future.cancelled():  # by the loop's end: the Future is in nobody else's hands
            return
        error: Any = future.exception()
        if error is None:
            if callback is not None:
                callback(future.result())
        elif on_error is not None:
            on_error(error)
        else:
            message = f"{chain.outline()} failed, and proceed() was given no on_error"
            future.get_loop().call_exception_handler({"message": message, "exception": error, "future": future})

    return call_back


def _check_root(obj: Any) -> None:
    kind = type(obj)  # and no isinstance: that may ask the object, and a lazy one of Django's would query
    if kind is Slacker:
        raise TypeError("got a Slacker of a Slacker; use slacker.options(q, worker) to run a recipe elsewhere")
    if hasattr(kind, "__await__"):
        raise TypeError(f"got an awaitable of type {kind.__name__}: await it first and wrap the result")
    if _is_async(obj):
        raise TypeError(
            f"{Chain(obj).outline()} is asynchronous, so there is nothing to take off the loop: await it directly. "
            "A Slacker takes blocking callables."
        )


def _is_async(obj: Any) -> bool:
    while type(obj) is partial:
        obj = obj.func
    kind = type(obj)
    function = obj if issubclass(kind, types.FunctionType | types.MethodType) else getattr(kind, "__call__", None)  # noqa: B004 (the method, not a test for it)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
