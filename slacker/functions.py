"""What can be done with a recipe besides running it: functions, so that none shadows a name that is recorded."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from dataclasses import replace
from typing import Any

from .arguments import check_count, checked_timeout
from .chain import Attr, Batch, Chain
from .proxy import Slacker, is_dunder
from .recipe import (
    chain_of,
    chain_to_nest,
    check_recipe,
    checked_worker,
    common_worker,
    recipe_of,
    state_of,
    with_step,
    worker_of,
)
from .stream import CHUNK_SIZE, Stream
from .workers.base import Worker

__all__ = ["attr", "batch", "options", "run", "stream"]


def attr(q: Slacker, name: str) -> Slacker:
    """Record getting an attribute that cannot be written as ``q.name``, such as ``"_default_manager"`` or
    ``"fetch"``.

    Raises:
        TypeError: `q` is no Slacker or `name` no str.
        ValueError: `name` is not an identifier, or is a dunder name, which no worker accepts.
    """
    check_recipe(q)
    if not isinstance(name, str):
        raise TypeError(f"the attribute's name must be a str, got {name!r}")
    if not name.isidentifier():
        raise ValueError(f"the attribute's name must be one identifier, got {name!r}; record 'a.b' as two steps")
    if is_dunder(name):
        raise ValueError(f"double underscore names are never recorded, got {name!r}; wrap what needs it in a function")
    return with_step(q, Attr(name))


def options(
    q: Slacker, worker: Worker | None = None, *, timeout: float | None = None, atomic: bool | str | None = None
) -> Slacker:
    """Return the same recipe, to be run otherwise.

    What is None stays as it is. The options are those of the whole run: a recipe that has a timeout or a transaction of
    its own cannot be an argument of another, or an item of a batch.

    Args:
        q: the recipe; it stays as it is.
        worker: who runs it instead.
        timeout: seconds for the whole call, waiting included, as a time limit that travels with it: work that has not
            begun by then never begins. Past it the call fails with `DeadlineExceeded`.
        atomic: True, or the alias of a database: all of it runs in one ``transaction.atomic``, which is rolled back if
            anything fails. False: no longer. For workers that run in Django.

    Raises:
        TypeError: `q` is no Slacker, or `worker` no `Worker`, or an option of another type.
        ValueError: `timeout` is not above 0, or the worker has no database of that alias.
    """
    check_recipe(q)
    chain, own_worker = chain_of(q), state_of(q)[2]
    worker = own_worker if worker is None else checked_worker(worker)
    changed = chain.options
    if timeout is not None:
        changed = replace(changed, timeout=checked_timeout(timeout))
    if atomic is not None:
        if not isinstance(atomic, bool | str):
            raise TypeError(f"atomic must be True, False or the alias of a database, got {atomic!r}")
        changed = replace(changed, atomic=("default" if atomic else None) if isinstance(atomic, bool) else atomic)
    if changed.atomic is not None and worker is not None:
        worker.check_atomic(changed.atomic)
    return recipe_of(Slacker, Chain(chain.root, chain.steps, chain.nested, changed), worker)


def batch(*qs: Slacker, return_exceptions: bool = False) -> Slacker:
    """Return one recipe for several: one trip, and as its result the list of their results.

    They are replayed in order, each once, and each may be an argument of another. Of no recipe at all the result is an
    empty list.

    Args:
        qs: the recipes. Those that have a worker must have the same.
        return_exceptions: put the exception of one that fails into the list, and run the others all the same. By
            default the batch fails with it, and those after it do not run; a note on the exception tells which ran.

    Raises:
        TypeError: one is no Slacker, has another worker, or options of its own.
        ValueError: they are nested too deep.
    """
    for q in qs:
        if isinstance(q, list | tuple | set | Generator):
            raise TypeError(f"expected a Slacker, got {type(q).__name__}; write batch(*qs)")
        check_recipe(q)
    if not qs:
        return Slacker(list)()
    nested: list[Chain] = []
    worker = None
    for q in qs:
        worker = common_worker("batch(...)", worker, q)
        nested.append(chain_to_nest(q))
    return recipe_of(Slacker, Chain(Batch(len(nested), bool(return_exceptions)), (), tuple(nested)), worker)


def run(q: Slacker) -> Coroutine[Any, Any, Any]:
    """Return a coroutine that runs the recipe, for `asyncio.run`, `asyncio.create_task` and task groups.

    They take coroutines only, where ``await`` and `asyncio.gather` take any awaitable. The result, the exceptions and
    what cancelling does are those of ``await q``.

    Raises:
        TypeError: `q` is no Slacker.
    """
    check_recipe(q)
    return worker_of(q).run(chain_of(q))


def stream(q: Slacker, chunk_size: int = CHUNK_SIZE) -> Stream:
    """Return an async iterator over the items of what the recipe gives; ``async for item in q`` does the same.

    The items come in chunks, with back-pressure: neither side ever holds more than a few of them. QuerySets are read
    by ``.iterator()``, with a server-side cursor where the database has them.

    Args:
        q: the recipe; its result has to be iterable. A `timeout` among its options is for each chunk, both ways: it
            limits how long one is waited for, and how long one waits to be asked for.
        chunk_size: most items of a chunk.

    Raises:
        TypeError: `q` is no Slacker, or its worker cannot stream.
        ValueError: `chunk_size` is below 1.
    """
    check_recipe(q)
    check_count("chunk_size", chunk_size, least=1)
    return Stream(worker_of(q), chain_of(q), chunk_size)
