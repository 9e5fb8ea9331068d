"""Recipes inside of Django's query expressions: ``Q(author=q)``, ``F("price") + q``, ``When(..., then=q)``.

Importing this registers Django's nodes and expressions with `slacker.nesting`. What builds itself from a queryset at
once (Prefetch, Subquery, Exists) cannot hold a recipe; it is recorded instead: ``Slacker(Prefetch)("books",
queryset=q)``.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection, Iterable
from typing import Any

from django.db.models import FilteredRelation
from django.db.models.expressions import BaseExpression, Value
from django.utils.functional import cached_property
from django.utils.tree import Node

from ..nesting import Replace, parts_of, rebuilt

__all__: list[str] = []


@parts_of.register(Node)
def _(value: Any) -> Iterable[Collection[Any]]:
    return (value.children,)


@rebuilt.register(Node)
def _(value: Any, replace: Replace) -> Any:
    same = copy.copy(value)
    same.children = [replace(child) for child in value.children]
    return same


@parts_of.register(FilteredRelation)
def _(value: Any) -> Iterable[Collection[Any]]:
    return ((value.condition,),)


@rebuilt.register(FilteredRelation)
def _(value: Any, replace: Replace) -> Any:
    return FilteredRelation(value.relation_name, condition=replace(value.condition))


@parts_of.register(BaseExpression)
def _(value: Any) -> Iterable[Collection[Any]]:
    return (vars(value).values(),)


@rebuilt.register(BaseExpression)
def _(value: Any, replace: Replace) -> Any:
    same = copy.copy(value)
    held = vars(same)
    for name, part in vars(value).items():
        # What is cached was computed from what is replaced now; but an output_field may have been given, under the name
        # of the property that finds one. The arguments of the constructor are kept as well.
        cached = isinstance(inspect.getattr_static(type(value), name, None), cached_property)
        if cached and name != "output_field":
            held.pop(name, None)
        else:
            held[name] = replace(part)
    return same


@rebuilt.register(Value)
def _(value: Any, replace: Replace) -> Any:
    part = replace(value.value)
    if hasattr(type(part), "resolve_expression"):
        return part  # a QuerySet, for one, stands for itself: Django would not have wrapped it
    return rebuilt.dispatch(BaseExpression)(value, replace)
