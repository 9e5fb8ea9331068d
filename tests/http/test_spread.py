"""Connections are spread over the processes of a server, as far as those tell who they are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from slacker.workers.http import HttpTransport, spread, transport
from tests.waiting import eventually

from .conftest import Watch, pass_time
from .servers import Connection, Fault, count_connections

ANSWER = b"HTTP/1.1 200 OK\r\n%sContent-Length: 2\r\n\r\nok"


def in_process(name: str) -> Fault:
    """Return what a connection meets that comes to the process of that name."""

    def fault(connection: Connection) -> None:
        while True:
            connection.read_request()
            connection.send(ANSWER % b"Slacker-Process: %s\r\n" % name.encode())

    return fault


class Posts:
    """Makes requests to a server whose connections come to the processes of these names, one after another."""

    def __init__(self, watch: Watch, names: Iterable[str]) -> None:
        self._faulty = watch.faulty
        self._faulty.script += map(in_process, names)
        self._transport = HttpTransport(8)

    async def __aenter__(self) -> Posts:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._faulty.script.clear()
        await self._transport.aclose()

    async def at_once(self, count: int) -> int:
        """Make so many at once, and return how many connections there have been until now."""
        await asyncio.gather(*[self._transport.post(self._faulty.url, {}, b"") for _ in range(count)])
        return self._faulty.accepted


async def test_a_process_has_one_more_than_another_at_most(watch: Watch) -> None:
    """A connection that makes it two is given up, after its answer."""
    async with Posts(watch, "ABAABA") as posts:
        counts = [await posts.at_once(count) for count in (2, 3, 4, 4, 5, 5)]

    assert counts == [2, 3, 4, 5, 6, 6]  # A and B; A; A, which is given up; B; A


async def test_where_one_process_is_known_others_are_looked_for(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was not there when the connections were made, as after a restart, gets its share of them."""
    monkeypatch.setattr(transport, "EVERY", 5)
    async with Posts(watch, "AAAB") as posts:
        counts = [await posts.at_once(2) for _ in range(16)]

    assert counts == [2] * 6 + [3] * 5 + [4] * 5  # the first one made in the place of another is with A as well


async def test_a_server_of_one_process_is_left_alone_soon(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than so many connections are given up in so many seconds."""
    monkeypatch.setattr(transport, "EVERY", 2)
    monkeypatch.setattr(spread, "TRIES", 3)
    monkeypatch.setattr(spread, "TRIES_SECONDS", 10.0)
    async with Posts(watch, "A" * 20) as posts:
        assert [await posts.at_once(2) for _ in range(20)][-12:] == [5] * 12
        pass_time(10.0)
        assert [await posts.at_once(2) for _ in range(20)][-12:] == [8] * 12


async def test_one_connection_is_left_alone(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to spread."""
    monkeypatch.setattr(transport, "EVERY", 2)
    async with Posts(watch, "A" * 20) as posts:
        assert [await posts.at_once(1) for _ in range(20)] == [1] * 20


async def test_connections_that_were_lost_do_not_count(watch: Watch) -> None:
    """Those that the server has closed are nobody's any more."""

    def answers_once(connection: Connection) -> None:
        connection.read_request()
        connection.send(ANSWER % b"Slacker-Process: A\r\n")

    watch.faulty.script += [answers_once] * 3
    async with Posts(watch, "BA") as posts:
        for number in (1, 2, 3):
            assert await posts.at_once(1) == number
            await eventually(lambda: count_connections(watch.faulty.port) == 0)  # it has heard of the end
        assert [await posts.at_once(2) for _ in range(3)] == [5] * 3


async def test_servers_that_say_nothing_are_left_alone(watch: Watch) -> None:
    """Without a name there is nothing to spread over."""

    def says_nothing(connection: Connection) -> None:
        while True:
            connection.read_request()
            connection.send(ANSWER % b"")

    watch.faulty.script += [says_nothing] * 4
    async with Posts(watch, "") as posts:
        assert [await posts.at_once(4) for _ in range(5)] == [4] * 5
