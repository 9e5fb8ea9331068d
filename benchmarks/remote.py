"""A call in another process on this machine: `slacker.workers.django.DjangoHttpWorker`, its peers, and no call at all.

    in place            the call itself, on the loop; the ORM with the running loop hidden from it
    slacker             DjangoHttpWorker --> signed hook on granian, as `manage.py runslacker` serves it
    2011 way            Tornado's AsyncHTTPClient, which connects for each call --> Django view on gunicorn, gthread;
                        recorded steps and result pickled, unsigned
    aiohttp + pickle    the same far side, by a client that keeps its connections
    RPyC                its service API
    Pyro5               serpent carries no model instances: the row comes as a dict and is left one
    aget                Django's async ORM, which is sync_to_async around the blocking one: no other process

All have one process with as many threads there, and as many connections here. RPyC and Pyro5 block, and have one
connection a thread: a loop drives them in an executor, whose threads have their own. Remote methods are looked up
once, beforehand.

Loop CPU is what off-loading saves, so it is what the ratios are of. For RPyC, Pyro5 and aget it leaves out their
threads, which take turns with the loop. Process CPU has those, and the client's share only: not the far side's.
"""

from __future__ import annotations

import asyncio
import importlib
import pickle
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import aiohttp
import rpyc  # type: ignore[import-untyped]
from Pyro5.api import Proxy  # type: ignore[import-untyped]
from tornado.httpclient import AsyncHTTPClient

from slacker import Slacker
from slacker.workers.django import DjangoHttpWorker
from slacker.workers.local import hidden_loop

from .far_side.processes import HOST, THREADS, FarSides, far_sides
from .far_side.work import add_one, get_user
from .measure import Case, Effort, take_turns
from .tables import LOOP_CPU, Table

__all__ = ["tables"]

for _server in ("granian", "gunicorn"):  # run as commands: what is missing is noticed here
    importlib.import_module(_server)

AT_ONCE = 16
KEY = 7  # the number that is counted up, and the primary key that is looked up
BASELINE = "in place"
NOTES = ["The ratios are of loop CPU. Process CPU is the caller's."]


Call = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Peer:
    """A way to make the calls, as its users write it; `add_one` is None where only the ORM makes sense."""

    name: str
    add_one: Call | None
    get_user: Call


def tables(effort: Effort) -> list[Table]:
    """Measure a trivial call and a look-up, each one after another and at once."""
    trivial, lookup = "Trivial call in another process", "User.objects.get(pk=...) on SQLite"
    with far_sides() as sides:
        return [
            _table("remote-call-in-turn", f"{trivial}, one after another", effort, lambda: _add_one(sides), _in_turn),
            _table("remote-call-at-once", f"{trivial}, {AT_ONCE} at once", effort, lambda: _add_one(sides), _at_once),
            _table("orm-get-in-turn", f"{lookup}, one after another", effort, lambda: _get_user(sides), _in_turn),
            _table("orm-get-at-once", f"{lookup}, {AT_ONCE} at once", effort, lambda: _get_user(sides), _at_once),
        ]


def _table(
    name: str,
    title: str,
    effort: Effort,
    calls: Callable[[], AbstractAsyncContextManager[dict[str, Call]]],
    case: Callable[[str, Call, Effort], Case],
) -> Table:
    @asynccontextmanager
    async def sitting() -> AsyncIterator[list[Case]]:
        async with calls() as by_name:
            yield [case(name, call, effort) for name, call in by_name.items()]

    return Table(name, title, take_turns(sitting, effort), baseline=BASELINE, compared=LOOP_CPU, notes=NOTES)


@asynccontextmanager
async def _add_one(sides: FarSides) -> AsyncIterator[dict[str, Call]]:
    async with _peers(sides) as peers:
        yield {peer.name: peer.add_one for peer in peers if peer.add_one is not None}


@asynccontextmanager
async def _get_user(sides: FarSides) -> AsyncIterator[dict[str, Call]]:
    async with _peers(sides) as peers:
        yield {peer.name: peer.get_user for peer in peers}


def _in_turn(name: str, call: Call, effort: Effort) -> Case:
    times = effort.count(5_000 if call is _add_one_in_place else 10)

    async def turn() -> object:
        for _ in range(times):
            result = await call()
        return _told_apart(result)

    return Case(name, times, turn)


def _at_once(name: str, call: Call, effort: Effort) -> Case:
    times = effort.count(2)

    async def turn() -> object:
        for _ in range(times):
            results = await asyncio.gather(*[call() for _ in range(AT_ONCE)])
        return [_told_apart(result) for result in results]

    return Case(name, times * AT_ONCE, turn)


