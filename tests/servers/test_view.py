"""The hook as a view among the project's others: what Django does before it, and what it does not do to it."""

from __future__ import annotations

import asyncio
import datetime as dt
import zoneinfo
from collections.abc import Mapping
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.test import override_settings
from django.utils import timezone, translation

from slacker import Refused, Slacker, TransportError
from slacker.chain import Call, Chain
from slacker.django_backend.remote import far_side
from slacker.outcome import Error
from slacker.wire import Arrivals, encode_request, serve
from slacker.workers import DjangoHttpWorker, HttpWorker
from slacker.workers.http import Answer

from .conftest import AUDIENCE
from .helpers import InProcess
from .project import settings, work

ADDRESS = "http://127.0.0.1/slacker/execute/"


def client(transport: InProcess, url: str = ADDRESS) -> DjangoHttpWorker:
    return DjangoHttpWorker(url, transport=transport)


async def refused_with(status: int, hint: str, transport: InProcess, url: str = ADDRESS) -> None:
    with pytest.raises(TransportError, match=hint) as caught:
        await Slacker(work.echo, client(transport, url))(1)
    assert (status, None) == (caught.value.status, caught.value.executed)


# --- what does not stop a call ---------------------------------------------------------------------------------------


async def test_csrf_is_not_asked_for() -> None:
    """CsrfViewMiddleware lets calls pass."""
    far = InProcess(MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"])
    assert await Slacker(work.echo, client(far))(1) == 1


async def test_no_login_is_asked_for() -> None:
    """LoginRequiredMiddleware lets calls pass."""
    sessions, auth = "django.contrib.sessions.middleware", "django.contrib.auth.middleware"
    names = [f"{sessions}.SessionMiddleware", f"{auth}.AuthenticationMiddleware", f"{auth}.LoginRequiredMiddleware"]
    assert await Slacker(work.echo, client(InProcess(MIDDLEWARE=names)))(1) == 1


async def test_the_size_of_uploads_is_not_that_of_calls() -> None:
    """DATA_UPLOAD_MAX_MEMORY_SIZE is about forms."""
    assert await Slacker(work.size, client(InProcess(DATA_UPLOAD_MAX_MEMORY_SIZE=100)))(b"x" * 1_000) == 1_000


async def test_a_middleware_may_have_read_the_body() -> None:
    """A body that a middleware has looked at is there for the hook as well."""
    far = InProcess(MIDDLEWARE=["tests.servers.project.middleware.read_body"])
    assert await Slacker(work.size, client(far))(b"x" * 1_000) == 1_000


async def test_no_cache_keeps_a_reply() -> None:
    """Replies tell every cache, also a private one, to keep nothing."""
    far = InProcess()
    await Slacker(work.echo, client(far))(1)
    assert {"no-store", "private"} <= set(far.headers["Cache-Control"].split(", "))


async def test_no_proxy_buffers_a_long_reply() -> None:
    """A reply of several frames is passed on as they come, in nginx too."""
    far = InProcess()
    assert list(range(1_000)) == await Slacker(work.echo, client(far))(list(range(1_000)))
    assert (far.headers["X-Accel-Buffering"], "Content-Length" in far.headers) == ("no", False)


async def test_a_short_reply_has_a_length() -> None:
    """A reply of one frame has a Content-Length, so that the connection can be kept."""
    far = InProcess()
    await Slacker(work.echo, client(far))(1)
    assert far.headers["Content-Length"].isdecimal()


class Asgi:
    """A transport that takes requests to the project's ASGI handler.

    Attributes:
        sent: what the handler sent, message by message.
    """

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        fields = {"host": "127.0.0.1", "content-length": str(len(body)), **headers}
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/slacker/execute/",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
            "client": ("127.0.0.1", 12345),
        }
        received = asyncio.Queue[dict[str, Any]]()
        received.put_nowait({"type": "http.request", "body": body})

        async def send(message: dict[str, Any]) -> None:
            self.sent.append(message)

        await ASGIHandler()(scope, received.get, send)
        start, *parts = self.sent
        content_type = dict(start["headers"])[b"Content-Type"].decode()
        return Answer(start["status"], content_type, b"".join(part["body"] for part in parts))

    async def aclose(self) -> None:
        pass


async def test_under_asgi_a_long_reply_is_whole() -> None:
    """Under ASGI, where Django would read a stream on the loop, the frames of a reply are sent as one body."""
    far = Asgi()
    assert await Slacker(work.echo, DjangoHttpWorker(ADDRESS, transport=far))([1] * 1_000) == [1] * 1_000
    assert b"Content-Length" in dict(far.sent[0]["headers"])


# --- what does, and what the client says of it -----------------------------------------------------------------------


async def test_a_host_that_is_not_allowed() -> None:
    """400: the error names ALLOWED_HOSTS."""
    await refused_with(400, "ALLOWED_HOSTS", InProcess(ALLOWED_HOSTS=["example.com"]))


async def test_a_redirect_to_https() -> None:
    """301: the error names SECURE_SSL_REDIRECT."""
    far = InProcess(MIDDLEWARE=["django.middleware.security.SecurityMiddleware"], SECURE_SSL_REDIRECT=True)
    await refused_with(301, "SECURE_SSL_REDIRECT", far)


async def test_a_missing_slash() -> None:
    """301, by APPEND_SLASH: the error names the slash."""
    await refused_with(301, "trailing slash", InProcess(), ADDRESS.rstrip("/"))


async def test_a_redirect_to_the_login() -> None:
    """302: the error names a middleware, and the redirect is not followed."""
    far = InProcess(MIDDLEWARE=["tests.servers.project.middleware.redirect_to_login"])
    await refused_with(302, "middleware", far)
    assert far.requests == 1


