"""Recipes in the arguments of others, on real servers: what holds them there must be known there, too."""

from __future__ import annotations

from django.db.models import Case, F, Q, Value, When

from slacker import Slacker, batch
from slacker.workers import DjangoHttpWorker


async def test_in_queries(library: DjangoHttpWorker) -> None:
    """A server that has recorded nothing itself finds recipes in Q and in expressions."""
    from .project.models import Author, Book

    ann = Slacker(Author, library).objects.get(name="Ann")
    books = Slacker(Book, library).objects.order_by("title")
    hers, pages, whose = await batch(
        books.filter(Q(author=ann)).values_list("title", flat=True),
        books.annotate(more=F("pages") + books.count()).values_list("more", flat=True),
        books.annotate(whose=Case(When(author=ann, then=Value("hers")), default=Value("his"))).values_list(
            "whose", flat=True
        ),
    )

    assert (hers, pages, whose) == (["Ashes", "Bread"], [103, 603, 103], ["hers", "hers", "his"])
