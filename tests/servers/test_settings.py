"""The settings: what each means, on both sides, and that it is read when it is used."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Mapping
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from slacker import DeadlineExceeded, Slacker, TransportError
from slacker.django_backend import conf, environment, keyrings
from slacker.django_backend.remembered import Remembered
from slacker.django_backend.remote import hook_config
from slacker.workers import DjangoHttpWorker
from slacker.workers.http import Answer, NotSent

from .helpers import ROOT, InProcess
from .project import work

STRONG = "a SECRET_KEY for one test alone, random enough and long enough"
KEY = hashlib.sha256(b"a key of tests").hexdigest()  # the same in each process, as it names tests
OTHER = "yet another SECRET_KEY, just as random, and of much the same length"


class Nowhere:
    """A transport that notes where it was sent, and reaches nobody.

    Attributes:
        urls: to which there were requests.
    """

    def __init__(self) -> None:
        self.urls: list[str] = []

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        self.urls.append(url)
        raise NotSent("there is nothing")

    async def aclose(self) -> None:
        pass


class Never(Nowhere):
    """A transport that never answers."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        await asyncio.get_running_loop().create_future()
        raise AssertionError


async def call(worker: DjangoHttpWorker) -> int:
    """Make a call, and return 1 if it came through."""
    return await Slacker(work.echo, worker)(1)


def through(far: InProcess) -> DjangoHttpWorker:
    """Return a worker that finds in the settings what there is to find."""
    return DjangoHttpWorker(transport=far)


async def denied(far: InProcess) -> None:
    with pytest.raises(TransportError, match="SLACKER_KEY or the audience") as caught:
        await call(through(far))
    assert (caught.value.status, caught.value.executed) == (403, None)


# --- SLACKER_SERVER --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:8100", "http://127.0.0.1:8100/slacker/execute/"),
        ("http://127.0.0.1:8100/", "http://127.0.0.1:8100/slacker/execute/"),
        ("https://hook.example.com", "https://hook.example.com/slacker/execute/"),
        ("hook.example.com:8100", "http://hook.example.com:8100/slacker/execute/"),
        ("localhost", "http://localhost/slacker/execute/"),
        ("[::1]:8100", "http://[::1]:8100/slacker/execute/"),
        ("http://127.0.0.1:8100/elsewhere/", "http://127.0.0.1:8100/elsewhere/"),
        ("127.0.0.1:8100/elsewhere", "http://127.0.0.1:8100/elsewhere"),
        (None, "http://127.0.0.1:8000/slacker/execute/"),
        ("", "http://127.0.0.1:8000/slacker/execute/"),
    ],
)
async def test_an_address(given: str | None, url: str) -> None:
    """SLACKER_SERVER is a URL, or a host and port; with a path of its own, or else that of the URL include."""
    nowhere = Nowhere()
    with override_settings(SLACKER_SERVER=given), pytest.raises(TransportError):
        await call(DjangoHttpWorker(transport=nowhere))
    assert {url} == set(nowhere.urls)


@pytest.mark.parametrize("given", ["http://127.0.0.1:8100", "127.0.0.1:8100"])
async def test_an_address_may_be_given(given: str) -> None:
    """The address given to a worker is read as the setting is, and an error over it tells what to look at."""
    nowhere = Nowhere()
    hint = r"there is nothing\. Is `manage\.py runslacker` running there, and is SLACKER_SERVER its address\?$"
    with pytest.raises(TransportError, match=hint):
        await call(DjangoHttpWorker(given, transport=nowhere))
    assert {"http://127.0.0.1:8100/slacker/execute/"} == set(nowhere.urls)


@pytest.mark.parametrize(
    "given",
    [
        "ftp://127.0.0.1",
        "http://",
        "http:///slacker/",
        "http://127.0.0.1:port/",
        "http://127.0.0.1:99999/",
        "http://[::1",
        "::1",
        "http://two words/",
        "http://user:password@127.0.0.1/",
        "http://@127.0.0.1/",
        "http://127.0.0.1/?query",
        "http://127.0.0.1/#fragment",
        ("127.0.0.1", 8000),
    ],
)
async def test_what_is_no_address(given: Any) -> None:
    """Anything else is ImproperlyConfigured, and nothing is sent."""
    nowhere = Nowhere()
    with override_settings(SLACKER_SERVER=given), pytest.raises(ImproperlyConfigured, match="SLACKER_SERVER must be"):
        await call(DjangoHttpWorker(transport=nowhere))
    assert nowhere.urls == []


@pytest.mark.parametrize("urls", ["django.contrib.auth.urls", None])
async def test_a_project_without_the_include(urls: str | None) -> None:
    """Where the URLs do not include the hook it is at the root, as runslacker's is."""
    nowhere = Nowhere()
    with override_settings(ROOT_URLCONF=urls), pytest.raises(TransportError):
        await call(DjangoHttpWorker(transport=nowhere))
    assert {"http://127.0.0.1:8000/"} == set(nowhere.urls)


