"""The language and the time zone that are active where a recipe is started hold where it runs, and no longer."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import zoneinfo
from contextvars import ContextVar
from typing import Any

import pytest
from django.db.models.functions import ExtractHour
from django.test import override_settings
from django.urls import get_script_prefix
from django.utils import timezone, translation
from django.utils.translation import gettext

from slacker import Slacker, Worker
from slacker.django_backend import caller
from slacker.workers import DjangoThreadWorker
from tests.django.app.models import Author

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


@pytest.fixture
def language(one_thread: DjangoThreadWorker) -> Any:
    """Return the recipe that tells the language in the worker's one thread."""
    return Slacker(translation.get_language, one_thread)()


@pytest.fixture
def time_zone(one_thread: DjangoThreadWorker) -> Any:
    """Return the recipe that tells the time zone in the worker's one thread."""
    return Slacker(timezone.get_current_timezone_name, one_thread)()


# --- language ------------------------------------------------------------------------------------------------------


async def test_the_language_goes_along(language: Any) -> None:
    """The language that is active on the loop is active in the thread."""
    with translation.override("de"):
        assert await language == "de"


async def test_texts_are_translated(one_thread: DjangoThreadWorker) -> None:
    """What the work translates, it translates into the caller's language."""
    with translation.override("de"):
        assert await Slacker(gettext, one_thread)("Monday") == "Montag"


async def test_it_is_the_language_when_started(language: Any) -> None:
    """fetch() takes the language along at once, however late the work begins."""
    with translation.override("de"):
        future = language.fetch()

    assert await future == "de"


async def test_no_language_goes_along_as_none(language: Any) -> None:
    """Translations that were switched off on the loop are off in the thread."""
    with translation.override(None):
        assert await language is None


async def test_a_language_is_not_left_behind(language: Any) -> None:
    """The next call in the thread finds the default language, if it was called with that."""
    with translation.override("de"):
        await language

    assert await language == "en"


async def test_what_the_work_activates_is_not_left_behind(one_thread: DjangoThreadWorker, language: Any) -> None:
    """A language that the work activates is active neither in the next call nor on the loop."""
    await Slacker(translation.activate, one_thread)("de")

    assert (await language, translation.get_language()) == ("en", "en")


async def test_what_was_deactivated_again_does_not_go_along(language: Any) -> None:
    """Where a language was active and is no more, the default one goes along."""
    translation.activate("de")
    translation.deactivate()

    assert await language == "en"


async def test_another_default_language_goes_along(language: Any) -> None:
    """Overriding the default, for which Django begins afresh, holds at once, as does what is activated then."""
    assert await language == "en"
    with override_settings(LANGUAGE_CODE="fr"):
        assert await language == "fr"
        with translation.override("de"):
            assert await language == "de"

    with translation.override("de"):
        assert await language == "de"


async def test_django_is_asked_where_its_variables_are_not_found(
    language: Any, time_zone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should Django keep what is active in another way, it goes along all the same."""
    monkeypatch.setattr(caller, "_variables", lambda: (None, None))

    assert (await language, await time_zone) == ("en", "UTC")
    with translation.override("de"), timezone.override(BERLIN):
        assert (await language, await time_zone) == ("de", "Europe/Berlin")


def test_the_variables_are_found() -> None:
    """What Django keeps in context variables is found in each release, or calls would be slower and nobody know."""
    assert all(type(variable) is ContextVar for variable in caller._variables())


def test_no_variable_is_found_where_none_is_set_alone() -> None:
    """Whatever sets none, or more than one, leaves Django to be asked."""
    one, other = ContextVar[int]("one"), ContextVar[int]("other")

    def set_both() -> None:
        one.set(1)
        other.set(1)

    assert caller._set_by(lambda: None) is None
    assert caller._set_by(set_both) is None
    assert caller._set_by(lambda: one.set(1)) is one


async def test_tasks_keep_their_languages_apart(worker: DjangoThreadWorker) -> None:
    """Two tasks with different languages each get their own, though their work runs at the same time."""
    barrier = threading.Barrier(2)

    def together() -> str | None:
        barrier.wait(10)  # liveness bound
        return translation.get_language()

    async def task(code: str) -> Any:
        with translation.override(code):
            return await Slacker(together, worker)()

    assert await asyncio.gather(task("de"), task("fr")) == ["de", "fr"]


# --- time zone -----------------------------------------------------------------------------------------------------


async def test_the_time_zone_goes_along(time_zone: Any) -> None:
    """The time zone that is active on the loop is active in the thread."""
    with timezone.override(BERLIN):
        assert await time_zone == "Europe/Berlin"


async def test_a_time_zone_is_not_left_behind(time_zone: Any) -> None:
    """The next call in the thread finds the default time zone, if it was called with that."""
    with timezone.override(BERLIN):
        await time_zone

    assert await time_zone == "UTC"


async def test_what_zone_the_work_activates_is_not_left_behind(one_thread: DjangoThreadWorker, time_zone: Any) -> None:
    """A time zone that the work activates is active neither in the next call nor on the loop."""
    await Slacker(timezone.activate, one_thread)(BERLIN)

    assert (await time_zone, timezone.get_current_timezone_name()) == ("UTC", "UTC")


async def test_queries_use_the_callers_time_zone(authors: Any, library: dict[str, Author]) -> None:
    """A look-up by date means the caller's date."""
    await authors.filter(name="Ann").update(born=dt.datetime(2020, 12, 31, 23, 30, tzinfo=dt.UTC))
    with timezone.override(BERLIN):
        born_on_new_year = await authors.filter(born__date=dt.date(2021, 1, 1))

    assert [library["Ann"]] == born_on_new_year


async def test_without_time_zones_dates_are_naive(one_thread: DjangoThreadWorker) -> None:
    """With USE_TZ off everything works, and dates come without a time zone."""
    with override_settings(USE_TZ=False):
        author = await Slacker(Author, one_thread).objects.create(name="Ann", born=dt.datetime(2020, 12, 31))
        await Slacker(author, one_thread).refresh_from_db()

    assert dt.datetime(2020, 12, 31) == author.born


# --- what is pickled after the work --------------------------------------------------------------------------------


class Held:
    rows: Any = None


def hold_hours() -> Held:
    held = Held()
    held.rows = Author.objects.annotate(hour=ExtractHour("born")).values_list("hour", flat=True)
    return held


@pytest.mark.parametrize("any_worker", ["http", "processes"], indirect=True)
async def test_rows_that_are_read_on_the_way_out_are_read_in_it(any_worker: Worker) -> None:
    """What pickling reads, a QuerySet that hangs on an object, it reads in the caller's time zone."""
    await Slacker(Author, any_worker).objects.create(name="Ann", born=dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC))
    with timezone.override(BERLIN):
        held = await Slacker(hold_hours, any_worker)()

    assert list(held.rows) == [13]


class NoZone(dt.tzinfo):
    """A time zone without a name: such as only a program itself can have."""

    def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(hours=9)

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("any_worker", ["http", "processes"], indirect=True)
async def test_a_time_zone_that_means_nothing_elsewhere_is_refused(any_worker: Worker) -> None:
    """Rather no call than one in another time zone."""
    with timezone.override(NoZone()), pytest.raises(ValueError, match="has no name that another process knows"):
        await Slacker(Author, any_worker).objects.count()


async def test_the_script_prefix(one_thread: DjangoThreadWorker) -> None:
    """URLs are made as on the main thread, for which django.setup() heeds FORCE_SCRIPT_NAME."""
    with override_settings(FORCE_SCRIPT_NAME="/app"):
        assert await Slacker(get_script_prefix, one_thread)() == "/app/"
