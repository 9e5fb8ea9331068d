"""The work of a stream: what a chain gives, cut into chunks, made one by one as they are asked for.

Like `slacker.chain.capture` this returns outcomes and raises nothing; a failure is the last of them. What must surround
the work (connections, transactions) is entered with the first chunk and left with the last one, so all chunks have to
be asked for in one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any, TypeAlias

from .chain import Chain, Replay, is_users_interrupt
from .outcome import Error, Several, Value

__all__ = ["Cut", "Surround", "chunks_of", "streamed"]

logger = logging.getLogger("slacker")

Cut: TypeAlias = Callable[[Any, int], Iterator[list[Any]]]
"""Makes chunks of at most so many items of a result."""

Surround: TypeAlias = Callable[[ExitStack, Replay], None]
"""Enters what must surround the work."""


def chunks_of(result: Any, size: int) -> Generator[list[Any], None, None]:
    """Yield the items of `result` in lists of at most `size`; if making one fails, first those before it.

    Raises:
        TypeError: it is not iterable.
    """
    try:
        iterator = iter(result)
    except TypeError:
        raise TypeError(
            f"{type(result).__qualname__} objects cannot be streamed, for they are not iterable; await the recipe"
        ) from None
    try:
        while True:
            chunk: list[Any] = []
            try:
                chunk.extend(islice(iterator, size))
            except Exception:  # what there was until then is in the list
                if chunk:
                    yield chunk
                raise
            if not chunk:
                return
            yield chunk
    finally:
        if hasattr(iterator, "close"):  # of a generator: it may hold a cursor
            iterator.close()


def _surround_by_nothing(stack: ExitStack, replay: Replay) -> None:
    pass


def streamed(
    chain: Chain, size: int, surround: Surround = _surround_by_nothing, cut: Cut = chunks_of
) -> Generator[Value | Error, None, None]:
    """Replay `chain` and yield its result in chunks, each as a `Value` of a list; an `Error`, if any, comes last.

    Closing the iterator ends the work: a transaction around it is rolled back.

    Args:
        chain: what to replay.
        size: most items of a chunk.
        surround: enters what must surround the work, on the stack it is given.
        cut: makes the chunks of the result.

    Raises:
        KeyboardInterrupt: in the main thread only, where it is the user's and not the work's.
    """
    work = _Work(chain, size, surround, cut)
    try:
        while (outcome := work.next()) is not None:
            yield outcome
    finally:
        work.close()


def _nothing() -> None:
    pass


class _Work:
    # Apart from the generator, so that what a step raises cannot be taken for what closes that: a GeneratorExit.

    def __init__(self, chain: Chain, size: int, surround: Surround, cut: Cut) -> None:
        self._replay = Replay(chain)
        self._size = size
        self._surround = surround
        self._cut = cut
        self._stack = ExitStack()
        self._chunks: Iterator[list[Any]] | None = None
        self._ended = False

    def next(self) -> Value | Error | None:
        if self._ended:
            return None
        try:
            if self._chunks is None:
                self._surround(self._stack, self._replay)
                self._chunks = self._cut(self._result(), self._size)
            chunk = next(self._chunks, None)
            if chunk is not None:
                return Value(chunk)
            self._ended = True
            self._stack.close()
            return None
        except BaseException as error:
            if is_users_interrupt(error):
                self._leave(error)
                raise
            return self._replay.failed(self._leave(error))

    def _result(self) -> Any:
        chain, result = self._replay.chain, self._replay.run()
        return Several(result).unwrap(chain) if chain.returns_exceptions else result

    def close(self) -> None:
        """End the work before its end; for whoever has all of it, nothing."""
        if not self._ended:
            end = GeneratorExit()
            failure = self._leave(end)
            if failure is not end:
                self._log(failure)
        self._replay.forget()

    def _leave(self, error: BaseException) -> BaseException:
        """Return the error, or what became of it on the way out."""
        self._ended = True
        try:
            getattr(self._chunks, "close", _nothing)()
        except Exception as failure:  # there is one already, or the end, and more to leave
            self._log(failure)
        try:
            self._stack.__exit__(type(error), error, error.__traceback__)
        except Exception as failure:
            return failure
        return error

    def _log(self, failure: BaseException) -> None:
        outline = self._replay.chain.outline()
        logger.error("%s: what a stream leaves at its end failed", outline, exc_info=failure)
