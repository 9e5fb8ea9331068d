"""Pyro5's server: ``python -m benchmarks.far_side.pyro_server PORT``. A thread for each connection, from a pool.

serpent, its serializer, carries no model instances; so a row goes as a dict of its fields, with times as strings.
"""

from __future__ import annotations

import sys
from typing import Any

import django
from Pyro5.api import Daemon, behavior, expose  # type: ignore[import-untyped]

django.setup(set_prefix=False)

from .work import add_one, get_user, get_users  # noqa: E402 (models can be imported only now)


@expose
@behavior(instance_mode="single")
class Far:
    def add_one(self, number: int) -> int:
        return add_one(number)

    def get_user(self, pk: int) -> dict[str, Any]:
        return _as_dict(get_user(pk))

    def get_users(self, count: int) -> list[dict[str, Any]]:
        return [_as_dict(user) for user in get_users(count)]


def _as_dict(user: Any) -> dict[str, Any]:
    return {field.attname: getattr(user, field.attname) for field in user._meta.concrete_fields}


if __name__ == "__main__":
    daemon = Daemon(host="127.0.0.1", port=int(sys.argv[1]))
    daemon.register(Far, "far")
    daemon.requestLoop()
