"""Chains and outcomes as bytes, and the far side that turns one into the other.

    here                                             there
    chains --encode_request--> envelope ----------->  read_head: names, limits     (plain data, nothing unpickled)
                                                      Head.chain: arguments         (unpickled)
                                                      perform, for each call
    outcomes <---Answers.take--- frames <-----------  encode_outcome

`serve` is the whole far side, the same for a web server and a local process. `requests` and `replies` have the two
forms and encode them, `heads` and `answers` read them; `pickling` is the only module that pickles.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..chain import Chain, capture
from ..errors import Refused
from ..outcome import Error, Outcome, Several, Value
from ..streaming import streamed
from .answers import Answers, Arrivals, RemoteTraceback, only_value
from .heads import Head, read_head
from .replies import MAX_REPLY, WHOLE, AwaitedFrame, Frame, Kind, Pack, as_it_is, encode_items, encode_outcome, refusal
from .requests import MAX_CHAINS, EncodedCall, encode_call, encode_options, envelope, explanations

__all__ = [
    "MAX_CHAINS",
    "PLAIN",
    "WHOLE",
    "Answers",
    "Arrivals",
    "AwaitedFrame",
    "Encode",
    "EncodedCall",
    "FarSide",
    "Frame",
    "Head",
    "Kind",
    "Pack",
    "Perform",
    "RemoteTraceback",
    "encode_call",
    "encode_options",
    "encode_outcome",
    "encode_request",
    "envelope",
    "explanations",
    "only_value",
    "read_head",
    "refusal",
    "serve",
]

Encode: TypeAlias = Callable[[Any], bool]
"""Encodes what `slacker.chain.Replay.run` returned, for whoever surrounds the work with something that looking through
a result still needs. Raises what has to undo the work: a result that cannot be pickled. Of a batch that returns
exceptions it tells instead whether all items succeeded, and could be.
"""

Perform: TypeAlias = Callable[[Chain, Mapping[str, Any], Encode], Outcome]
"""Replays a chain, given the request's options, and returns what happened. If it has had the result encoded, the value
in that is ignored."""

PerformStream: TypeAlias = Callable[[Chain, Mapping[str, Any]], Generator[Value | Error, None, None]]
"""The same for a stream."""


def encode_request(
    chains: Sequence[Chain], options: Mapping[str, Any] | None = None, *, stream: int | None = None
) -> bytes:
    """Return the envelope of `chains`.

    Args:
        chains: what shall be replayed, each on its own.
        options: plain data for whoever performs them there. ``max_reply`` is for `serve`: most bytes of each result,
            pickled.
        stream: for one chain: send what it gives in chunks of so many items.

    Raises:
        Refused: nothing was sent; see `encode_call` and `envelope`.
    """
    return envelope([encode_call(chain, stream=stream) for chain in chains], encode_options(options or {}))


def _perform_plainly(chain: Chain, options: Mapping[str, Any], encode: Encode) -> Outcome:
    return _refusal_if_atomic(chain) or capture(chain)


def _stream_plainly(chain: Chain, options: Mapping[str, Any]) -> Generator[Value | Error, None, None]:
    if (refused := _refusal_if_atomic(chain)) is not None:
        yield refused
    else:
        yield from streamed(chain, options["stream"])


def _refusal_if_atomic(chain: Chain) -> Error | None:
    if chain.options.atomic is None:
        return None
    # Rather not at all than without the transaction.
    message = f"atomic={chain.options.atomic!r} is asked for where nobody knows of databases"
    return Error(Refused(message, reason="bad-request"), 0)


Clock: TypeAlias = Callable[[], int]
"""Milliseconds since 1970."""


def _now() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class FarSide:
    """What a far side does with the calls of a request.

    Args:
        perform: replays one chain, given the options of the request and of its call, and returns what happened; see
            `Perform`. An exception that it raises itself counts as one of the work's.
        stream: the same for a stream, whose chunks it yields as they are made: `slacker.streaming.streamed`, or
            something around it. None where replies are whole: streams are refused.
        pack: makes of results what pickles better.
    """

    perform: Perform = _perform_plainly
    stream: PerformStream | None = _stream_plainly
    pack: Pack = as_it_is


PLAIN = FarSide()


def serve(envelope: bytes, far_side: FarSide = PLAIN, now: Clock = _now) -> Generator[Frame, None, None]:
    """Replay what an envelope holds and yield the frames of the reply, each as soon as the one after it is known.

    Calls are performed one after another, and what happens to one does not touch the others. Closing the iterator
    early leaves out those that were not begun.

    Args:
        envelope: as `encode_request` made it. If its options hold ``max_reply``, larger results are refused as
            ``"too-big"``.
        far_side: what is done with the calls.
        now: the clock by which deadlines pass.
    """
    try:
        head = read_head(envelope)
        if "stream" in head.calls[0].options:
            yield from _stream(head, far_side, now)
            return
    except Refused as refused:
        yield refusal(refused.reason, str(refused))
        return
    kept: Frame | None = None  # the last frame is marked, so each waits for the next
    first = 0
    for number, call in enumerate(head.calls):
        for frame in _answer(head, number, first, far_side, now):
            if kept is not None:
                yield kept
            kept = frame
        assert kept is not None  # each call gives a frame
        kept = AwaitedFrame(*kept)
        first += call.answers
    assert kept is not None  # there is a call
    yield kept._replace(kind=kept.kind | Kind.LAST)


def _answer(head: Head, number: int, first: int, far_side: FarSide, now: Clock) -> Iterator[Frame]:
    options = {**head.options, **head.calls[number].options}
    if (late := _refusal_if_late(options, first, now())) is not None:
        yield late
        return
    try:
        chain = head.chain(number)
    except Refused as refused:
        yield refusal(refused.reason, str(refused), answer=first)
        return
    limit = min(options.get("max_reply", MAX_REPLY), MAX_REPLY)
    encoded: list[Frame] = []

    def encode(result: Any) -> bool:
        outcome = Several(result) if chain.returns_exceptions else Value(result)
        encoded.extend(_encode(outcome, chain, first, far_side.pack, limit))
        succeeded = all(frame.kind != Kind.ERROR for frame in encoded)
        if not succeeded and not chain.returns_exceptions:
            raise _Unsendable
        return succeeded

    outcome = _perform(far_side.perform, chain, options, encode)
    if not encoded or (isinstance(outcome, Error) and not isinstance(outcome.exception, _Unsendable)):
        yield from _encode(outcome, chain, first, far_side.pack, limit)
    else:
        yield from encoded


class _Unsendable(Exception):
    """Ends the work whose result cannot be pickled; the frames say why."""


def _encode(outcome: Outcome, chain: Chain, first: int, pack: Pack, limit: int) -> Iterator[Frame]:
    sent = 0
    for frame in encode_outcome(outcome, first, pack, is_batch=chain.is_batch):
        sent += len(frame.payload)
        if sent > limit:
            message = f"the result is larger than the {limit} bytes allowed"
            yield refusal("too-big", message, answer=frame.answer, executed=True)
            return
        yield frame


def _stream(head: Head, far_side: FarSide, now: Clock) -> Iterator[Frame]:
    """Yield the frames of a stream, each as soon as it is made; refusals are raised."""
    if len(head.calls) > 1:
        raise Refused("a stream shares its request with other calls", reason="bad-request")
    options = {**head.options, **head.calls[0].options}
    if far_side.stream is None:
        raise Refused("this server's replies are whole, so nothing can be streamed from it", reason="no-streams")
    if (late := _refusal_if_late(options, WHOLE, now())) is not None:
        yield late
        return
    chain = head.chain(0)
    with contextlib.closing(_in_one_context(far_side.stream(chain, options))) as outcomes:
        for outcome in outcomes:
            for frame in _encode_chunk(outcome, far_side.pack):
                if frame.kind == Kind.ERROR:
                    yield frame._replace(kind=frame.kind | Kind.LAST)
                    return
                yield AwaitedFrame(*frame)
    yield Frame(Kind.END | Kind.LAST, 0, b"")


def _in_one_context(outcomes: Generator[Value | Error, None, None]) -> Generator[Value | Error, None, None]:
    """Yield `outcomes`, made in a context of their own, in which what surrounds the work stays entered."""
    context = copy_context()
    try:
        while (outcome := context.run(_next, outcomes)) is not None:
            yield outcome
    finally:
        context.run(outcomes.close)


def _next(outcomes: Iterator[Value | Error]) -> Value | Error | None:
    try:
        return next(outcomes, None)
    except Exception as error:  # as in `_perform`
        return Error(error, 0)


def _encode_chunk(outcome: Value | Error, pack: Pack) -> Iterator[Frame]:
    return encode_items(outcome.value, 0, pack) if isinstance(outcome, Value) else encode_outcome(outcome, 0)


def _refusal_if_late(options: Mapping[str, Any], answer: int, now: int) -> Frame | None:
    """Refuse what shall not begin any more. The time goes along: whoever still waits for it has another clock."""
    deadline = options.get("deadline")
    if deadline is None or now < deadline:
        return None
    message = "its deadline had passed before it could begin"
    return refusal("late", message, answer=answer, details={"time": now})


def _perform(perform: Perform, chain: Chain, options: Mapping[str, Any], encode: Encode) -> Outcome:
    try:
        # In a context of its own, as in a ThreadWorker: what the work sets is not seen by the thread's next chain.
        return copy_context().run(perform, chain, options, encode)
    except Exception as error:  # options that make no sense to it
        return Error(error, 0)
