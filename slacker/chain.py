"""What was recorded, as plain data: a root object and the steps to take from it.

    Slacker(User).objects.filter(is_staff=True)[:5]      the proxy records ...
    Chain(User, (Attr("objects"), Attr("filter"), Call((), {"is_staff": True}), Item(slice(None, 5))))

A recipe among the arguments becomes a `Ref` to a nested chain, which is replayed at the step that uses it, once however
often it is used. A `Batch` is a root of its own: the list of what the nested chains give.

Rules of this module: everything is immutable; a step knows how to apply itself and how it reads; nothing here has
heard of proxies, loops, pickling or Django. Reading a chain (`repr`, `outline`) never runs anything of the user's.
"""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, final

from .describe import MOST, name_of
from .outcome import Several
from .replay import Replay, capture, is_users_interrupt
from .steps import AS_USUAL, Attr, Batch, Call, Item, Options, Ref, Step, attribute

__all__ = [
    "AS_USUAL",
    "Attr",
    "Batch",
    "Call",
    "Chain",
    "Item",
    "Options",
    "Ref",
    "Replay",
    "Step",
    "attribute",
    "capture",
    "is_users_interrupt",
]

MAX_DEPTH = 32
"""How deep recipes may be nested: far more than anybody reads, and replayed well within Python's recursion limit."""


@final
@dataclass(frozen=True, slots=True, repr=False, init=False)
class Chain:
    """A root object and the steps to take from it.

    Picklable with plain `pickle` when root and arguments are; a module as root travels by name.

    Args:
        root: where it starts; a `Batch` for the list of what the nested chains give.
        steps: taken one after another.
        nested: the chains that each `Ref` among the arguments, or the batch, refers to by their place here.
        options: how the whole of it is run.

    Raises:
        ValueError: chains are nested more than 32 deep.
    """

    root: Any
    steps: tuple[Step, ...]
    nested: tuple[Chain, ...]
    options: Options
    depth: int = field(compare=False)
    """How deep chains are nested in this one."""

    def __init__(
        self,
        root: Any,
        steps: tuple[Step, ...] = (),
        nested: tuple[Chain, ...] = (),
        options: Options = AS_USUAL,
    ) -> None:
        depth = max([chain.depth for chain in nested]) + 1 if nested else 0
        if depth > MAX_DEPTH:
            raise ValueError(f"recipes can be nested {MAX_DEPTH} deep, not more; await one of them first")
        _set_root(self, root)
        _set_steps(self, steps)
        _set_nested(self, nested)
        _set_options(self, options)
        _set_depth(self, depth)

    def replay(self, base: Any = None) -> Any:
        """Take the steps, here and now, and return what the last one gives.

        Args:
            base: another object to start from; None starts from the root.

        Raises:
            Whatever a step raises, unchanged.
        """
        replay = Replay(self, base)
        try:
            result = replay.run()
            return Several(result).unwrap(self) if base is None and self.returns_exceptions else result
        finally:
            replay.forget()

    @property
    def is_batch(self) -> bool:
        """Whether it is nothing but a batch, without a step on its results."""
        return type(self.root) is Batch and not self.steps

    @property
    def returns_exceptions(self) -> bool:
        """Whether it is nothing but a batch, and has exceptions among its results."""
        return self.is_batch and self.root.return_exceptions

    @property
    def items(self) -> tuple[Chain, ...]:
        """What is in a batch; of any other chain nothing."""
        return self.nested[: self.root.size] if type(self.root) is Batch else ()

    def parts(self) -> list[Chain]:
        """Return this chain and all that are nested in it, each object once, none before one that it is nested in."""
        if not self.nested:
            return [self]
        parts: list[Chain] = []
        seen: set[int] = set()

        def add(chain: Chain) -> None:
            if id(chain) not in seen:
                seen.add(id(chain))
                for nested in reversed(chain.nested):
                    add(nested)
                parts.append(chain)

        add(self)
        return parts[::-1]

    def outline(self) -> str:
        """Return the chain as code with the argument values left out, for logs: they may be passwords."""
        return self._outline(_a_few())

    def label(self, number: int) -> str:
        """Return how step `number` (from 1) reads in a message: ``.filter`` for the attribute and for its call."""
        step = self.steps[number - 1]
        if isinstance(step, Call):
            if number == 1:
                return self._begin(Chain._outline, _a_few())
            if isinstance(called := self.steps[number - 2], Attr):
                return called.outline()
        return step.outline()

    def progress(self, part: Chain) -> str:
        """Return, for a message that `part` failed, what of a batch had run by then and what did not run."""
        if type(self.root) is not Batch or self.root.return_exceptions:
            return ""
        items = self.items
        before = next((n for n, item in enumerate(items) if any(inner is part for inner in item.parts())), None)
        if before is None:  # all had run: it is an argument of a step on the results
            return ""
        after = len(items) - before - 1
        return f"; it is item {before + 1} of {len(items)}: {before} ran before it, {after} did not run"

    def __repr__(self) -> str:
        return f"<Chain {self}>"

    def __str__(self) -> str:
        return self._show(_a_few())

    def _outline(self, left: Iterator[bool]) -> str:
        return self._begin(Chain._outline, left) + "".join([step.outline() for step in self.steps])

    def _show(self, left: Iterator[bool]) -> str:
        def show(ref: Ref) -> str:
            return self.nested[ref.number]._show(left) if next(left, False) else "..."

        return self._begin(Chain._show, left) + "".join([step.show({Ref: show}) for step in self.steps])

    def _begin(self, show: Callable[[Chain, Iterator[bool]], str], left: Iterator[bool]) -> str:
        if type(self.root) is not Batch:
            return name_of(self.root)
        shown = [show(chain, left) if next(left, False) else "..." for chain in self.items[:MOST]]
        shown += ["..."] if self.root.size > MOST else []
        shown += ["return_exceptions=True"] if self.root.return_exceptions else []
        return f"batch({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self.root, types.ModuleType):
            return _chain_from_module, (self.root.__name__, self.steps, self.nested, self.options)
        return Chain, (self.root, self.steps, self.nested, self.options)


_set_root = Chain.__dict__["root"].__set__
_set_steps = Chain.__dict__["steps"].__set__
_set_nested = Chain.__dict__["nested"].__set__
_set_options = Chain.__dict__["options"].__set__
_set_depth = Chain.__dict__["depth"].__set__


def _a_few() -> Iterator[bool]:
    return repeat(True, 20)  # nested chains shown in one text: one may occur any number of times


def _chain_from_module(name: str, steps: tuple[Step, ...], nested: tuple[Chain, ...], options: Options) -> Chain:
    return Chain(importlib.import_module(name), steps, nested, options)
