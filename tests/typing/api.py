"""The public API as users write it, right and wrong. Checked by ``mypy --strict``, never run.

A ``type: ignore`` that is not needed is an error too, so each one holds that the type checker objects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, assert_type

from tornado import gen, web

import slacker
from slacker import Slacker, SlackerError, Worker, adisp, attr, batch, chain_of, options, run
from slacker.chain import Chain
from slacker.workers import (
    DjangoProcessWorker,
    DjangoThreadWorker,
    DummyWorker,
    ExecutorWorker,
    ProcessWorker,
    ThreadWorker,
)


class User:
    def __init__(self, name: str) -> None:
        self.name = name


AsyncUser = Slacker(User, ThreadWorker())
find = AsyncUser.objects.filter

# --- recording -------------------------------------------------------------------------------------------------------

assert_type(AsyncUser, Slacker)
assert_type(AsyncUser.objects, Slacker)
assert_type(AsyncUser("Anna", age=1), Slacker)
assert_type(AsyncUser.objects.filter(is_staff=True)[:5][0].name, Slacker)
assert_type(attr(AsyncUser, "_default_manager").all(), Slacker)
assert_type(options(AsyncUser, DummyWorker()), Slacker)
assert_type(options(AsyncUser), Slacker)
assert_type(options(AsyncUser, timeout=1, atomic=True), Slacker)
assert_type(options(AsyncUser, DummyWorker(), timeout=0.5, atomic="archive"), Slacker)
assert_type(batch(find(), AsyncUser.all()), Slacker)
assert_type(batch(), Slacker)
assert_type(batch(*[find(pk=n) for n in range(3)], return_exceptions=True)[0], Slacker)
assert_type(find(friend=AsyncUser.get(name="Anna"), groups=[find()]), Slacker)
assert_type(chain_of(AsyncUser), Chain)
assert_type(chain_of(AsyncUser).replay(User("Anna")), Any)
assert_type(repr(AsyncUser), str)
queries: dict[Slacker, str] = {AsyncUser.all(): "all"}

# --- running ---------------------------------------------------------------------------------------------------------


async def awaits() -> None:
    users: list[User] = await find(is_staff=True)[:5]
    first, second = await batch(find(), find())
    assert_type(await AsyncUser, Any)
    assert_type(await asyncio.gather(find(), find()), tuple[Any, Any])
    assert_type(await asyncio.wait_for(find(), timeout=1), Any)
    assert_type(find().fetch(), asyncio.Future[Any])
    async with asyncio.TaskGroup() as group:
        assert_type(group.create_task(run(find())), asyncio.Task[Any])
    print(users, first, second)


def runs() -> object:
    coroutine: Coroutine[Any, Any, Any] = run(find())
    return asyncio.run(coroutine)


def proceeds(show: Callable[[list[User]], None], fail: Callable[[BaseException], bool]) -> None:
    find().proceed()
    find().proceed(show)
    find().proceed(show, fail)
    find().proceed(on_error=lambda error: print(error.args))


class UserHandler(web.RequestHandler):
    @adisp.process
    def get(self, name: str) -> Generator[Any, Any, None]:
        user, others = yield [AsyncUser.get(name=name), find()]
        self.write({"name": user.name, "others": len(others)})

    @gen.coroutine
    def put(self, name: str) -> Generator[Any, Any, None]:
        yield find(name=name).update(active=True)

    async def post(self, name: str) -> None:
        self.write(await AsyncUser.create(name=name))


# --- workers ---------------------------------------------------------------------------------------------------------


class LoudWorker(Worker):
    async def run(self, chain: Chain) -> Any:
        print(chain)
        return chain.replay()


async def workers() -> None:
    async with ThreadWorker(2, thread_name_prefix="users", max_queue=100) as threads:
        assert_type(threads, ThreadWorker)
        await options(find(), threads)
    chosen: list[Worker] = [LoudWorker(), DummyWorker(), ThreadWorker(), DjangoThreadWorker(max_workers=2)]
    chosen += [ProcessWorker(2, max_queue=10), DjangoProcessWorker(2), ExecutorWorker(ThreadPoolExecutor())]
    await chosen[0].aclose()


# --- errors ----------------------------------------------------------------------------------------------------------


async def fails() -> None:
    try:
        await find()
    except slacker.TransportError as error:
        assert_type(error.status, int | None)
    except slacker.Refused as error:
        assert_type(error.reason, str)
    except slacker.RemoteError as error:
        assert_type((error.type_name, error.message), tuple[str, str])
    except SlackerError as error:
        assert_type(error.executed, bool | None)
    raise slacker.WorkerClosed("closed while it ran", executed=None)


# --- wrong -----------------------------------------------------------------------------------------------------------

Slacker()  # type: ignore[call-arg]
Slacker(User, ThreadWorker)  # type: ignore[arg-type]
Slacker(User, "ThreadWorker")  # type: ignore[arg-type]
options(AsyncUser, worker=ThreadWorker)  # type: ignore[arg-type]
options(User)  # type: ignore[arg-type]
options(AsyncUser, 1)  # type: ignore[arg-type]
options(AsyncUser, timeout="1")  # type: ignore[arg-type]
options(AsyncUser, atomic=1)  # type: ignore[arg-type]
options(AsyncUser, DummyWorker(), 1)  # type: ignore[call-arg]
batch(User)  # type: ignore[arg-type]
batch([find()])  # type: ignore[arg-type]
batch(find(), True)  # type: ignore[arg-type]
attr(AsyncUser, 1)  # type: ignore[arg-type]
attr(User, "objects")  # type: ignore[arg-type]
chain_of(User)  # type: ignore[arg-type]
AsyncUser.name = "Anna"  # type: ignore[attr-defined]
AsyncUser + 1  # type: ignore[operator]
ThreadWorker("2")  # type: ignore[arg-type]
ThreadWorker(2, "users")  # type: ignore[call-arg]
Worker()  # type: ignore[abstract]
SlackerError("text", True)  # type: ignore[call-arg]


class MySlacker(Slacker):  # type: ignore[misc]
    pass


async def wrong_await() -> None:
    run(find())  # type: ignore[unused-coroutine]
    await run(User)  # type: ignore[arg-type]
    await asyncio.create_task(find())  # type: ignore[arg-type]
    asyncio.run(find())  # type: ignore[arg-type]
    with find():  # type: ignore[attr-defined]
        pass


def wrong_callback() -> None:
    find().proceed("print")  # type: ignore[arg-type]
    find().proceed(lambda: None)  # type: ignore[arg-type, misc]
    find().proceed(on_error=lambda: None)  # type: ignore[arg-type, misc]


def wrong_unpacking() -> None:
    one, two = find()  # type: ignore[attr-defined]
    print(one, two)


def wrong_use_as_result() -> None:
    for user in find():  # type: ignore[attr-defined]
        print(user)
    print(len(find()))  # type: ignore[arg-type]
    print(1 in find())  # type: ignore[attr-defined]