async def test_urls_are_looked_at_once_and_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The URLs, whose import may take long, are read in another thread, and once while the settings are the same."""
    read_in = []
    hook_path = conf.hook_path

    def spy() -> str | None:
        read_in.append(threading.current_thread())
        return hook_path()

    monkeypatch.setattr(conf, "hook_path", spy)
    worker = through(InProcess())
    assert [await call(worker) for _ in range(3)] == [1, 1, 1]
    assert len(read_in) == 1
    assert threading.current_thread() not in read_in


async def test_other_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker follows ROOT_URLCONF from call to call, whether it was overridden or set."""
    nowhere = Nowhere()
    worker = DjangoHttpWorker(transport=nowhere)

    async def path() -> str:
        with pytest.raises(TransportError):
            await call(worker)
        return urllib.parse.urlsplit(nowhere.urls[-1]).path

    paths = [await path()]
    with override_settings(ROOT_URLCONF="django.contrib.auth.urls"):
        paths.append(await path())
    paths.append(await path())
    with override_settings():
        monkeypatch.setattr(settings, "ROOT_URLCONF", "django.contrib.auth.urls")
        paths.append(await path())
        monkeypatch.undo()
        paths.append(await path())
    included = "/slacker/execute/"
    assert [included, "/", included, "/", included] == paths


# --- keys ------------------------------------------------------------------------------------------------------------


async def test_a_key_may_be_bytes() -> None:
    """A str is its UTF-8: one side may have the key as str, the other as bytes."""
    key = secrets.token_hex(32)
    with override_settings(SLACKER_KEY=key):
        assert await call(through(InProcess(SLACKER_KEY=key.encode()))) == 1


async def test_a_key_may_be_given() -> None:
    """A key that is given to the worker is the one that is used."""
    key = secrets.token_bytes(32)
    far = InProcess(SLACKER_KEY=key)
    await denied(far)
    assert await call(DjangoHttpWorker(key=key, transport=far)) == 1


async def test_a_key_is_rotated() -> None:
    """Keys can be replaced without a pause: first on the servers, the old one as a fallback, then on the clients."""
    old, new = secrets.token_hex(32), secrets.token_hex(32)
    with override_settings(SLACKER_KEY=old):
        assert await call(through(InProcess(SLACKER_KEY=old))) == 1
        assert await call(through(InProcess(SLACKER_KEY=new, SLACKER_KEY_FALLBACKS=[old]))) == 1
    with override_settings(SLACKER_KEY=new):
        assert await call(through(InProcess(SLACKER_KEY=new, SLACKER_KEY_FALLBACKS=[old]))) == 1
        assert await call(through(InProcess(SLACKER_KEY=new))) == 1
    with override_settings(SLACKER_KEY=old):
        await denied(InProcess(SLACKER_KEY=new))


@pytest.mark.parametrize(
    ("key", "fallbacks", "problem"),
    [
        ("", [], "at least 32 bytes, got 0"),
        ("short", [], "at least 32 bytes, got 5"),
        (b"short", [], "at least 32 bytes, got 5"),
        (32, [], "bytes or str, got int"),
        (["unhashable"], [], "unhashable"),
        ("x" * 32, [], "repeats itself"),
        ("django-insecure-" + KEY, [], "begins 'django-insecure-'"),
        (KEY, ["short"], "at least 32 bytes, got 5"),
        (KEY, [b"ababab" * 6], "repeats itself"),
        (KEY, KEY, "SLACKER_KEY_FALLBACKS must be a list"),
    ],
)
async def test_what_is_no_key(key: Any, fallbacks: Any, problem: str) -> None:
    """A key that is empty, short or not random is ImproperlyConfigured, with DEBUG as well."""
    far = InProcess()
    with (
        override_settings(SLACKER_KEY=key, SLACKER_KEY_FALLBACKS=fallbacks, DEBUG=True),
        pytest.raises(ImproperlyConfigured, match=problem),
    ):
        await call(through(far))
    assert far.requests == 0


# --- without a key ---------------------------------------------------------------------------------------------------


@pytest.fixture
def no_key() -> Any:
    with override_settings(SLACKER_KEY=None, SECRET_KEY=STRONG):
        yield


async def test_debug_needs_no_key(no_key: None) -> None:
    """With DEBUG a client on loopback is served with a key derived from SECRET_KEY, however weak that is."""
    with override_settings(SECRET_KEY="weak", DEBUG=True):
        assert await call(through(InProcess())) == 1


async def test_without_debug_there_is_no_hook_without_a_key(no_key: None) -> None:
    """Without DEBUG and SLACKER_KEY the URL include refuses everybody, also who has the SECRET_KEY."""
    await denied(InProcess(DEBUG=False))


