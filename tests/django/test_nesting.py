"""Recipes in the arguments of others: one trip, in whatever Django has that can hold them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import (
    Case,
    CharField,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    FilteredRelation,
    FloatField,
    IntegerField,
    OuterRef,
    Prefetch,
    Q,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Cast, Coalesce, Concat
from django.db.models.lookups import GreaterThan
from django.utils.datastructures import MultiValueDict

from slacker import Refused, Slacker, Worker
from slacker.nesting import find, rebuilt, replace
from slacker.workers import DjangoHttpWorker, DjangoThreadWorker
from tests.django.app.models import Author, Book
from tests.django.helpers import HookServer, away_only, everywhere

runs: list[str] = []
"""What `noted` was called with, whichever thread ran it."""


@pytest.fixture(autouse=True)
def _no_runs() -> None:
    runs.clear()


def noted(value: Any) -> Any:
    """Return `value`, and note that it was asked for."""
    runs.append(str(value))
    return value


class Recipes:
    """Where recipes of one worker start."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.authors = Slacker(Author, worker).objects
        self.books = Slacker(Book, worker).objects
        self.ann, self.bob = self.authors.get(name="Ann"), self.authors.get(name="Bob")
        self.count = self.books.count()  # 3

    def __call__(self, root: Any) -> Any:
        return Slacker(root, self.worker)


@pytest.fixture
def recipes(any_worker: Worker, library: dict[str, Author]) -> Recipes:
    """Return the beginnings of recipes for the `library`, once for each kind of worker."""
    return Recipes(any_worker)


def titles(books: Any) -> Any:
    return books.values_list("title", flat=True)


# --- one trip ------------------------------------------------------------------------------------------------------


async def test_is_one_request(hook: HookServer, http_worker: DjangoHttpWorker, library: dict[str, Author]) -> None:
    """A recipe in the arguments of another goes along in one request."""
    q = Recipes(http_worker)
    found = await q.books.filter(author=q.ann)[:5]

    assert [book.title for book in found] == ["Ashes", "Bread"]
    assert hook.requests == 1


async def test_is_one_call_of_a_thread(one_thread: DjangoThreadWorker, library: dict[str, Author]) -> None:
    """In threads it is one call: nothing can come between the two, though the thread is asked for more."""
    q = Recipes(one_thread)
    noted_at = Slacker(noted, one_thread)
    whole = noted_at(q.books.filter(author=q.authors.get(name=noted_at("Ann"))).count()).fetch()
    other = noted_at("other").fetch()

    assert (await whole, await other) == (2, "other")
    assert runs == ["Ann", "2", "other"]


async def test_a_queryset_becomes_a_subquery(recipes: Recipes, statements: list[str]) -> None:
    """A nested QuerySet is not read: it stays what it is and becomes a part of the one statement."""
    statements.clear()
    found = await titles(recipes.books.filter(author__in=recipes.authors.filter(name="Ann")))

    assert found == ["Ashes", "Bread"]
    assert [sql.count("SELECT") for sql in statements if "SELECT" in sql] == [2]


async def test_the_same_recipe_runs_once(recipes: Recipes) -> None:
    """One object that stands in three places is replayed once, and its result stands in all three."""
    ann = recipes.authors.get(name=recipes(noted)("Ann"))
    found = await titles(recipes.books.filter(Q(author=ann), author__in=[ann]).exclude(~Q(author=ann)))

    assert found == ["Ashes", "Bread"]
    assert runs == ["Ann"]


async def test_each_run_runs_it_again(recipes: Recipes) -> None:
    """A recipe that is awaited twice replays twice what is nested in it; arguments are not used up."""
    recipe = titles(recipes.books.filter(Q(author=recipes.authors.get(name=recipes(noted)("Ann")))))

    assert await recipe == await recipe == ["Ashes", "Bread"]
    assert runs == ["Ann", "Ann"]


# --- what can hold them --------------------------------------------------------------------------------------------


