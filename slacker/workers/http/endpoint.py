"""Where requests go: how one is signed, whether what came back is of a hook, and what is said of it otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from ...errors import TransportError
from ...signing import Keyring, Signature
from .transport import Answer, Arriving, NotSent

__all__ = ["MAX_REQUEST", "Endpoint", "is_ours", "likely_cause", "now"]

CONTENT_TYPE = "application/x-tornado-slacker"
MAX_REQUEST = 16 << 20


def likely_cause(status: int) -> str:
    """Return the likely cause of an HTTP status that did not come from the hook; of 0, that nobody was reached."""
    return {
        0: "Is a server with the hook running there?",
        403: "the key, the audience or this host's address is not one that the hook accepts, or no hook is there",
        404: "no hook is at this address",
        405: "no hook is at this address",
        413: "the request is larger than the hook, or a proxy before it, allows",
    }.get(status, "something else than the hook answered")


@final
@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go and how they are signed.

    Args:
        url: of the hook.
        keyring: its first key signs.
        audience: names the environment, as the other side has it.
        host: the Host header, where it differs from the URL's.
        timeout: seconds until an answer must have arrived, unless a call says otherwise.
        max_request: most bytes of a request, as the other side has it.
        hint: as `likely_cause`, for those who know more of the other side.
    """

    url: str
    keyring: Keyring
    audience: str = ""
    host: str | None = None
    timeout: float = 20.0
    max_request: int = MAX_REQUEST
    hint: Callable[[int], str] = likely_cause

    def sign(self, body: bytes, digest: str, at: int) -> tuple[Signature, dict[str, str]]:
        """Return the signature of a request, for its reply, and the headers that go with it.

        Args:
            body: what is sent.
            digest: its SHA-256, as hexadecimal digits.
            at: milliseconds since 1970, by the other side's clock.
        """
        signature = Signature.make(self.keyring.signing, self.audience, at, body, digest=digest)
        headers = {"content-type": CONTENT_TYPE, "slacker-signature": str(signature)}
        if self.host is not None:
            headers["host"] = self.host
        return signature, headers

    # --- what goes wrong --------------------------------------------------------------------------------------

    def not_reached(self, error: NotSent) -> TransportError:
        """Return the error of a call of which not a byte left."""
        message = f"{self.url} cannot be reached, nothing was sent: {error}. {self.hint(0)}"
        return TransportError(message, executed=False)

    def broken(self, error: Exception) -> TransportError:
        """Return the error of a call that may have been sent, and has no answer."""
        return TransportError(f"{self.url}: the connection failed after the request may have left: {error!r}")

    def not_ours(self, status: int, content_type: str, body: bytes | memoryview) -> TransportError:
        """Return the error of a call whose answer is not of a hook; `body` may be no more than its beginning."""
        shown = _printable(str(body[:200], "utf-8", "replace"))
        began = f". It began: {shown}" if shown else ""
        answered = f"{status} {_printable(content_type[:100])}"
        return TransportError(f"{self.url} answered {answered}: {self.hint(status)}{began}", status=status)


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable())


def is_ours(answer: Answer | Arriving) -> bool:
    """Tell whether an answer is of a hook that served the request, as far as its head tells."""
    return answer.status == 200 and answer.content_type.partition(";")[0] == CONTENT_TYPE


def now() -> int:
    """Return milliseconds since 1970, by the clock of this side."""
    return time.time_ns() // 1_000_000
