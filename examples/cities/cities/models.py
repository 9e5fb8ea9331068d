"""Countries and their cities, as geonames.org has them."""

from django.db import models

from .search import CityQuerySet, KeyField


class Country(models.Model):  # type: ignore[misc]  # Django comes without types
    """A country or territory with a code in ISO 3166."""

    code = models.CharField(max_length=2, primary_key=True)
    name = models.CharField(max_length=100)
    capital = models.CharField(max_length=100, blank=True)
    continent = models.CharField(max_length=20)
    population = models.BigIntegerField()
    area = models.IntegerField(help_text="in square kilometres")
    currency = models.CharField(max_length=50, blank=True)

    class Meta:
        verbose_name_plural = "countries"

    def __str__(self) -> str:
        return str(self.name)


class City(models.Model):  # type: ignore[misc]  # as above
    """A city of at least 15 000 people, or a capital. The biggest come first, unless a query says otherwise."""

    geoname_id = models.IntegerField(primary_key=True)
    name = models.CharField(max_length=200)
    search_key = KeyField(max_length=200, help_text="plain(name)")
    country = models.ForeignKey(Country, models.CASCADE, related_name="cities")
    population = models.IntegerField()
    latitude = models.FloatField()
    longitude = models.FloatField()
    timezone = models.CharField(max_length=50)

    objects = CityQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "cities"
        ordering = ("-population", "geoname_id")
        indexes = (
            models.Index(fields=("search_key",), name="city_search_key"),
            models.Index(fields=("-population", "geoname_id"), name="city_biggest_first"),
        )

    def __str__(self) -> str:
        return str(self.name)
