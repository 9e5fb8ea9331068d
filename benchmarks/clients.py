"""How peers reach the far sides where it takes more than a line: the 2011 way's request, and clients that block.

Recorded steps, the 2011 way, are a pair of a root and its steps, pickled: see `far_side.pickled`.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar

import aiohttp
import rpyc  # type: ignore[import-untyped]
from Pyro5.api import Proxy  # type: ignore[import-untyped]
from tornado.httpclient import AsyncHTTPClient

from .far_side.processes import HOST
from .far_side.work import add_one

__all__ = [
    "InThreads",
    "PyroClient",
    "RpycClient",
    "by_aiohttp",
    "by_tornado",
    "recorded_call",
    "recorded_get",
    "recorded_rows",
]


def recorded_call(number: int) -> bytes:
    return pickle.dumps((add_one, [((number,), {})]))


def recorded_get(model: Any, pk: int) -> bytes:
    return pickle.dumps((model, ["objects", "get", ((), {"pk": pk})]))


def recorded_rows(model: Any, count: int) -> bytes:
    return pickle.dumps((model, ["objects", "order_by", (("pk",), {}), slice(count)]))


async def by_tornado(client: AsyncHTTPClient, url: str, body: bytes) -> Any:
    response = await client.fetch(url, method="POST", body=body)
    return pickle.loads(response.body)


async def by_aiohttp(session: aiohttp.ClientSession, url: str, body: bytes) -> Any:
    async with session.post(url, data=body, raise_for_status=True) as response:
        return pickle.loads(await response.read())


class _Blocking(Protocol):
    def close(self) -> None: ...


Client = TypeVar("Client", bound=_Blocking)


class InThreads(Generic[Client]):
    """A pool of threads with a client of its own in each, connected to the servers in turn."""

    def __init__(self, connect: Callable[[int], Client], ports: Sequence[int], threads: int) -> None:
        self._connect = connect
        self._ports = itertools.cycle(ports)
        self._here = threading.local()
        self._clients: list[Client] = []
        self._pool = ThreadPoolExecutor(threads, initializer=self._begin)

    def _begin(self) -> None:
        self._here.client = self._connect(next(self._ports))
        self._clients.append(self._here.client)

    def run(self, method: Callable[[Client, int], Any], argument: int) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._pool, self._call, method, argument)

    def _call(self, method: Callable[[Client, int], Any], argument: int) -> Any:
        return method(self._here.client, argument)

    def close(self) -> None:
        self._pool.shutdown()
        for client in self._clients:
            client.close()


class RpycClient:
    def __init__(self, port: int) -> None:
        self._connection = rpyc.connect(HOST, port)
        self._add_one = self._connection.root.add_one
        self._get_user = self._connection.root.get_user
        self._get_users = self._connection.root.get_users

    def add_one(self, number: int) -> Any:
        return self._add_one(number)

    def get_user(self, pk: int) -> Any:
        return pickle.loads(self._get_user(pk))

    def get_users(self, count: int) -> Any:
        return pickle.loads(self._get_users(count))

    def close(self) -> None:
        self._connection.close()


class PyroClient:
    def __init__(self, port: int) -> None:
        self._far = Proxy(f"PYRO:far@{HOST}:{port}")
        self._far._pyroBind()

    def add_one(self, number: int) -> Any:
        return self._far.add_one(number)

    def get_user(self, pk: int) -> Any:
        return self._far.get_user(pk)

    def get_users(self, count: int) -> Any:
        return self._far.get_users(count)

    def close(self) -> None:
        self._far._pyroClaimOwnership()  # of the thread that made it, and has ended
        self._far._pyroRelease()
