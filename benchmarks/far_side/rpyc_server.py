"""RPyC's server: ``python -m benchmarks.far_side.rpyc_server PORT``. A thread for each connection.

Its service API. A model instance would be left here, and each look at an attribute a round trip; so it is pickled,
as ``rpyc.utils.classic.obtain`` does in the classic API, which would give clients the whole interpreter.
"""

from __future__ import annotations

import pickle
import sys

import django
import rpyc  # type: ignore[import-untyped]
from rpyc.utils.server import ThreadedServer  # type: ignore[import-untyped]

django.setup(set_prefix=False)

from .work import add_one, get_user, get_users  # noqa: E402 (models can be imported only now)


class Far(rpyc.Service):  # type: ignore[misc]
    def exposed_add_one(self, number: int) -> int:
        return add_one(number)

    def exposed_get_user(self, pk: int) -> bytes:
        return pickle.dumps(get_user(pk))

    def exposed_get_users(self, count: int) -> bytes:
        return pickle.dumps(get_users(count))


if __name__ == "__main__":
    ThreadedServer(Far, hostname="127.0.0.1", port=int(sys.argv[1])).start()
