"""The Tornado application: every handler runs its queries off the loop, each in another of slacker's spellings.

    /               the page               no query
    /search?q=      cities by name         await
    /country/XX     a country              yield, under slacker's adisp
    /stats          how much there is      yield, under Tornado's own coroutine
    /biggest        the biggest cities     callbacks

All but the page answer with a JSON object, also to what goes wrong: {"error": a sentence for people}.
"""

import asyncio
from collections.abc import Generator
from pathlib import Path
from typing import Any

from django.db.models import Count, Sum
from tornado import gen
from tornado.web import Application, HTTPError, RequestHandler, StaticFileHandler

from slacker import Slacker, Worker, adisp

from . import outages
from .models import City, Country

PROJECT = Path(__file__).parent.parent
LONGEST_QUERY = 100  # characters; the longest name has 57


class JsonErrors(RequestHandler):
    """Answers errors with JSON, and never with a traceback."""

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        message: str | None = outages.explain(error)
        if message:
            self.set_status(503)
        elif isinstance(error, HTTPError):
            message = error.get_message()
        self.finish({"error": message or self._reason})

    def set_default_headers(self) -> None:
        self.set_header("X-Content-Type-Options", "nosniff")


class StaticFile(JsonErrors, StaticFileHandler):
    """The page's script, style and icon."""


class NotFound(JsonErrors):
    """Whatever has no other handler."""

    def prepare(self) -> None:
        raise HTTPError(404, "There is nothing at %s", self.request.path)


class Page(JsonErrors):
    """The page itself; all it shows it fetches from the other handlers."""

    def get(self) -> None:
        self.set_header("Content-Security-Policy", "default-src 'self'; base-uri 'none'; frame-ancestors 'none'")
        self.render("page.html")


class Handler(JsonErrors):
    """One that asks the database."""

    def initialize(self, worker: Worker) -> None:
        self.worker = worker
        self.cities = Slacker(City, worker)
        self.countries = Slacker(Country, worker)


class Search(Handler):
    """At most 20 cities whose name begins with ``q``, biggest first."""

    async def get(self) -> None:
        query = self.get_query_argument("q", "")
        if len(query) > LONGEST_QUERY:
            raise HTTPError(400, "Please type at most %d characters, not %d", LONGEST_QUERY, len(query))
        found = await self.cities.objects.starting_with(query).select_related("country")[:20]
        self.write({"query": query, "cities": [describe(city) for city in found]})


class CountryPanel(Handler):
    """A country and its 10 largest cities."""

    @adisp.process
    def get(self, code: str) -> Generator[Any, Any, None]:
        code = code.upper()
        try:
            country, largest = yield [
                self.countries.objects.get(pk=code),
                self.cities.objects.filter(country=code).select_related("country")[:10],
            ]
        except Country.DoesNotExist as error:
            raise HTTPError(404, "There is no country with the code %s", code) from error
        self.write(
            {
                "code": country.code,
                "name": country.name,
                "capital": country.capital,
                "continent": country.continent,
                "population": country.population,
                "area": country.area,
                "currency": country.currency,
                "cities": [describe(city) for city in largest],
            }
        )


class Stats(Handler):
    """How many cities and countries there are, how many people live in the cities, and which worker counted them."""

    @gen.coroutine
    def get(self) -> Generator[Any, Any, None]:
        in_cities, countries = yield [
            self.cities.objects.aggregate(cities=Count("pk"), population=Sum("population")),
            self.countries.objects.count(),
        ]
        self.write({**in_cities, "countries": countries, "worker": type(self.worker).__name__})


class Biggest(Handler):
    """The 10 biggest cities of the world."""

    async def get(self) -> None:
        # Tornado finishes the answer when this method returns: a Future waits for whichever callback is called.
        found: asyncio.Future[list[City]] = asyncio.get_running_loop().create_future()
        self.cities.objects.select_related("country")[:10].proceed(found.set_result, found.set_exception)
        self.write({"cities": [describe(city) for city in await found]})


def describe(city: City) -> dict[str, Any]:
    """Return `city`, fetched with its country, as a JSON object."""
    return {
        "name": city.name,
        "country": city.country.name,
        "country_code": city.country_id,
        "population": city.population,
        "latitude": city.latitude,
        "longitude": city.longitude,
    }


def make_app(worker: Worker) -> Application:
    """Return the application, its queries run by `worker`."""
    asks = {"worker": worker}
    return Application(
        [
            (r"/", Page),
            (r"/search", Search, asks),
            (r"/country/(\w+)", CountryPanel, asks),
            (r"/stats", Stats, asks),
            (r"/biggest", Biggest, asks),
        ],
        default_handler_class=NotFound,
        static_handler_class=StaticFile,
        static_path=str(PROJECT / "static"),
        template_path=str(PROJECT / "templates"),
    )