async def test_a_missing_include() -> None:
    """404: the error names the include."""
    await refused_with(404, "slacker.django_backend.urls is not included", InProcess(), "http://127.0.0.1/elsewhere/")


async def test_a_failure_before_the_hook() -> None:
    """500: the error points to the server's log."""
    far = InProcess(MIDDLEWARE=["tests.servers.project.middleware.fail"], DEBUG_PROPAGATE_EXCEPTIONS=False)
    await refused_with(500, "see its log", far)


async def test_an_unusable_setting_of_the_server() -> None:
    """500: a key that is none serves nobody."""
    await refused_with(500, "see its log", InProcess(SLACKER_KEY="short"))


async def test_a_middleware_that_finds_the_body_too_large() -> None:
    """400: the error names a middleware that reads the body."""
    far = InProcess(MIDDLEWARE=["tests.servers.project.middleware.read_body"], DATA_UPLOAD_MAX_MEMORY_SIZE=10)
    await refused_with(400, "a middleware that reads the body", far)


async def test_a_middleware_that_took_the_body() -> None:
    """A body that is gone before the hook could read it is a signed refusal: nothing ran."""
    far = InProcess(MIDDLEWARE=["tests.servers.project.middleware.consume_body"])
    with pytest.raises(Refused, match="the body") as caught:
        await Slacker(work.echo, client(far))(1)
    assert (caught.value.reason, caught.value.executed) == ("bad-request", False)


async def test_an_address_that_is_not_allowed() -> None:
    """403: the error names the address; SLACKER_ALLOWED_CLIENTS lets it in."""
    await refused_with(403, "does not allow this address", InProcess(client="10.1.2.3"))
    far = InProcess(client="10.1.2.3", SLACKER_ALLOWED_CLIENTS=["10.1.0.0/16"])
    assert await Slacker(work.echo, client(far))(1) == 1


async def test_a_request_that_is_too_large_is_not_sent() -> None:
    """SLACKER_MAX_REQUEST holds on the client: nothing is sent."""
    far = InProcess()
    with (
        override_settings(SLACKER_MAX_REQUEST=1_000),
        pytest.raises(Refused, match="max_request allows 1000") as caught,
    ):
        await Slacker(work.size, client(far))(b"x" * 1_000)
    assert (caught.value.reason, caught.value.executed, far.requests) == ("too-big", False, 0)


async def test_a_request_that_is_too_large_is_not_read() -> None:
    """SLACKER_MAX_REQUEST holds on the server: 413, and the error says that the request is too large."""
    await refused_with(413, "larger than the hook", InProcess(SLACKER_MAX_REQUEST=10))


async def test_a_client_of_another_django_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call from another feature release of Django is refused, naming both, before anything runs."""
    import django

    monkeypatch.setattr("slacker.workers.django.caller_options", lambda max_reply: '{"django":"1.3"}')
    here = ".".join(map(str, django.VERSION[:2]))
    with pytest.raises(Refused, match=f"the caller has Django 1.3, the hook {here}") as caught:
        await Slacker(work.echo, client(InProcess()))(1)
    assert (caught.value.reason, caught.value.executed) == ("version", False)


# --- language and time zone ------------------------------------------------------------------------------------------


async def test_the_language_comes_along() -> None:
    """The work sees the language that is active where it was called."""
    with translation.override("de"):
        assert await Slacker(work.surroundings, client(InProcess()))() == ("de", "UTC")


async def test_no_language_comes_along() -> None:
    """Where translation is deactivated, it is so for the work."""
    with translation.override(None):
        assert await Slacker(work.surroundings, client(InProcess()))() == (None, "UTC")


@pytest.mark.parametrize(
    "zone",
    [zoneinfo.ZoneInfo("Asia/Tokyo"), dt.UTC, dt.timezone(dt.timedelta(hours=-3, minutes=-30))],
    ids=str,
)
async def test_the_time_zone_comes_along(zone: dt.tzinfo) -> None:
    """The work sees the time zone that is active where it was called, also one that is an offset."""
    with timezone.override(zone):
        assert ("en", str(zone)) == await Slacker(work.surroundings, client(InProcess()))()


class Nowhere(dt.tzinfo):
    """A time zone with a name of its own."""

    key = "Nowhere/Atlantis"


async def test_a_time_zone_that_nobody_knows() -> None:
    """A time zone that the server does not know is the server's own there."""
    far = InProcess(TIME_ZONE="Europe/Rome")
    with timezone.override(Nowhere()):
        assert await Slacker(work.surroundings, client(far))() == ("en", "Europe/Rome")


async def test_what_does_not_come_along_stays() -> None:
    """A call of a plain HttpWorker, which has not heard of languages, runs with the server's."""
    far = InProcess(LANGUAGE_CODE="fr", TIME_ZONE="Asia/Tokyo")
    worker = HttpWorker(ADDRESS, key=settings.SLACKER_KEY, audience=AUDIENCE, transport=far)
    assert await Slacker(work.surroundings, worker)() == ("fr", "Asia/Tokyo")


async def test_a_stream_of_another_django_release() -> None:
    """A stream from another feature release is refused as a call is, before anything runs."""
    options = {"django": "1.3"}
    frames = list(
        serve(encode_request([Chain(work.echo, (Call((1,), {}),))], options, stream=1), far_side(own_thread=False))
    )
    outcome = Arrivals().take(*frames[0])
    assert isinstance(outcome, Error)
    assert "the caller has Django 1.3" in str(outcome.exception)
