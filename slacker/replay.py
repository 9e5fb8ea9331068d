"""One run of a chain: takes its steps, runs what is nested when a step needs it, and knows how far it came.

`capture` is the one way in for workers: it returns what happened and raises nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, final

from .outcome import Error, Outcome, Several, Value
from .steps import Batch, Options, Ref, Step

__all__ = ["AnyChain", "Replay", "capture", "is_users_interrupt"]


class AnyChain(Protocol):
    """What is asked here of `slacker.chain.Chain`, which imports this module."""

    @property
    def root(self) -> Any: ...

    @property
    def steps(self) -> tuple[Step, ...]: ...

    @property
    def nested(self) -> Sequence[AnyChain]: ...

    @property
    def items(self) -> Sequence[AnyChain]: ...

    @property
    def options(self) -> Options: ...

    @property
    def returns_exceptions(self) -> bool: ...

    def parts(self) -> Sequence[AnyChain]: ...

    def outline(self) -> str: ...

    def label(self, number: int) -> str: ...

    def progress(self, part: Any) -> str: ...


@final
class Replay:
    """One run of a chain.

    Args:
        chain: what to replay.
        base: another object to start from.
        start: makes of each root, nested or not, the object to start from.
        finish: makes of what an item of a batch gives the result that is handed out; what is nested in arguments is
            used as it is.
        apart: entered around each item of a batch that returns exceptions, so that one that fails leaves no trace.
    """

    __slots__ = ("_at", "_results", "_step", "apart", "base", "chain", "finish", "has_failures", "start")

    def __init__(
        self,
        chain: AnyChain,
        base: Any = None,
        *,
        start: Callable[[Any], Any] | None = None,
        finish: Callable[[Any], Any] | None = None,
        apart: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.chain = chain
        self.base = base
        self.start = start
        self.finish = finish
        self.apart = apart
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

    def _take(self, chain: AnyChain, root: Any) -> Any:
        target = self._begin(chain, root)
        self._at, self._step = chain, 0
        put = self._put(chain) if chain.nested else None
        for number, step in enumerate(chain.steps, 1):
            self._step = number
            target = (step if put is None else step.put(put)).apply(target)
        return target

    def _begin(self, chain: AnyChain, root: Any) -> Any:
        if type(root) is not Batch:
            return root if self.start is None else self.start(root)
        if root.return_exceptions:
            return Several(self._try_items(chain)).unwrap(self.chain)
        return [self._item(item) for item in chain.items]

    def _try_items(self, chain: AnyChain) -> list[Value | Error]:
        outcomes: list[Value | Error] = []
        try:
            for item in chain.items:
                try:
                    with self.apart():
                        result = self._item(item)
                    outcomes.append(Value(result))
                except BaseException as error:
                    if is_users_interrupt(error):
                        raise
                    outcomes.append(self.failed(error))
            return outcomes
        finally:
            del outcomes  # the traceback of one that failed holds this frame, which must not hold it in turn

    def _item(self, chain: AnyChain) -> Any:
        result = self._result(chain)
        self._at, self._step = chain, len(chain.steps)  # which it may have taken long before
        return result if self.finish is None else self.finish(result)

    def _put(self, chain: AnyChain) -> Callable[[Ref], Any]:
        def result_of(ref: Ref) -> Any:
            number = self._step
            result = self._result(chain.nested[ref.number])
            self._at, self._step = chain, number
            return result

        return result_of

    def _result(self, chain: AnyChain) -> Any:
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


def capture(chain: AnyChain, within: Callable[[Replay], Any] | None = None) -> Outcome:
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
