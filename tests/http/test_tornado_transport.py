"""The example of another transport: a round trip, and what must hold for any transport."""

from __future__ import annotations

import ssl
import threading
from typing import Any

import pytest
import trustme

from examples import tornado_transport
from examples.tornado_transport import TornadoTransport
from slacker import DeadlineExceeded, Slacker, TransportError
from tests.waiting import LIVENESS, eventually

from . import servers
from .conftest import Watch, Watched, pass_time
from .servers import Connection, Fault
from .test_faults import answers_html, closes, is_silent, resets, works_and_resets


def worker(watch: Watch, url: str | None = None, **options: Any) -> Watched:
    # It belongs to the test's loop, so that the fixture's own calls, on another, take another worker.
    return watch.worker(url, transport=TornadoTransport(request_timeout=LIVENESS), recovers=False, **options)


async def test_main(capsys: pytest.CaptureFixture[str]) -> None:
    """The example starts a hook and prints what it answered."""
    await tornado_transport.main()
    assert capsys.readouterr().out == "20! = 2432902008176640000\n"


@pytest.mark.parametrize("value", ["text", list(range(2000)), bytes(5 << 20)], ids=["str", "4 frames", "5 MB"])
async def test_round_trip(watch: Watch, value: Any) -> None:
    """Requests and replies of any size go through it."""
    assert await Slacker(servers.echo, worker(watch, watch.hook.url))(value) == value


async def test_an_address_where_nobody_listens(watch: Watch) -> None:
    """Refused: nothing was sent."""
    refused = worker(watch)
    watch.faulty.close_door()
    await watch.fails(watch.call(refused), TransportError, False, "nothing was sent")
    watch.faulty.open_door()
    await watch.call(refused)


async def test_a_name_that_does_not_resolve(watch: Watch) -> None:
    """No address: nothing was sent."""
    await watch.fails(watch.call(worker(watch, "http://no.such.host.invalid/")), TransportError, False, "nothing was")


async def test_a_certificate_of_nobody_known(watch: Watch) -> None:
    """No trust: nothing was sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    def fault(connection: Connection) -> None:
        connection.encrypt(context)

    watch.faulty.script += [fault] * 2
    url = f"https://localhost:{watch.faulty.port}/"
    await watch.fails(watch.call(worker(watch, url)), TransportError, False, "nothing was sent")


@pytest.mark.parametrize("fault", [closes, resets, works_and_resets], ids=lambda fault: fault.__name__)
async def test_a_connection_that_breaks(watch: Watch, fault: Fault) -> None:
    """After something may have left nobody knows, and it is not sent again."""
    watch.faulty.script.append(fault)
    await watch.fails(watch.call(worker(watch)), TransportError, None, "may have left")
    assert watch.faulty.accepted == 1


async def test_an_answer_that_does_not_come(watch: Watch) -> None:
    """The deadline is the worker's; the connection is closed by the transport's own."""
    ended = threading.Event()

    def fault(connection: Connection) -> None:
        is_silent(connection)
        ended.set()

    watch.faulty.script.append(fault)
    call = watch.call(worker(watch, timeout=LIVENESS / 2)).fetch()
    await eventually(watch.faulty.waits.is_set)
    pass_time(LIVENESS / 2)
    await watch.fails(call, DeadlineExceeded, None)
    assert not ended.is_set()
    pass_time(LIVENESS / 2)
    await eventually(ended.is_set)


async def test_a_redirect(watch: Watch) -> None:
    """It is not followed."""
    watch.faulty.script.append(answers_html(b"302 Found", b"", b"Location: /moved/\r\n"))
    error = await watch.fails(watch.call(worker(watch)), TransportError, None)
    assert (error.status, watch.faulty.accepted) == (302, 1)
