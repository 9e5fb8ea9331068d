"""A client and a hook joined without a socket: what is sealed here is answered there, and opened here again.

    pair = Pair()
    pair.ask(chain)                       all the way, and what came of it
    sealed = pair.seal(chain)             or step by step, each of which a test may tamper with
    reply = pair.answer(sealed, header=...)
    pair.open(sealed, reply)

Nothing here sleeps, and both clocks stand until they are set.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slacker import wire
from slacker.chain import Call, Chain
from slacker.errors import Refused
from slacker.hook import CONTENT_TYPE, Config, Hook, NonceStore, Reply, Request
from slacker.outcome import Error, Outcome
from slacker.signing import Keyring, ReplyOpener, Signature
from slacker.wire import pickling

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
"""Where a script has to run to find package and tests."""

SECRET = "this key is for tests, and only for tests"
OTHER_SECRET = "another one, which is just as well known"
AUDIENCE = "tests.settings\ndefault=test_db"
NOW = 1_750_000_000_000
"""Milliseconds since 1970, where the clocks of tests stand."""

ADD = Chain(operator.add, (Call((2, 3), {}),))
"""What is asked where it does not matter: gives 5."""


def spy_on_loads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list that gets, from now on, whatever is unpickled."""
    seen: list[bytes] = []
    loads = pickling.loads

    def spying_loads(pickled: bytes | memoryview) -> Any:
        seen.append(bytes(pickled))
        return loads(pickled)

    monkeypatch.setattr(pickling, "loads", spying_loads)
    return seen


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class Body:
    """The body of a request, which notes how much is asked of it.

    Args:
        data: all there is.
        at_most: bytes that it gives at once, as a slow connection does.
    """

    def __init__(self, data: bytes, at_most: int | None = None) -> None:
        self.asked: list[int] = []
        self._data = data
        self._at_most = at_most

    def read(self, size: int) -> bytes:
        self.asked.append(size)
        size = size if self._at_most is None else min(size, self._at_most)
        given, self._data = self._data[:size], self._data[size:]
        return given

    @property
    def left(self) -> bytes:
        return self._data


@dataclass(frozen=True)
class Sealed:
    """A request as the client has it: its signature and its body."""

    signature: Signature
    body: bytes

    @property
    def header(self) -> str:
        return str(self.signature)


class Pair:
    """A client and a hook.

    Args:
        key: the client's secrets.
        server_key: the hook's, if they are others.
        audience: the client's.
        server_audience: the hook's, if it is another.
        perform, nonces: of the hook.
        clock: of both.
        config: more of the hook's `Config`.
    """

    def __init__(
        self,
        key: str | bytes | Iterable[str | bytes] = SECRET,
        server_key: str | bytes | Iterable[str | bytes] | None = None,
        *,
        audience: str = AUDIENCE,
        server_audience: str | None = None,
        perform: wire.Perform | wire.FarSide | None = None,
        nonces: NonceStore | None = None,
        clock: Clock | None = None,
        **config: Any,
    ) -> None:
        self.keyring = Keyring(key)
        self.audience = audience
        self.clock = clock or Clock()
        server_keyring = self.keyring if server_key is None else Keyring(server_key)
        self.config = Config(server_keyring, audience if server_audience is None else server_audience, **config)
        far_side = wire.FarSide(perform) if callable(perform) else perform or wire.PLAIN
        self.hook = Hook(lambda: self.config, far_side, nonces, self.clock)

    # --- the client's side -------------------------------------------------------------------------------------

    def seal(self, *chains: Chain, body: bytes | None = None, time: int | None = None, **options: Any) -> Sealed:
        """Return a signed request for `chains`, or with just that `body`, as of now or of `time`."""
        if body is None:
            body = wire.encode_request(chains or [ADD], options)
        time = self.clock() if time is None else time
        return Sealed(Signature.make(self.keyring.signing, self.audience, time, body), body)

    def frames(self, sealed: Sealed, reply: Reply | bytes) -> list[wire.Frame]:
        """Return the frames of `reply`, verified."""
        data = reply if isinstance(reply, bytes) else b"".join(reply.body)
        opener = ReplyOpener(self.keyring.signing, sealed.signature, len(data))
        return [wire.Frame(kind, answer, bytes(payload)) for kind, answer, payload in opener.feed(data)]

    @staticmethod
    def sealed_frames(reply: Reply) -> list[bytes]:
        """Return the frames of `reply` as they are sent, which may be several in one piece."""
        data, frames = b"".join(reply.body), []
        while data:
            size = 41 + int.from_bytes(data[:4], "big")
            frames.append(data[:size])
            data = data[size:]
        return frames

    def open(self, sealed: Sealed, reply: Reply | bytes, chains: Sequence[Chain] = (ADD,)) -> list[Outcome]:
        """Return what came of the request's chains."""
        answers = wire.Answers(chains)
        for frame in self.frames(sealed, reply):
            answers.take(*frame)
        return answers.outcomes()

    def refusal(self, sealed: Sealed, reply: Reply) -> Refused:
        """Return the signed refusal that `reply` has to be, of the whole request or of its one call."""
        assert reply.status == 200
        try:
            (outcome,) = self.open(sealed, reply)
        except Refused as refused:
            return refused
        assert isinstance(outcome, Error)
        assert isinstance(outcome.exception, Refused)
        return outcome.exception

    # --- the hook's side ---------------------------------------------------------------------------------------

    def request(self, sealed: Sealed, **changes: Any) -> Request:
        """Return `sealed` as it arrives, with some fields of the `Request` changed; `header` and `body` count too."""
        body = changes.pop("body", sealed.body)
        fields = {
            "method": "POST",
            "query": "",
            "content_type": CONTENT_TYPE,
            "content_length": str(len(sealed.body)),
            "encodings": "",
            "signature": changes.pop("header", sealed.header),
            "client": "127.0.0.1",
            "read": Body(body).read,
        }
        return Request(**{**fields, **changes})

    def answer(self, sealed: Sealed, **changes: Any) -> Reply:
        return self.hook.answer(self.request(sealed, **changes))

    # --- all the way -------------------------------------------------------------------------------------------

    def ask(self, chain: Chain = ADD, **options: Any) -> Any:
        """Return what `chain` gives over there, or raise what it raises."""
        return self.outcome(chain, **options).unwrap(chain)

    def outcome(self, chain: Chain = ADD, **options: Any) -> Outcome:
        sealed = self.seal(chain, **options)
        return self.open(sealed, self.answer(sealed), [chain])[0]