FILTERS: dict[str, tuple[Callable[[Recipes], tuple[Any, ...]], list[str]]] = {
    "Q": (lambda q: (Q(author=q.ann),), ["Ashes", "Bread"]),
    "~Q": (lambda q: (~Q(author=q.ann),), ["Clouds"]),
    "Q | Q": (lambda q: (Q(author=q.bob) | Q(pages=600),), ["Bread", "Clouds"]),
    "Q & ~(Q | Q)": (lambda q: (Q(author=q.ann) & ~(Q(title="Ashes") | Q(author=q.bob)),), ["Bread"]),
    "Q of an expression": (lambda q: (Q(pages__gt=F("pages") - q.count, author=q.bob),), ["Clouds"]),
    "list": (lambda q: (Q(author__in=[q.ann, q.bob]),), ["Ashes", "Bread", "Clouds"]),
    "tuple": (lambda q: (Q(pages__range=(q.count, q(int)("100"))),), ["Ashes", "Clouds"]),
    "set": (lambda q: (Q(pages__in={q(int)("600")}),), ["Bread"]),
    "lookup": (lambda q: (GreaterThan(F("pages"), q(int)("100")),), ["Bread"]),
    "lookup of a value": (lambda q: (GreaterThan(F("pages"), Value(q(int)("100"))),), ["Bread"]),
    "recorded Exists": (lambda q: (q(Exists)(q.authors.filter(pk=OuterRef("author"), name="Bob")),), ["Clouds"]),
    "Q of a recorded Exists": (
        lambda q: (Q(q(Exists)(q.authors.filter(pk=OuterRef("author"), name="Bob")), pages=100),),
        ["Clouds"],
    ),
}


@everywhere
@pytest.mark.parametrize("case", FILTERS)
async def test_filters(recipes: Recipes, case: str) -> None:
    """Whatever filter() takes may hold recipes."""
    make, expected = FILTERS[case]

    assert await titles(recipes.books.filter(*make(recipes))) == expected


ANNOTATIONS: dict[str, tuple[Callable[[Recipes], Any], list[Any]]] = {
    "F + recipe": (lambda q: F("pages") + q.count, [103, 603, 103]),
    "recipe in a product": (lambda q: F("pages") + Value(2) * q.count, [106, 606, 106]),
    "Value": (lambda q: Value(q.count, output_field=IntegerField()), [3, 3, 3]),
    "Value of a subquery": (lambda q: Value(q(Subquery)(q.authors.filter(name="Bob").values("name"))), ["Bob"] * 3),
    "Case, When, then": (
        lambda q: Case(When(author=q.ann, then=q(str)("hers")), default=q(str)("his"), output_field=CharField()),
        ["hers", "hers", "his"],
    ),
    "When a lookup": (
        lambda q: Case(When(GreaterThan(F("pages"), q(int)("99")), then=Value(1)), default=2),
        [1, 1, 1],
    ),
    "Coalesce": (lambda q: Coalesce(Value(None, output_field=IntegerField()), q.count), [3, 3, 3]),
    "Concat": (
        lambda q: Concat("title", Value("/"), q(str)("x"), output_field=CharField()),
        ["Ashes/x", "Bread/x", "Clouds/x"],
    ),
    "ExpressionWrapper": (
        lambda q: ExpressionWrapper(F("pages") * q.count, output_field=IntegerField()),
        [300, 1800, 300],
    ),
    "a division of a Cast": (lambda q: Cast(q(int)("350"), FloatField()) / F("pages"), [3.5, 350 / 600, 3.5]),
    "Cast to text": (lambda q: Cast(q.count, CharField()), ["3", "3", "3"]),
    "ExpressionWrapper of another type": (
        lambda q: ExpressionWrapper(F("pages") * q.count, output_field=FloatField()),
        [300.0, 1800.0, 300.0],
    ),
    "Case of mixed types": (
        lambda q: Case(When(pages=q(int)("600"), then=1), default=Value(0.5), output_field=FloatField()),
        [0.5, 1.0, 0.5],
    ),
    "recorded Subquery": (
        lambda q: q(Subquery)(q.authors.filter(pk=OuterRef("author")).values("name")[:1]),
        ["Ann", "Ann", "Bob"],
    ),
    "sum with a recorded Subquery": (
        lambda q: F("pages") + q(Subquery)(q.books.filter(title="Bread").values("pages")[:1]),
        [700, 1200, 700],
    ),
}


