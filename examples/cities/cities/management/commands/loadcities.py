"""Fill an empty database with cities and countries: ``python manage.py loadcities``, after ``migrate``."""

from django.core.management.base import BaseCommand

from cities.loading import fill
from cities.models import City


class Command(BaseCommand):  # type: ignore[misc]  # Django comes without types
    """Fill an empty database; one that has cities stays as it is."""

    help = __doc__

    def handle(self, *args: object, **options: object) -> None:
        done = "loaded" if fill() else "in the database already"
        self.stdout.write(f"{City.objects.count()} cities {done}")