async def test_without_a_key_only_loopback_is_served(no_key: None) -> None:
    """With DEBUG and no SLACKER_KEY no other address is served, whatever SLACKER_ALLOWED_CLIENTS says."""
    await denied(InProcess(client="10.1.2.3", DEBUG=True, SLACKER_ALLOWED_CLIENTS=["10.0.0.0/8"]))


async def test_the_bare_application_needs_a_key(no_key: None) -> None:
    """Without SLACKER_KEY the bare application refuses everybody, with DEBUG as well; the one for loopback does not."""
    from slacker.django_backend import server

    await denied(InProcess(server.application, DEBUG=True))
    assert await call(through(InProcess(server.loopback_application))) == 1


@pytest.mark.parametrize("host", ["http://192.0.2.1", "hook.example.com:8000"])
async def test_another_host_needs_a_key(no_key: None, host: str) -> None:
    """A client of another host needs SLACKER_KEY: without, it sends nothing and tells how to make one."""
    nowhere = Nowhere()
    worker = DjangoHttpWorker(transport=nowhere)
    with override_settings(SLACKER_SERVER=host, DEBUG=True), pytest.raises(ImproperlyConfigured, match="token_hex"):
        await call(worker)
    assert nowhere.urls == []


@pytest.mark.parametrize("host", ["http://127.0.0.2", "localhost:8000", "http://[::1]:8000"])
async def test_loopback_needs_none(no_key: None, host: str) -> None:
    """Any name and address of loopback will do without SLACKER_KEY."""
    nowhere = Nowhere()
    with override_settings(SLACKER_SERVER=host), pytest.raises(TransportError, match="cannot be reached"):
        await call(DjangoHttpWorker(transport=nowhere))


@pytest.mark.parametrize("secret", ["short", "x" * 60, "django-insecure-" + KEY, b"short"])
async def test_a_weak_secret_key_will_not_do(no_key: None, secret: str | bytes) -> None:
    """No key is derived from a SECRET_KEY that Django's own check would not accept, unless with DEBUG."""
    with override_settings(SECRET_KEY=secret), pytest.raises(ImproperlyConfigured, match="SECRET_KEY is weak"):
        await call(through(InProcess()))


async def test_secret_key_is_rotated(no_key: None) -> None:
    """A derived key follows SECRET_KEY_FALLBACKS."""
    with override_settings(SECRET_KEY=OTHER):
        assert await call(through(InProcess(DEBUG=True, SECRET_KEY=STRONG, SECRET_KEY_FALLBACKS=[OTHER]))) == 1
        await denied(InProcess(DEBUG=True, SECRET_KEY=STRONG))


async def test_a_weak_fallback_is_left_out(no_key: None) -> None:
    """A weak SECRET_KEY_FALLBACKS opens nothing and spoils nothing."""
    with override_settings(SECRET_KEY_FALLBACKS=["weak"]):
        keys = keyrings.derived_keyring()
    assert keys is not None
    assert repr(keyrings.derived_keyring()) == repr(keys)


async def test_a_strong_fallback_does_not_stand_in(no_key: None) -> None:
    """A weak SECRET_KEY is not replaced by a strong fallback."""
    with override_settings(SECRET_KEY="weak", SECRET_KEY_FALLBACKS=[STRONG]):
        assert keyrings.derived_keyring() is None


# --- SLACKER_AUDIENCE ------------------------------------------------------------------------------------------------


async def test_another_environment_is_refused() -> None:
    """What is meant for one environment is refused in another that has the same key."""
    await denied(InProcess(SLACKER_AUDIENCE="production"))


async def test_an_audience_may_be_given() -> None:
    """The audience given to a worker is the one that counts."""
    assert await call(DjangoHttpWorker(audience="production", transport=InProcess(SLACKER_AUDIENCE="production"))) == 1


@pytest.mark.parametrize("unset", [None, ""])
def test_the_audience_by_default(project: str, unset: str | None) -> None:
    """By default it is the settings module, overridden or not, and the names of all databases in force."""
    from django.db import connections

    with override_settings(SLACKER_AUDIENCE=unset):
        module, *names = environment.audience().split("\n")
    assert project == module
    assert [f"default={connections['default'].settings_dict['NAME']}"] == names


