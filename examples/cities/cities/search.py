"""How a city is found by the beginning of its name, in whatever case and with whatever accents that is typed.

Names are stored a second time as a plain key: "São Paulo" as "sao paulo", "Xi'an" as "xian". What is typed is made
plain in the same way. In an index ordered by code point all keys with one beginning are neighbours: the search reads
that range and nothing else. (LIKE 'sao%' would do it on PostgreSQL only; SQLite reads the whole table for it.)
"""

import unicodedata
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

LAST_CHARACTER = "\U0010ffff"

# Letters that Unicode does not take apart into a plain one and an accent, and apostrophes, which few people type.
LETTERS = {"æ": "ae", "œ": "oe", "þ": "th", "ð": "d", "đ": "d", "ə": "e", "ħ": "h", "ı": "i", "ł": "l", "ø": "o"}  # noqa: RUF001  no mistake
APOSTROPHES = "'`‘’ʻʼ"  # noqa: RUF001  all that look like one
PLAIN = str.maketrans(LETTERS | dict.fromkeys(APOSTROPHES, ""))


def plain(text: str) -> str:
    """Return the letters and digits of `text` without case and accents, and one space for what separates them."""
    letters = unicodedata.normalize("NFKD", text).casefold().translate(PLAIN)
    kept = (char if char.isalnum() else " " for char in letters if not unicodedata.combining(char))
    return " ".join("".join(kept).split())


class KeyField(models.CharField):  # type: ignore[misc]  # Django comes without types
    """Text that is ordered by code point on every database.

    SQLite does so anyway. PostgreSQL has to be told: a database's collation is often that of a language, with an order
    of its own for spaces and for what comes last.
    """

    def db_parameters(self, connection: BaseDatabaseWrapper) -> dict[str, Any]:
        parameters: dict[str, Any] = super().db_parameters(connection)
        if connection.vendor == "postgresql":
            parameters["collation"] = "C"
        return parameters


class CityQuerySet(models.QuerySet):  # type: ignore[misc]  # as above
    """Adds the search to the queries for cities."""

    def starting_with(self, text: str) -> models.QuerySet:
        """Cities whose name begins with `text`; none for a text without a letter or digit."""
        key = plain(text)
        return self.filter(search_key__gte=key, search_key__lt=key + LAST_CHARACTER) if key else self.none()