@everywhere
@pytest.mark.parametrize("case", ANNOTATIONS)
async def test_expressions(recipes: Recipes, case: str) -> None:
    """Expressions may hold recipes."""
    make, expected = ANNOTATIONS[case]

    made = await recipes.books.annotate(made=make(recipes)).values_list("made", flat=True)
    assert [(value, type(value)) for value in made] == [(value, type(value)) for value in expected]


async def test_an_aggregates_filter(recipes: Recipes) -> None:
    """The filter of an aggregate may hold a recipe."""
    hers = Count("pk", filter=Q(author=recipes.ann))

    assert await recipes.books.aggregate(hers=hers) == {"hers": 2}


@everywhere
async def test_a_filtered_relation(recipes: Recipes) -> None:
    """The condition of a FilteredRelation may hold a recipe, and the recipe that holds it runs any number of times."""
    longest = recipes.books.order_by("-pages")[0].title
    hers = FilteredRelation("books", condition=Q(books__title=longest))
    found = recipes.authors.annotate(longest=hers).filter(longest__isnull=False).values_list("name", flat=True)

    assert [await found, await found] == [["Ann"], ["Ann"]]


async def test_a_date_among_the_arguments(recipes: Recipes) -> None:
    """A recipe need not be of the ORM: anything that runs there may stand in an expression."""
    born = recipes(dt.datetime)(2000, 1, 1, tzinfo=dt.UTC)
    found = await recipes.authors.annotate(when=Coalesce("born", born)).values_list("when", flat=True)

    assert found == [dt.datetime(2000, 1, 1, tzinfo=dt.UTC)] * 2


@away_only
@pytest.mark.parametrize("hold", [lambda books: books, lambda books: books[:1]])
async def test_a_queryset_that_cannot_be_sent(
    any_worker: Worker, library: dict[str, Author], hold: Callable[[Any], Any]
) -> None:
    """A QuerySet among the arguments is a subquery in threads; elsewhere the error says to make it a recipe."""
    recipe = Slacker(Author, any_worker).objects.filter(books__in=hold(Book.objects.filter(title="Clouds")))
    if isinstance(any_worker, DjangoThreadWorker):
        assert await recipe == [library["Bob"]]
    else:
        with pytest.raises(Refused, match=r"argument 'books__in' .*it is or holds a QuerySet.* make it a recipe"):
            await recipe


async def test_dicts_and_keywords(recipes: Recipes) -> None:
    """Values in a dict of defaults, and of keywords, may be recipes."""
    book, created = await recipes.books.update_or_create(title="Clouds", defaults={"author": recipes.ann})

    assert (book.author.name, created) == ("Ann", False)
    assert (await recipes.books.create(title="Dunes", author=recipes.bob)).author.name == "Bob"


async def test_new_objects_in_a_list(recipes: Recipes) -> None:
    """Objects that are made there may be handed over in a list."""
    new = recipes(Book)
    made = await recipes.books.bulk_create([new(title="Dunes", author=recipes.ann), new(title="E", author=recipes.bob)])

    assert [book.title for book in made] == ["Dunes", "E"]
    assert await recipes.books.filter(author=recipes.bob).count() == 2


async def test_a_slice(recipes: Recipes) -> None:
    """The bounds of a slice may be recipes."""
    assert await titles(recipes.books.all())[: recipes.authors.count()] == ["Ashes", "Bread"]


async def test_a_recorded_prefetch(recipes: Recipes, statements: list[str]) -> None:
    """Prefetch, recorded, takes a recipe for its queryset, and the rows come along with the result."""
    prefetch = recipes(Prefetch)("books", queryset=recipes.books.filter(pages__gt=100))
    ann, bob = await recipes.authors.prefetch_related(prefetch)
    statements.clear()

    assert [[book.title for book in author.books.all()] for author in (ann, bob)] == [["Bread"], []]
    assert statements == []


