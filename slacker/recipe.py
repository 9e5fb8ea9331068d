"""What a recipe is made of, and what of it other recipes can hold: the plain side of the proxy.

The proxy records whatever is asked of it, so nothing can be a method of it. Its state is kept in two slots, which are
reached through their descriptors by the functions here: one for what it is made of, and one for its chain, made when it
is nested in others. By that they tell that it is one object, to be run once.
"""

from __future__ import annotations

import os
import threading
import types
from collections.abc import Callable, Collection
from typing import Any, TypeAlias, TypeVar

from .chain import AS_USUAL, Chain, Options, Ref, Step
from .nesting import replace, surveyed
from .workers.base import Worker
from .workers.local import DummyWorker

__all__ = [
    "Recipe",
    "chain_of",
    "chain_to_nest",
    "check_recipe",
    "checked_worker",
    "common_worker",
    "nested_in",
    "recipe_of",
    "set_state",
    "state_of",
    "with_step",
    "worker_of",
]


class Recipe:
    """Base of the recording proxy."""

    __slots__ = ("__weakref__", "_slacker_chain", "_slacker_state")


R = TypeVar("R", bound=Recipe)

State: TypeAlias = tuple[Any, tuple[Step, ...], Worker | None, tuple[Chain, ...], Options]
"""Root, steps, worker, what is nested, and how it is run."""

set_state: Callable[[Recipe, State], None] = Recipe.__dict__["_slacker_state"].__set__
state_of: Callable[[Recipe], State] = Recipe.__dict__["_slacker_state"].__get__
_set_chain: Callable[[Recipe, Chain], None] = Recipe.__dict__["_slacker_chain"].__set__
_kept_chain: Callable[[Recipe], Chain] = Recipe.__dict__["_slacker_chain"].__get__
_new: Any = object.__new__
_nesting = threading.RLock()  # reentrant: a collection may run anybody's __del__ while it is held


def with_step(q: R, step: Step) -> R:
    """Return the recipe with one step more."""
    root, steps, worker, nested, options = state_of(q)
    new: R = _new(type(q))
    set_state(new, (root, (*steps, step), worker, nested, options))
    return new


def recipe_of(kind: type[R], chain: Chain, worker: Worker | None) -> R:
    """Return a recipe of `chain` for `worker`."""
    new: R = _new(kind)
    set_state(new, (chain.root, chain.steps, worker, chain.nested, chain.options))
    return new


def chain_of(q: Recipe) -> Chain:
    """Return what was recorded as plain data, for tests, logs and workers.

    Raises:
        TypeError: `q` is no Slacker.
    """
    check_recipe(q)
    root, steps, _worker, nested, options = state_of(q)
    return Chain(root, steps, nested, options)


def worker_of(q: Recipe) -> Worker:
    """Return who runs it: a DummyWorker, if nobody was named.

    Raises:
        ValueError: it is to run in a transaction, and nobody was named.
    """
    _root, _steps, worker, _nested, options = state_of(q)
    if worker is None:
        worker = DummyWorker()
        if options.atomic is not None:
            worker.check_atomic(options.atomic)
    return worker


def check_recipe(q: object) -> None:
    if not isinstance(q, Recipe):
        raise TypeError(f"expected a Slacker, got {type(q).__name__}")


def checked_worker(worker: object) -> Worker | None:
    if worker is None or isinstance(worker, Worker):
        return worker
    hint = f"; did you mean {worker.__name__}()?" if isinstance(worker, type) and issubclass(worker, Worker) else ""
    raise TypeError(f"worker must be a slacker Worker such as ThreadWorker(), or None, got {worker!r}{hint}")


# --- recipes among arguments -----------------------------------------------------------------------------------------


def _is_unfinished(kind: type) -> bool:
    return issubclass(kind, Recipe) or hasattr(kind, "__await__")


def nested_in(q: R, arguments: Any) -> tuple[R, Any]:
    """Return `q` with the recipes that are, or are held by, `arguments` nested in it, and the arguments with a `Ref`
    in the place of each.

    Raises:
        TypeError: there is an awaitable among them, a recipe of another worker or with options of its own, or a
            recipe in something that is not looked through.
        ValueError: they are nested too deep, or have a worker without the database of a transaction that is asked for.
    """
    if not _holds_recipes(q, arguments):
        return q, arguments
    root, steps, worker, own, options = state_of(q)
    nested = [*own]
    refs = {id(chain): Ref(number) for number, chain in enumerate(own)}

    def put(found: Any) -> Ref:
        nonlocal worker
        if not isinstance(found, Recipe):
            raise TypeError(
                f"an argument of {chain_of(q).outline()} is or holds a {type(found).__name__}, which is no result yet; "
                "pass the recipe, not its fetch(), or await it first and pass the result"
            )
        worker = common_worker(chain_of(q).outline(), worker, found)
        chain = chain_to_nest(found)
        if id(chain) not in refs:
            refs[id(chain)] = Ref(len(nested))
            nested.append(chain)
        return refs[id(chain)]

    joined = worker is None
    arguments = replace(arguments, _is_unfinished, put)
    if joined and worker is not None and options.atomic is not None:
        worker.check_atomic(options.atomic)
    return recipe_of(type(q), Chain(root, steps, tuple(nested), options), worker), arguments


def _holds_recipes(q: Recipe, arguments: Any) -> bool:
    holds = False
    for kind, values, opens in surveyed(arguments):
        if _is_unfinished(kind):
            holds = True
        elif not opens and any(issubclass(held, Recipe) for held in _kinds_of_attributes(kind, values)):
            raise TypeError(
                f"an argument of {chain_of(q).outline()} is or holds a {kind.__name__}, which has a recipe as an "
                "attribute, where it would not be replayed; pass the recipe as an argument of its own, or register "
                "the type with slacker.nesting.parts_of and rebuilt"
            )
    return holds


_NAMED = (type, types.FunctionType, types.ModuleType)
"""What has attributes of its own and travels by name: a module may well hold recipes."""


def _kinds_of_attributes(kind: type, values: Collection[Any]) -> set[type]:
    """Return the types of the attributes of those of `values` that are of `kind`."""
    kinds: set[type] = set()
    if kind.__dictoffset__ and not issubclass(kind, _NAMED):
        held = next((vars(base)["__dict__"] for base in kind.__mro__ if "__dict__" in vars(base)), None)
        if isinstance(held, types.GetSetDescriptorType | types.MemberDescriptorType):  # no property: it may be a query
            for value in values:
                if type(value) is kind:
                    kinds.update(map(type, dict.values(held.__get__(value))))
    return kinds


def common_worker(where: str, worker: Worker | None, q: Recipe) -> Worker | None:
    _root, _steps, own, _nested, options = state_of(q)
    if options != AS_USUAL:
        raise TypeError(
            f"{chain_of(q).outline()} has options of its own and stands inside of {where}: one run has one time limit "
            "and one transaction; give the options to the outer recipe"
        )
    if worker is None or own is None or own == worker:
        return own if worker is None else worker
    raise TypeError(
        f"{chain_of(q).outline()} is for {own!r} and stands inside of {where}, which is for {worker!r}: one trip goes "
        "to one worker; await it first and pass the result, or use slacker.options(q, worker)"
    )


def chain_to_nest(q: Recipe) -> Chain:
    with _nesting:
        try:
            return _kept_chain(q)
        except AttributeError:
            chain = chain_of(q)
            _set_chain(q, chain)
            return chain


def _after_fork_in_child() -> None:
    global _nesting
    _nesting = threading.RLock()  # a thread that is not there may have held it


os.register_at_fork(after_in_child=_after_fork_in_child)
