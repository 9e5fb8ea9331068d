"""Chains and outcomes as bytes, and the far side that turns one into the other.

    here                                             there
    chains --encode_request--> envelope ----------->  read_head: names, limits     (plain data, nothing unpickled)
                                                      Head.chain: arguments         (unpickled)
                                                      perform, for each call
    outcomes <---Answers.take--- frames <-----------  encode_outcome

`serve` is the whole far side, the same for a web server, a local process and a cluster. `requests` and `replies` have
the two forms and encode them, `heads` and `answers` read them; `pickling` is the only module that pickles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from ..chain import Chain, capture
from ..errors import Refused
from ..outcome import Error, Outcome
from .answers import Answers, Arrivals, RemoteTraceback
from .heads import Head, read_head
from .replies import MAX_REPLY, WHOLE, Frame, Kind, Pack, as_it_is, encode_outcome, refusal
from .requests import EncodedCall, encode_call, encode_options, envelope

__all__ = [
    "WHOLE",
    "Answers",
    "Arrivals",
    "EncodedCall",
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
    "read_head",
    "refusal",
    "serve",
]

Perform: TypeAlias = Callable[[Chain, Mapping[str, Any]], Outcome]
"""Replays a chain, given the request's options, and returns what happened."""


def encode_request(chains: Sequence[Chain], options: Mapping[str, Any] | None = None) -> bytes:
    """Return the envelope of `chains`.

    Args:
        chains: what shall be replayed, each on its own.
        options: plain data for whoever performs them there. ``max_reply`` is for `serve`: most bytes of each result,
            pickled.

    Raises:
        Refused: nothing was sent; see `encode_call` and `envelope`.
    """
    return envelope([encode_call(chain) for chain in chains], encode_options(options or {}))


def _perform_plainly(chain: Chain, options: Mapping[str, Any]) -> Outcome:
    if chain.options.atomic is not None:  # rather not at all than without the transaction
        message = f"atomic={chain.options.atomic!r} is asked for where nobody knows of databases"
        return Error(Refused(message, reason="bad-request"), 0)
    return capture(chain)


def serve(envelope: bytes, perform: Perform = _perform_plainly, pack: Pack = as_it_is) -> Iterator[Frame]:
    """Replay what an envelope holds and yield the frames of the reply, each as soon as the one after it is known.

    Calls are performed one after another, and what happens to one does not touch the others. Closing the iterator
    early leaves out those that were not begun.

    Args:
        envelope: as `encode_request` made it. If its options hold ``max_reply``, larger results are refused as
            ``"too-big"``.
        perform: replays one chain, given the options of the request and of its call. An exception that it raises itself
            counts as one of the work's.
        pack: makes of results what pickles better.
    """
    try:
        head = read_head(envelope)
    except Refused as refused:
        yield refusal(refused.reason, str(refused))
        return
    kept: Frame | None = None  # the last frame is marked, so each waits for the next
    first = 0
    for number, call in enumerate(head.calls):
        for frame in _answer(head, number, first, perform, pack):
            if kept is not None:
                yield kept
            kept = frame
        first += call.answers
    assert kept is not None  # there is a call, and each gives a frame
    yield kept._replace(kind=kept.kind | Kind.LAST)


def _answer(head: Head, number: int, first: int, perform: Perform, pack: Pack) -> Iterator[Frame]:
    options = {**head.options, **head.calls[number].options}
    if (late := _refusal_if_late(options, first)) is not None:
        yield late
        return
    try:
        chain = head.chain(number)
    except Refused as refused:
        yield refusal(refused.reason, str(refused), answer=first)
        return
    limit, sent = min(options.get("max_reply", MAX_REPLY), MAX_REPLY), 0
    for frame in encode_outcome(_perform(perform, chain, options), first, pack, is_batch=chain.is_batch):
        sent += len(frame.payload)
        if sent > limit:
            message = f"the result is larger than the {limit} bytes allowed"
            yield refusal("too-big", message, answer=frame.answer, executed=True)
            return
        yield frame


def _refusal_if_late(options: Mapping[str, Any], answer: int) -> Frame | None:
    """Refuse what shall not begin any more. The time goes along: whoever still waits for it has another clock."""
    now, deadline = time.time_ns() // 1_000_000, options.get("deadline")
    if deadline is None or now < deadline:
        return None
    message = "its deadline had passed before it could begin"
    return refusal("late", message, answer=answer, details={"time": now})


def _perform(perform: Perform, chain: Chain, options: Mapping[str, Any]) -> Outcome:
    try:
        return perform(chain, options)
    except Exception as error:  # options that make no sense to it
        return Error(error, 0)
