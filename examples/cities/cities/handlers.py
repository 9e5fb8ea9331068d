"""The Tornado application: every handler runs its queries off the loop, each in another of slacker's spellings.

    /               the page               no query
    /search?q=      cities by name         await
    /country/XX     a country              yield, under slacker's adisp, of a batch: one trip for all queries
    /stats          how much there is      yield, under Tornado's own coroutine
    /biggest        the biggest cities     callbacks
    /export.csv     all cities             async for, over a stream

All but the first and the last answer with a JSON object, and all do to what goes wrong: {"error": a sentence for
people}.
"""

import asyncio
import csv
from collections.abc import Generator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from django.db.models import Count, Sum
from tornado import gen
from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler, StaticFileHandler

import slacker
from slacker import Slacker, Worker, adisp

from . import outages
from .models import City, Country

PROJECT = Path(__file__).parent.parent
LONGEST_QUERY = 100  # characters; the longest name has 57
CHUNK = 500  # cities of the export that are sent at once
STALL = 30  # seconds without a step forward after which the export is ended


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
    """A country, its 10 largest cities, and the 6 largest other countries of its continent."""

    @adisp.process
    def get(self, code: str) -> Generator[Any, Any, None]:
        code = code.upper()
        country = self.countries.objects.get(pk=code)  # no query yet, but an argument for others
        cities = self.cities.objects.filter(country=country)
        others = self.countries.objects.filter(continent=country.continent).exclude(pk=code)
        try:
            country, totals, largest, others = yield slacker.batch(
                country,
                cities.aggregate(cities=Count("pk"), population=Sum("population", default=0)),
                cities.select_related("country")[:10],
                others.order_by("-population")[:6],
            )
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
                "city_count": totals["cities"],
                "city_population": totals["population"],
                "cities": [describe(city) for city in largest],
                "others": [{"code": other.code, "name": other.name} for other in others],
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


class Export(Handler):
    """All cities as CSV, by country and name. The database is read on only as fast as the client reads."""

    async def get(self) -> None:
        query = self.cities.objects.order_by("country", "search_key", "pk").values_list(*COLUMNS.values())
        try:
            stream = slacker.stream(slacker.options(query, timeout=STALL), CHUNK)
        except TypeError as error:
            worker = type(self.worker).__name__
            raise HTTPError(501, "There is no export with this worker: %s cannot stream.", worker) from error
        self.set_header("Content-Type", "text/csv; charset=utf-8; header=present")
        self.set_header("Content-Disposition", 'attachment; filename="cities.csv"')
        table = csv.writer(self)  # it calls write()
        table.writerow(COLUMNS)
        count = 0
        with suppress(StreamClosedError):  # the client has gone away; leaving the loop ends the query
            async with aclosing(stream):
                async for row in stream:
                    table.writerow(row)
                    count += 1
                    if count % CHUNK == 0:
                        await self.flush()  # until the client has taken them

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        if self._headers_written:
            self.detach().close()  # a proper end would tell the client that it has them all
        else:
            super().send_error(status_code, **kwargs)


COLUMNS = {
    "geoname_id": "pk",
    "name": "name",
    "country_code": "country",
    "country": "country__name",
    "population": "population",
    "latitude": "latitude",
    "longitude": "longitude",
    "timezone": "timezone",
}
"""Of the export, and where they come from."""


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
            (r"/export\.csv", Export, asks),
        ],
        default_handler_class=NotFound,
        static_handler_class=StaticFile,
        static_path=str(PROJECT / "static"),
        template_path=str(PROJECT / "templates"),
    )
