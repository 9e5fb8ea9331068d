"""A comparison that overlooks nothing: of what was packed with what came out."""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from decimal import Decimal
from typing import Any

from django.db.models import Model
from django.db.models.base import ModelState

MUTABLE = (Model, list, dict, set)
"""Of these it matters which are the same object."""


def assert_alike(expected: Any, actual: Any) -> None:
    """Compare types, values, the order of keys, and which objects are the same, however deep."""
    _Pairs().compare(expected, actual, "it")


class _Pairs:
    """Knows which object stands for which. Works with a list of what is to do, as chains of rows can be long."""

    def __init__(self) -> None:
        self._actual: dict[int, Any] = {}
        self._expected: dict[int, Any] = {}
        self._todo: list[tuple[Any, Any, str]] = []

    def compare(self, expected: Any, actual: Any, where: str) -> None:
        self._todo.append((expected, actual, where))
        while self._todo:
            self._compare(*self._todo.pop())

    def _compare(self, expected: Any, actual: Any, where: str) -> None:
        assert type(expected) is type(actual), where
        if isinstance(expected, MUTABLE):
            known = id(expected) in self._actual
            assert self._actual.setdefault(id(expected), actual) is actual, f"{where} was one object with another"
            assert self._expected.setdefault(id(actual), expected) is expected, f"{where} has become one with another"
            if known:
                return
        if isinstance(expected, Model):
            self._compare_dicts(vars(expected), vars(actual), where)
        elif isinstance(expected, ModelState):
            self._compare_dicts(_state(expected, actual), _state(actual, expected), where)
        elif isinstance(expected, dict):
            self._compare_dicts(expected, actual, where)
        elif isinstance(expected, list | tuple):
            assert len(expected) == len(actual), where
            self._todo += [(*pair, f"{where}[{i}]") for i, pair in enumerate(zip(expected, actual, strict=True))]
        else:
            assert _plain(expected) == _plain(actual), where

    def _compare_dicts(self, expected: dict[Any, Any], actual: dict[Any, Any], where: str) -> None:
        assert list(expected) == list(actual), where
        self._todo += [(expected[key], actual[key], f"{where}.{key}"[-200:]) for key in expected]


def _state(state: ModelState, other: ModelState) -> dict[str, Any]:
    """Return the attributes of `state` but for peers, and with the dict that Django makes when it is asked for."""
    attributes = {"fields_cache": {}} if "fields_cache" in vars(other) else {}
    attributes |= vars(state)
    return {name: attributes[name] for name in sorted(attributes) if name != "peers"}


def _plain(value: Any) -> Any:
    """Return a form of `value` in which equality means that nothing at all differs."""
    if isinstance(value, float):
        return struct.pack("d", value)
    if isinstance(value, complex):
        return struct.pack("dd", value.real, value.imag)
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None), value.fold, type(value.tzinfo), str(value.tzinfo)
    if isinstance(value, Decimal):
        return value.as_tuple()
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, uuid.UUID):
        return value.int, value.is_safe
    return value
