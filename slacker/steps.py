"""What a chain is made of: steps, what stands among their arguments for the result of another chain, and options.

A step knows how to apply itself to a target, how it reads (`show`, and `outline` without values), and how it is with
other values in place of each `Ref` (`put`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias, final

from .describe import Known, describe, describe_key
from .nesting import replace

__all__ = ["AS_USUAL", "Attr", "Batch", "Call", "Item", "Options", "Ref", "Step", "attribute"]


@final
@dataclass(frozen=True, slots=True)
class Ref:
    """Stands among the arguments of a chain for the result of its nested chain of that number."""

    number: int


Put: TypeAlias = Callable[[Ref], Any]
"""Gives what shall stand in the place of a `Ref`."""


def _is_ref(kind: type) -> bool:
    return kind is Ref


# The constructors are written out: those of frozen dataclasses cost twice as much, and chains are made while users'
# loops wait.


@final
@dataclass(frozen=True, slots=True, repr=False, init=False)
class Attr:
    """The step ``.name``."""

    name: str

    def __init__(self, name: str) -> None:
        _set_name(self, name)

    def apply(self, target: Any) -> Any:
        return getattr(target, self.name)

    def put(self, put: Put) -> Attr:
        return self

    def show(self, known: Known) -> str:
        return f".{self.name}"

    def __repr__(self) -> str:
        return self.show({})

    def outline(self) -> str:
        return f".{self.name}"


@final
@dataclass(frozen=True, slots=True, repr=False, init=False)
class Call:
    """The step ``(*args, **kwargs)``. The arguments are kept as they were given, not copied."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        _set_args(self, args)
        _set_kwargs(self, kwargs)

    def apply(self, target: Any) -> Any:
        return target(*self.args, **self.kwargs)

    def put(self, put: Put) -> Call:
        args, kwargs = replace((self.args, self.kwargs), _is_ref, put)
        return Call(args, kwargs)

    def show(self, known: Known) -> str:
        shown = [describe(value, known) for value in self.args]
        shown += [f"{name}={describe(value, known)}" for name, value in self.kwargs.items()]
        return f"({', '.join(shown)})"

    def __repr__(self) -> str:
        return self.show({})

    def outline(self) -> str:
        return "(...)" if self.args or self.kwargs else "()"


@final
@dataclass(frozen=True, slots=True, repr=False, init=False)
class Item:
    """The step ``[key]``; a slice is a key like any other."""

    key: Any

    def __init__(self, key: Any) -> None:
        _set_key(self, key)

    def apply(self, target: Any) -> Any:
        return target[self.key]

    def put(self, put: Put) -> Item:
        return Item(replace(self.key, _is_ref, put))

    def show(self, known: Known) -> str:
        keys = self.key if type(self.key) is tuple and self.key else (self.key,)
        alone = "," if keys is self.key and len(keys) == 1 else ""
        return f"[{', '.join([describe_key(key, known) for key in keys])}{alone}]"

    def __repr__(self) -> str:
        return self.show({})

    def outline(self) -> str:
        return "[...]"


_set_name = Attr.__dict__["name"].__set__
_set_args = Call.__dict__["args"].__set__
_set_kwargs = Call.__dict__["kwargs"].__set__
_set_key = Item.__dict__["key"].__set__

attribute = lru_cache(maxsize=1024)(Attr)
"""Return the step ``.name``: the same one as before, as a rule, for the same names are recorded again and again."""

Step: TypeAlias = Attr | Call | Item


@final
@dataclass(frozen=True, slots=True)
class Batch:
    """A root that stands for the list of what the first `size` of the nested chains give, replayed in order.

    Args:
        size: how many; chains nested after those are among the arguments of steps.
        return_exceptions: whether one that fails has its exception in the list, and the others run all the same, or
            the batch fails with it, and those after it do not run.
    """

    size: int
    return_exceptions: bool = False


@final
@dataclass(frozen=True, slots=True)
class Options:
    """How a whole chain is run, see `slacker.options`.

    Args:
        timeout: seconds for the whole call; None leaves it to the worker.
        atomic: alias of the database in one transaction of which it runs; None for no such transaction.
    """

    timeout: float | None = None
    atomic: str | None = None


AS_USUAL = Options()