async def test_a_prefetch_to_an_attribute(recipes: Recipes) -> None:
    """What a recorded Prefetch puts into an attribute is a list."""
    prefetch = recipes(Prefetch)("books", queryset=recipes.books.filter(author=recipes.ann), to_attr="found")
    ann, bob = await recipes.authors.prefetch_related(prefetch)

    assert ([book.title for book in ann.found], bob.found) == (["Ashes", "Bread"], [])


# --- the caller's own objects ----------------------------------------------------------------------------------------


def test_the_callers_q_stays_as_it_is(library: dict[str, Author], worker: DjangoThreadWorker) -> None:
    """Recording changes neither a Q nor an expression that it is given."""
    q = Recipes(worker)
    condition, total = ~Q(author=q.ann), F("pages") + q.count
    q.books.filter(condition).annotate(total=total)

    assert condition.children == [("author", q.ann)]
    assert total.rhs.value is q.count


def test_what_was_computed_of_a_recipe_is_not_kept() -> None:
    """What an expression has cached is left out of the like of it with other parts."""
    total = F("pages") + Value("a part")
    assert hash(total) == hash(total.copy())  # and caches what it was computed from
    assert "identity" in vars(total)
    like = rebuilt(total, lambda part: 7 if isinstance(part, Value) else part)

    assert (like.rhs, "identity" in vars(like)) == (7, False)
    assert isinstance(total.rhs, Value)


def test_querysets_are_not_looked_through(library: dict[str, Author]) -> None:
    """A QuerySet among the arguments is plain: nothing is searched in it, and it is not read."""
    authors = Author.objects.all()

    assert find([authors], lambda kind: kind is int) is None
    assert authors._result_cache is None


def test_several_values_of_a_key(recipes: Recipes) -> None:
    """A MultiValueDict has as many values afterwards, and is none of lists of lists."""
    given = MultiValueDict({"name": [recipes.count, 2], "other": ["a"]})

    new = replace(given, lambda kind: kind is Slacker, lambda found: 1)

    assert (type(new), new) == (MultiValueDict, MultiValueDict({"name": [1, 2], "other": ["a"]}))


# --- failures --------------------------------------------------------------------------------------------------------


async def test_a_failure_names_chain_and_step(recipes: Recipes) -> None:
    """The note names the step of the nested recipe, and the recipe that it stood in."""
    with pytest.raises(Author.DoesNotExist) as caught:
        await recipes.books.filter(author=recipes.authors.get(name="Zoe"))[:5]

    assert caught.value.__notes__ == [
        "slacker: at step 3, .get, of Author.objects.get(...), in Book.objects.filter(...)[...]"
    ]


async def test_a_failure_of_the_outer_recipe(recipes: Recipes) -> None:
    """A step that fails after its arguments were found is named as usual."""
    with pytest.raises(Book.DoesNotExist) as caught:
        await recipes.books.filter(author=recipes.ann).get(title="Zoo")

    assert caught.value.__notes__ == ["slacker: at step 5, .get, of Book.objects.filter(...).get(...)"]


def test_another_workers_recipe(recipes: Recipes) -> None:
    """A recipe of another worker is refused when it is recorded."""
    with pytest.raises(TypeError, match="one trip goes to one worker"):
        recipes.books.filter(Q(author=Slacker(Author, DjangoThreadWorker(max_workers=1)).objects.get(name="Ann")))


def test_an_instance_that_holds_a_recipe(worker: DjangoThreadWorker, library: dict[str, Author]) -> None:
    """A model instance is not looked through: one with a recipe as an attribute is refused."""
    q = Recipes(worker)
    book = Book(title="Dunes")
    book.pages = q.count
    with pytest.raises(TypeError, match="holds a Book, which has a recipe as an attribute"):
        q.books.bulk_create([book])