def _told_apart(result: Any) -> object:
    if isinstance(result, int):
        return result
    return result["username"] if isinstance(result, dict) else result.username


# --- the peers -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _peers(sides: FarSides) -> AsyncIterator[list[Peer]]:
    from django.contrib.auth.models import User

    url = sides.pickled_url
    tornado = AsyncHTTPClient(force_instance=True, max_clients=THREADS)
    connector = aiohttp.TCPConnector(limit=THREADS)
    with (
        closing(tornado),
        closing(_InThreads(lambda: _Rpyc(sides.rpyc_port))) as over_rpyc,
        closing(_InThreads(lambda: _Pyro(sides.pyro_port))) as over_pyro,
    ):
        async with (
            DjangoHttpWorker(sides.hook_url, max_connections=THREADS) as worker,
            aiohttp.ClientSession(connector=connector) as session,
        ):
            ours, our_users = Slacker(add_one, worker), Slacker(User, worker)
            yield [
                Peer("slacker", lambda: ours(KEY), lambda: our_users.objects.get(pk=KEY)),
                Peer(BASELINE, _add_one_in_place, _get_user_in_place),
                Peer(
                    "2011 way",
                    lambda: _by_tornado(tornado, url, _recorded_call()),
                    lambda: _by_tornado(tornado, url, _recorded_lookup(User)),
                ),
                Peer(
                    "aiohttp + pickle",
                    lambda: _by_aiohttp(session, url, _recorded_call()),
                    lambda: _by_aiohttp(session, url, _recorded_lookup(User)),
                ),
                Peer("RPyC", lambda: over_rpyc.run(_Rpyc.add_one), lambda: over_rpyc.run(_Rpyc.get_user)),
                Peer("Pyro5", lambda: over_pyro.run(_Pyro.add_one), lambda: over_pyro.run(_Pyro.get_user)),
                Peer("aget", None, lambda: User.objects.aget(pk=KEY)),
            ]


async def _add_one_in_place() -> int:
    return add_one(KEY)


async def _get_user_in_place() -> Any:
    with hidden_loop():
        return get_user(KEY)


def _recorded_call() -> bytes:
    return pickle.dumps((add_one, [((KEY,), {})]))


def _recorded_lookup(model: Any) -> bytes:
    return pickle.dumps((model, ["objects", "get", ((), {"pk": KEY})]))


async def _by_tornado(client: AsyncHTTPClient, url: str, body: bytes) -> Any:
    response = await client.fetch(url, method="POST", body=body)
    return pickle.loads(response.body)


async def _by_aiohttp(session: aiohttp.ClientSession, url: str, body: bytes) -> Any:
    async with session.post(url, data=body, raise_for_status=True) as response:
        return pickle.loads(await response.read())


class _Blocking(Protocol):
    def close(self) -> None: ...


Client = TypeVar("Client", bound=_Blocking)


class _InThreads(Generic[Client]):
    """A pool of threads with a client of its own in each."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._here = threading.local()
        self._clients: list[Client] = []
        self._pool = ThreadPoolExecutor(THREADS, initializer=self._begin)

    def _begin(self) -> None:
        self._here.client = self._connect()
        self._clients.append(self._here.client)

    def run(self, method: Callable[[Client], Any]) -> Awaitable[Any]:
        return asyncio.get_running_loop().run_in_executor(self._pool, self._call, method)

    def _call(self, method: Callable[[Client], Any]) -> Any:
        return method(self._here.client)

    def close(self) -> None:
        self._pool.shutdown()
        for client in self._clients:
            client.close()


class _Rpyc:
    def __init__(self, port: int) -> None:
        self._connection = rpyc.connect(HOST, port)
        self._add_one = self._connection.root.add_one
        self._get_user = self._connection.root.get_user

    def add_one(self) -> Any:
        return self._add_one(KEY)

    def get_user(self) -> Any:
        return pickle.loads(self._get_user(KEY))

    def close(self) -> None:
        self._connection.close()


class _Pyro:
    def __init__(self, port: int) -> None:
        self._far = Proxy(f"PYRO:far@{HOST}:{port}")
        self._far._pyroBind()

    def add_one(self) -> Any:
        return self._far.add_one(KEY)

    def get_user(self) -> Any:
        return self._far.get_user(KEY)

    def close(self) -> None:
        self._far._pyroClaimOwnership()  # of the thread that made it, and has ended
        self._far._pyroRelease()