def test_a_database_of_another_name_is_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever renames a database, as test runs do, is in another environment from then on."""
    from django.db import connections

    with override_settings(SLACKER_AUDIENCE=None):
        before = environment.audience()
        monkeypatch.setitem(connections["default"].settings_dict, "NAME", "test_of_that")
        assert before != environment.audience()


# --- limits and lists ------------------------------------------------------------------------------------------------


async def test_the_time_limit() -> None:
    """SLACKER_TIMEOUT bounds a call, unless the worker has a limit of its own."""
    with override_settings(SLACKER_TIMEOUT=0.01), pytest.raises(DeadlineExceeded, match=r"within 0\.01 s"):
        await call(DjangoHttpWorker(transport=Never()))
    with pytest.raises(DeadlineExceeded, match=r"within 0\.02 s"):
        await call(DjangoHttpWorker(transport=Never(), timeout=0.02))


CENTURIES = 10.0**10

NO_LIMITS = [
    *[("SLACKER_TIMEOUT", value, "a number of seconds") for value in (0, -1, float("nan"), "20", None, True)],
    *[("SLACKER_TIMEOUT", value, r"at most \d+ seconds") for value in (float("inf"), CENTURIES)],
    *[("SLACKER_MAX_REQUEST", value, "at least 1") for value in (0, -1)],
    *[("SLACKER_MAX_REQUEST", value, "a whole number") for value in ("20", None, True, 0.5, 1e6, float("inf"))],
]


@pytest.mark.parametrize(("name", "value", "expected"), NO_LIMITS)
async def test_what_is_no_limit(name: str, value: Any, expected: str) -> None:
    """A limit that would be no argument is ImproperlyConfigured, with its name, what was expected and what came."""
    message = f"^{name} must be {expected}.*, got {re.escape(repr(value))}$"
    with override_settings(**{name: value}), pytest.raises(ImproperlyConfigured, match=message):
        await call(through(InProcess()))


@pytest.mark.parametrize("value", ["10.0.0.0/8", ["10.0.0.0/99"], ["somewhere"], None])
def test_what_lists_no_clients(value: Any) -> None:
    """SLACKER_ALLOWED_CLIENTS that are no list of addresses and networks are ImproperlyConfigured."""
    with (
        override_settings(SLACKER_ALLOWED_CLIENTS=value),
        pytest.raises(ImproperlyConfigured, match="SLACKER_ALLOWED_CLIENTS"),
    ):
        hook_config(unreachable=False)


def test_clients_may_be_objects() -> None:
    """Networks may be given as objects, and an empty string stands for unix sockets."""
    import ipaddress

    with override_settings(SLACKER_ALLOWED_CLIENTS=[ipaddress.ip_network("10.0.0.0/8"), ""]):
        assert hook_config(unreachable=False).allowed_clients == ("10.0.0.0/8", "")


# --- when they are read ----------------------------------------------------------------------------------------------


async def test_settings_are_read_for_each_call() -> None:
    """One worker follows every setting from call to call."""
    nowhere = Nowhere()
    worker = DjangoHttpWorker(transport=nowhere)
    for server in ["http://127.0.0.1:1", "http://127.0.0.1:2"]:
        with override_settings(SLACKER_SERVER=server), pytest.raises(TransportError, match=server):
            await call(worker)
    with override_settings(SLACKER_KEY="short"), pytest.raises(ImproperlyConfigured):
        await call(worker)
    far = InProcess()
    worker = through(far)
    assert await call(worker) == 1
    with override_settings(SLACKER_MAX_REQUEST=1), pytest.raises(Exception, match="max_request allows 1"):
        await call(worker)
    assert await call(worker) == 1


def test_what_was_made_of_the_settings_is_remembered() -> None:
    """What was made of the settings is used again until one is changed, be it in its place, and when they are back."""
    fallbacks: list[str] = []
    remembered: Remembered[str] = Remembered()
    with override_settings(SLACKER_KEY_FALLBACKS=fallbacks):
        found, before = remembered.look()
        remembered.keep(found, "made")
        _, same = remembered.look()
        fallbacks.append(KEY)
        _, changed = remembered.look()
        fallbacks.pop()
        _, as_before = remembered.look()
    assert [before, same, changed, as_before] == [None, "made", None, "made"]


def test_what_was_made_while_settings_changed_is_not_remembered() -> None:
    """What was made while a setting changed, be it in its place, is used for neither the one nor the other."""
    fallbacks: list[str] = []
    remembered: Remembered[str] = Remembered()
    with override_settings(SLACKER_KEY_FALLBACKS=fallbacks):
        found, _ = remembered.look()
        fallbacks.append(KEY)
        remembered.keep(found, "made")
        _, after = remembered.look()
        fallbacks.pop()
        _, before = remembered.look()
    assert [after, before] == [None, None]


def test_nothing_is_read_at_import() -> None:
    """The workers can be imported, and workers be made, where there are no settings."""
    code = """
        from slacker.workers.django import DjangoHttpWorker, DjangoThreadWorker, DjangoWorker
        DjangoHttpWorker(), DjangoWorker("http://127.0.0.1"), DjangoThreadWorker()
        from django.conf import settings
        print(settings.configured)
    """
    environ = {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "there.is.no.such.module"}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line.strip() for line in code.splitlines())],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("False\n", "")
