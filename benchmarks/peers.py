"""The ways to do the same work off the loop, and no way at all: one function each, as its users write it.

    in place               the work itself, on the loop; the ORM with the running loop hidden from it
    slacker over HTTP      DjangoHttpWorker --> signed hook on granian, as `manage.py runslacker` serves it
    slacker, unshared      the same; waiting calls do not share requests
    slacker in threads     DjangoThreadWorker
    slacker in processes   DjangoProcessWorker
    ProcessWorker          slacker's, without Django
    2011 way               Tornado's AsyncHTTPClient, which connects for each call --> Django view on gunicorn,
                           gthread; recorded steps and result pickled, unsigned
    aiohttp + pickle       the same far side, by a client that keeps its connections
    RPyC                   its service API
    Pyro5                  serpent carries no model instances: a row comes as a dict and is left one
    Dask                   distributed's asynchronous client --> scheduler --> workers, each in its own process
    ProcessPoolExecutor    by `run_in_executor`; Django set up in each process
    Django async ORM       `aget` and ``async for``: sync_to_async around the blocking ORM, in one thread
    sync_to_async          asgiref's, thread-sensitive as Django has it: in one thread
    asyncio.to_thread      in as many threads as slacker has

The far sides have the same number of processes and threads, and there are as many connections here. RPyC and Pyro5
block, and have one connection a thread: a loop drives them in an executor, whose threads have their own. Remote methods
are looked up once, beforehand.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any

import aiohttp
from asgiref.sync import sync_to_async
from distributed import Client
from tornado.httpclient import AsyncHTTPClient

import slacker.workers
from slacker import Slacker
from slacker.workers.base import Worker
from slacker.workers.django import DjangoHttpWorker, DjangoThreadWorker
from slacker.workers.local import hidden_loop

from .clients import (
    InThreads,
    PyroClient,
    RpycClient,
    by_aiohttp,
    by_tornado,
    recorded_call,
    recorded_get,
    recorded_rows,
)
from .far_side.processes import FarSides
from .far_side.work import add_one, get_user, get_users
from .measure import Case

__all__ = ["Call", "Peer", "cases_of", "servers_of"]

for _server in ("granian", "gunicorn"):  # run as commands: what is missing is noticed here
    importlib.import_module(_server)

MAX_REPLY = 256 << 20

Call = Callable[[int], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Peer:
    """A way to do the work of `far_side.work`; None is what it cannot do, or what makes no sense."""

    name: str
    add_one: Call | None
    get_user: Call | None = None
    get_users: Call | None = None


def servers_of(names: Sequence[str]) -> Collection[str]:
    """Return the names of the servers that these ways need, for `far_side.processes.far_sides`."""
    return {server for name in names if (server := _WAYS[name][1])}


@asynccontextmanager
async def cases_of(
    names: Sequence[str], sides: FarSides, case: Callable[[Peer], Case | None]
) -> AsyncIterator[list[Case]]:
    """Open the ways of these names, in this order, on the running loop, and make a case of each that has one.

    It is a sitting, for `measure.take_turns`.
    """
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(_WAYS[name][0](name, sides)) for name in names]
        yield [one for peer in peers if (one := case(peer)) is not None]


# --- slacker -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _over_http(name: str, sides: FarSides, **arguments: Any) -> AsyncIterator[Peer]:
    async with DjangoHttpWorker(sides.hook_url, max_connections=sides.connections, **arguments) as worker:
        yield _by(worker, name)


def _unshared(name: str, sides: FarSides) -> AbstractAsyncContextManager[Peer]:
    return _over_http(name, sides, max_batch=1)


@asynccontextmanager
async def _in_threads(name: str, sides: FarSides) -> AsyncIterator[Peer]:
    async with DjangoThreadWorker(sides.connections) as worker:
        yield _by(worker, name)


@asynccontextmanager
async def _in_processes(name: str, sides: FarSides) -> AsyncIterator[Peer]:
    async with slacker.workers.DjangoProcessWorker(max_workers=sides.processes) as worker:
        yield _by(worker, name)


@asynccontextmanager
async def _process_worker(name: str, sides: FarSides) -> AsyncIterator[Peer]:
    async with slacker.workers.ProcessWorker(max_workers=sides.processes) as worker:
        ours = Slacker(add_one, worker)
        yield Peer(name, lambda number: ours(number))


def _by(worker: Worker, name: str) -> Peer:
    ours, users = Slacker(add_one, worker), Slacker(_user_model(), worker)
    return Peer(
        name,
        lambda number: ours(number),
        lambda pk: users.objects.get(pk=pk),
        lambda count: users.objects.order_by("pk")[:count],
    )


# --- its peers -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _in_place(name: str, sides: FarSides) -> AsyncIterator[Peer]:
    async def call(number: int) -> int:
        return add_one(number)

    async def get(pk: int) -> Any:
        with hidden_loop():
            return get_user(pk)

    async def rows(count: int) -> Any:
        with hidden_loop():
            return get_users(count)

    yield Peer(name, call, get, rows)


@asynccontextmanager
async def _the_2011_way(name: str, sides: FarSides) -> AsyncIterator[Peer]:
    url, user = sides.pickled_url, _user_model()
    client = AsyncHTTPClient(force_instance=True, max_clients=sides.connections, max_buffer_size=MAX_REPLY)
    with closing(client):
        yield Peer(
            name,
            lambda number: by_tornado(client, url, recorded_call(number)),
            lambda pk: by_tornado(client, url, recorded_get(user, pk)),
            lambda count: by_tornado(client, url, recorded_rows(user, count)),
        )


@asynccontextmanager
async def _aiohttp(name: str, sides: FarSides) -> AsyncIterator[Peer]:
    url, user = sides.pickled_url, _user_model()
    connector = aiohttp.TCPConnector(limit=sides.connections)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Peer(
            name,
            lambda number: by_aiohttp(session, url, recorded_call(number)),
            lambda pk: by_aiohttp(session, url, recorded_get(user, pk)),
            lambda count: by_aiohttp(session, url, recorded_rows(user, count)),
        )


@asynccontextmanager
async def _rpyc(name: str, sides: FarSides) -> AsyncIterator[Peer]:
    with closing(InThreads(RpycClient, sides.ports["rpyc"], sides.connections)) as far:
        yield Peer(
            name,
            lambda number: far.run(RpycClient.add_one, number),
            lambda pk: far.run(RpycClient.get_user, pk),
            lambda count: far.run(RpycClient.get_users, count),
        )


@asynccontextmanager
async def _pyro(name: str, sides: FarSides) -> AsyncIterator[Peer]:
    with closing(InThreads(PyroClient, sides.ports["pyro"], sides.connections)) as far:
        yield Peer(
            name,
            lambda number: far.run(PyroClient.add_one, number),
            lambda pk: far.run(PyroClient.get_user, pk),
            lambda count: far.run(PyroClient.get_users, count),
        )


@asynccontextmanager
async def _dask(name: str, sides: FarSides) -> AsyncIterator[Peer]:
    address = f"127.0.0.1:{sides.ports['dask'][0]}"
    connected = Client(address, asynchronous=True, set_as_default=False)  # type: ignore[no-untyped-call]
    async with connected as client:

        def submit(work: Callable[[int], Any]) -> Call:
            # Not pure, or the second call would get the result of the first.
            return lambda argument: client.submit(work, argument, pure=False).result()

        yield Peer(name, submit(add_one), submit(get_user), submit(get_users))


@asynccontextmanager
async def _process_pool(name: str, sides: FarSides) -> AsyncIterator[Peer]:
    loop = asyncio.get_running_loop()

    def submit(work: Callable[[int], Any]) -> Call:
        return lambda argument: loop.run_in_executor(sides.pool, work, argument)

    assert sides.pool is not None
    yield Peer(name, submit(add_one), submit(get_user), submit(get_users))


@asynccontextmanager
async def _async_orm(name: str, sides: FarSides) -> AsyncIterator[Peer]:
    users = _user_model().objects

    async def rows(count: int) -> Any:
        return [user async for user in users.order_by("pk")[:count]]

    yield Peer(name, None, lambda pk: users.aget(pk=pk), rows)


@asynccontextmanager
async def _sync_to_async(name: str, sides: FarSides) -> AsyncIterator[Peer]:
    yield Peer(name, sync_to_async(add_one), sync_to_async(get_user), sync_to_async(get_users))


@asynccontextmanager
async def _to_thread(name: str, sides: FarSides) -> AsyncIterator[Peer]:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(sides.connections))  # asyncio.run shuts it down

    def call(work: Callable[[int], Any]) -> Call:
        return lambda argument: asyncio.to_thread(work, argument)

    yield Peer(name, call(add_one), call(get_user), call(get_users))


def _user_model() -> Any:
    from django.contrib.auth.models import User  # only where Django was set up

    return User


_WAYS: dict[str, tuple[Callable[[str, FarSides], AbstractAsyncContextManager[Peer]], str | None]] = {
    "in place": (_in_place, None),
    "slacker over HTTP": (_over_http, "runslacker"),
    "slacker, unshared": (_unshared, "runslacker"),
    "slacker in threads": (_in_threads, None),
    "slacker in processes": (_in_processes, None),
    "ProcessWorker": (_process_worker, None),
    "2011 way": (_the_2011_way, "gunicorn"),
    "aiohttp + pickle": (_aiohttp, "gunicorn"),
    "RPyC": (_rpyc, "rpyc"),
    "Pyro5": (_pyro, "pyro"),
    "Dask": (_dask, "dask"),
    "ProcessPoolExecutor": (_process_pool, "pool"),
    "Django async ORM": (_async_orm, None),
    "sync_to_async": (_sync_to_async, None),
    "asyncio.to_thread": (_to_thread, None),
}
"""How each is opened, and the server that it needs."""
