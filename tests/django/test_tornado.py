"""The suite of tests/test_tornado.py on Django's ORM."""

from __future__ import annotations

from typing import Any

import pytest

from tests.django.app.models import Author
from tests.test_tornado import Catalogue, Handlers


class TestWithDjango(Handlers):
    @pytest.fixture
    def catalogue(self, authors: Any) -> Catalogue:
        return Catalogue(lambda name: authors.get(name=name).titles(), unknown=Author.DoesNotExist)
