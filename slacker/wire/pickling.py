"""The only module that pickles, and `loads` the only place that unpickles.

Whoever can put bytes there can run any code: what comes over a network has been verified by `slacker.signing` before.
Pickling runs code of the user's as well, on both sides and both ways, so whatever may come out of it is caught where
these are called, and becomes an answer there.
"""

from __future__ import annotations

import io
import pickle
import threading
import types
from typing import Any

__all__ = ["BY_NAME", "dumps", "dumps_to_send", "let_interrupt_pass", "loads"]

BY_NAME = (type, types.FunctionType, types.BuiltinFunctionType)
"""What pickle sends by module and name."""


def dumps(value: Any) -> bytes:
    return pickle.dumps(value, 5)


def dumps_to_send(value: Any) -> bytes:
    """Pickle `value` for another process, which does not have what stands in this one's ``__main__``."""
    pickled = dumps(value)
    if b"__main__" in pickled:
        _NotOfMain(io.BytesIO(), 5).dump(value)
    return pickled


class _NotOfMain(pickle.Pickler):
    """Refuses classes and functions of ``__main__``. As it looks at every object, it is only used on suspicion."""

    def reducer_override(self, value: Any) -> Any:
        if issubclass(type(value), BY_NAME) and value.__module__ == "__main__":
            raise pickle.PicklingError(f"{value.__qualname__} stands in __main__: move it into a module of its own")
        return NotImplemented


def loads(pickled: bytes | memoryview) -> Any:
    return pickle.loads(pickled)


def let_interrupt_pass(error: BaseException) -> None:
    """Raise a KeyboardInterrupt in the main thread again: there it is the user's, anywhere else the work's."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error
