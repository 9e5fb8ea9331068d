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
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, final

from .describe import MOST, name_of
from .outcome import Error, Outcome, Several, Value
from .steps import AS_USUAL, Attr, Batch, Call, Item, Options, Ref, Step

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


# --- replaying -------------------------------------------------------------------------------------------------------


@final
class Replay:
    """One run of a chain.

    Args:
        chain: what to replay.
        base: another object to start from.
        start: makes of each root, nested or not, the object to start from.
        finish: makes of what an item of a batch gives the result that is handed out; what is nested in arguments is
            used as it is.
    """

    __slots__ = ("_at", "_results", "_step", "base", "chain", "finish", "has_failures", "start")

    def __init__(
        self,
        chain: Chain,
        base: Any = None,
        *,
        start: Callable[[Any], Any] | None = None,
        finish: Callable[[Any], Any] | None = None,
    ) -> None:
        self.chain = chain
        self.base = base
        self.start = start
        self.finish = finish
        self.has_failures = False
        """Whether anything has failed so far, be it that its exception is part of the result."""
        self._at, self._step = chain, 0  # which step of which chain is being taken
        self._results: dict[int, Value | Error] = {}  # of nested chains, by their id()

    def run(self) -> Any:
        """Take the steps and return what the last one gives; raise what a step raises.

        A batch that returns exceptions, and is all there is to the chain, gives a list of outcomes: what becomes of an
        exception is for the caller's side to say.
        """
        chain = self.chain
        root = chain.root if self.base is None else self.base
        return self._try_items(chain) if root is chain.root and chain.returns_exceptions else self._take(chain, root)

    def failed(self, error: BaseException) -> Error:
        """Return `error`, which `run` raised, as what happened, at the step that was being taken."""
        self.has_failures = True
        _shorten_traceback(error)
        return Error(error, self._step, self._place())

    def forget(self) -> None:
        """Let go of results: the traceback of a failure leads here, and must not lead back to itself."""
        self._results.clear()

    def _place(self) -> int:
        # By identity: equal chains may stand in several places, and to compare them would run their arguments' code.
        return next(place for place, part in enumerate(self.chain.parts()) if part is self._at)

    def _take(self, chain: Chain, root: Any) -> Any:
        target = self._begin(chain, root)
        self._at, self._step = chain, 0
        put = self._put(chain) if chain.nested else None
        for number, step in enumerate(chain.steps, 1):
            self._step = number
            target = (step if put is None else step.put(put)).apply(target)
        return target

    def _begin(self, chain: Chain, root: Any) -> Any:
        if type(root) is not Batch:
            return root if self.start is None else self.start(root)
        if root.return_exceptions:
            return Several(self._try_items(chain)).unwrap(self.chain)
        return [self._item(item) for item in chain.items]

    def _try_items(self, chain: Chain) -> list[Value | Error]:
        outcomes: list[Value | Error] = []
        try:
            for item in chain.items:
                try:
                    outcomes.append(Value(self._item(item)))
                except BaseException as error:
                    if is_users_interrupt(error):
                        raise
                    outcomes.append(self.failed(error))
            return outcomes
        finally:
            del outcomes  # the traceback of one that failed holds this frame, which must not hold it in turn

    def _item(self, chain: Chain) -> Any:
        result = self._result(chain)
        self._at, self._step = chain, len(chain.steps)  # which it may have taken long before
        return result if self.finish is None else self.finish(result)

    def _put(self, chain: Chain) -> Callable[[Ref], Any]:
        def result_of(ref: Ref) -> Any:
            number = self._step
            result = self._result(chain.nested[ref.number])
            self._at, self._step = chain, number
            return result

        return result_of

    def _result(self, chain: Chain) -> Any:
        known = self._results.get(id(chain))
        if known is None:
            self._at, self._step = chain, 0
            try:
                known = Value(self._take(chain, chain.root))
            except BaseException as error:
                self._results[id(chain)] = self.failed(error)  # it may be asked for again, by the next item of a batch
                raise
            self._results[id(chain)] = known
        elif isinstance(known, Error):
            self._at, self._step = self.chain.parts()[known.place], known.step
            try:
                raise known.exception
            finally:
                del known  # as above
        return known.value


def capture(chain: Chain, within: Callable[[Replay], Any] | None = None) -> Outcome:
    """Replay `chain` and return what happened; raise nothing.

    Args:
        chain: what to replay.
        within: runs the replay it is given and returns the result; the place for whatever must surround the work. Left
            out, the chain is replayed and nothing else done.

    Raises:
        KeyboardInterrupt: in the main thread only, where it is the user's and not the work's.
    """
    replay = Replay(chain) if chain.nested or within is not None else None
    step = 0
    try:
        if replay is not None:
            # Not kept in a variable: of exceptions among the results the tracebacks lead to this frame.
            return (Several if chain.returns_exceptions else Value)(replay.run() if within is None else within(replay))
        # `Replay.run` written out: for a small call the object and its method cost half as much again.
        target = chain.root
        for operation in chain.steps:
            step += 1
            target = operation.apply(target)
        return Value(target)
    except BaseException as error:
        if is_users_interrupt(error):
            raise
        if replay is not None:
            return replay.failed(error)
        _shorten_traceback(error)
        return Error(error, step)
    finally:
        if replay is not None:
            replay.forget()


def is_users_interrupt(error: BaseException) -> bool:
    """Tell whether `error` is a KeyboardInterrupt in the main thread: the user's, and not the work's as elsewhere."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


_RUNS_IN_TRACEBACK = 8
"""How many runs one traceback may show: more than work that runs work that runs work will ever need."""

_WHERE_RUNS_END = frozenset({capture.__code__, Replay._try_items.__code__})
"""What catches, and so stands once in a traceback for each time that its exception was raised."""


def _shorten_traceback(error: BaseException) -> None:
    # Each raise of one object adds to the traceback of the last: a module's constant would collect the frames of all
    # its runs, with all that their variables hold. Runs inside one another are there rightly, but are few.
    entry, runs = error.__traceback__, 0
    while entry is not None:
        runs += entry.tb_frame.f_code in _WHERE_RUNS_END
        if runs == _RUNS_IN_TRACEBACK:
            entry.tb_next = None
        entry = entry.tb_next
