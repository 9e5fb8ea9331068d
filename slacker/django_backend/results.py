"""Results that are complete when they leave: nothing that would query the database where it is looked at."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Collection, Generator, Iterable
from typing import Any, NoReturn

from django.core.paginator import Page
from django.db.models import Model, QuerySet
from django.db.models.manager import BaseManager
from django.db.models.query import RawQuerySet

from ..nesting import surveyed
from ..streaming import chunks_of

__all__ = ["cut", "settle", "unread"]


def settle(result: Any) -> Any:
    """Return `result` with its queries made, to be called where the work ran.

    A QuerySet or RawQuerySet becomes a list, and a Page gets its rows as a list, and a paginator that knows how many
    there are and has none of the others: also as direct members of a list, tuple, dict or set. A set with such members
    becomes a list itself, since lists cannot be hashed. QuerySets deeper down stay what they are, but their rows are
    read here, if they are in containers; those in the prefetch caches of instances have theirs. Everything else is
    returned as it is.

    Raises:
        TypeError: what only works where the database is: a manager, a coroutine or other awaitable, a generator.
    """
    if isinstance(result, dict):
        return _settle_dict(result)
    if isinstance(result, list | tuple | set | frozenset):
        return _settle_items(result)
    settled = _settle_member(result)
    if settled is result and not isinstance(result, Model):
        _read_deeper([result])
    return settled


def cut(result: Any, size: int) -> Generator[list[Any], None, None]:
    """Yield what `result` holds in settled lists of at most `size` items; a QuerySet is not read to its end first.

    Raises:
        TypeError: it is not iterable, or nothing that could leave: see `settle`.
    """
    are_rows = isinstance(result, QuerySet | RawQuerySet)
    if are_rows:
        # Otherwise its rows are here, with what the work made of them; and a RawQuerySet only prefetches when all are.
        if isinstance(result, QuerySet) and result._result_cache is None:
            result = result.iterator(chunk_size=size)
        elif isinstance(result, RawQuerySet) and result._result_cache is None and not result._prefetch_related_lookups:
            result = result.iterator()
    elif not inspect.isgenerator(result):  # one that queries does so here
        _refuse_live(result)
    with contextlib.closing(chunks_of(result, size)) as chunks:
        for chunk in chunks:
            yield chunk if are_rows else _settle_items(chunk)


def unread(root: Any) -> Any:
    """Return the root of a chain to start from: a QuerySet afresh, since it keeps the rows it has once read, and a
    recipe that runs twice queries twice.
    """
    if isinstance(root, QuerySet):
        return root._chain()  # and not .all(), which is the project's to override
    if isinstance(root, RawQuerySet):
        same = root._clone()
        same.query = root.query.chain(using=root.db)  # it holds the cursor
        return same
    return root


def _settle_page(page: Page) -> Page:
    page.object_list = _settle_member(page.object_list)
    if isinstance(page.paginator.object_list, QuerySet | RawQuerySet):
        page.paginator.count  # noqa: B018 (from now on it is known)
        page.paginator = copy.copy(page.paginator)
        page.paginator.object_list = _OtherRows()
    return page


class _OtherRows:
    """In the place of all rows in the paginator of a page that left: reading one page must not bring them all."""

    def __getitem__(self, key: object) -> NoReturn:
        raise TypeError("a page came by itself, and brought no other rows: ask for another page where the database is")

    __len__ = __iter__ = __getitem__


def _settle_dict(result: dict[Any, Any]) -> dict[Any, Any]:
    # As it is kept, whatever its class makes of these methods: a MultiValueDict gives one value, and keeps lists.
    _read_deeper(dict.values(result))
    settled = {key: _settle_member(value) for key, value in dict.items(result)}
    if not _differ(settled.values(), dict.values(result)):
        return result
    if type(result) is dict:
        return settled
    result = copy.copy(result)  # of its own class, where dict.copy() would give a plain dict
    for key, value in settled.items():
        dict.__setitem__(result, key, value)
    return result


def _settle_items(result: Any) -> Any:
    _read_deeper(result)
    settled = [_settle_member(item) for item in result]
    if not _differ(settled, result):
        return result
    if isinstance(result, set | frozenset | list):
        return settled
    return result._make(settled) if hasattr(result, "_make") else tuple(settled)  # a named tuple keeps its names


def _read_deeper(members: Collection[Any]) -> None:
    """Read the rows of QuerySets that are held by `members`.

    Pickling reads them as well, but later: outside of the transaction, with another time zone, and on a connection that
    nobody gives back.
    """
    for kind, values, _opens in surveyed(members):
        if issubclass(kind, QuerySet | RawQuerySet) and values is not members:
            for value in values:
                if isinstance(value, QuerySet | RawQuerySet):
                    len(value)


def _settle_member(member: Any) -> Any:
    if isinstance(member, QuerySet | RawQuerySet):
        return list(member)
    if isinstance(member, Page):
        return _settle_page(member)
    _refuse_live(member)
    return member


def _differ(settled: Iterable[Any], given: Iterable[Any]) -> bool:
    return any(new is not old for new, old in zip(settled, given, strict=True))


def _refuse_live(value: Any) -> None:
    if isinstance(value, BaseManager):
        model = value.model.__name__ if value.model else "a model"
        raise TypeError(f"the work returned a manager of {model}, which is no result; add .all() for its rows")
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        if inspect.isgenerator(value):
            value.close()
        raise TypeError("the work returned a generator, which would query where it is read; return a list instead")
    if hasattr(type(value), "__await__"):
        if inspect.iscoroutine(value):
            value.close()
        raise TypeError(
            f"the work returned an awaitable ({type(value).__name__}), which nobody awaits there; "
            "use the blocking method, .count() and not .acount()"
        )
