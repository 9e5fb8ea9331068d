"""What is mutated, how, and what must come of it.

A target is called with a source of randomness, makes one mutation, and returns a word for what came of it. It raises
AssertionError if that was believed, and lets through what the code under test must not raise.

Pickles are never mutated behind a valid signature: those could run anything. What is unpickled here is harmless, if
often not what was expected.
"""

from __future__ import annotations

import copy
import json
import operator
import pickle
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from slacker import wire
from slacker.chain import Attr, Batch, Call, Chain, Item, Options, Ref
from slacker.errors import ProtocolError, Refused
from slacker.hook import MemoryNonces, Reply
from slacker.outcome import Error, Outcome, Several, Value
from slacker.signing import ReplySealer
from slacker.wire.requests import MAX_STEPS
from tests.remote.pair import ADD, NOW, OTHER_SECRET, Body, Clock, Pair, Sealed

__all__ = ["TARGETS", "Target"]

Target = Callable[[random.Random], str]


def perform(chain: Chain, options: Mapping[str, Any], encode: object) -> Outcome:
    """Replay nothing: what is asked for here may be anything."""
    return Value([chain.outline()] * (len(chain.items) or 3))


def stream(chain: Chain, options: Mapping[str, Any]) -> Generator[Value | Error, None, None]:
    """Replay nothing, in two chunks."""
    yield Value([chain.outline()])
    yield Value([chain.outline()] * 2)


PAIR = Pair(perform=wire.FarSide(perform, stream), nonces=MemoryNonces(capacity=10**9, now=Clock()))
LONG = Chain(list, (Attr("x"),) * MAX_STEPS)
NESTED = Chain(list, (Call((Ref(0), [Ref(1)]), {}),), (ADD, Chain(str, (Attr("upper"), Call(("a",), {})), (ADD,))))
CHAINS = [
    ADD,
    Chain(list, (Call(("text",), {"key": None}), Attr("index"), Call((), {}), Item(slice(1, 2)))),
    Chain(operator.add, (Call((Ref(0), 1), {}),), (NESTED,), Options(atomic="default")),
    Chain(Batch(3, return_exceptions=True), (), (ADD, NESTED, ADD)),
    Chain(Batch(1), (Item(Ref(1)),), (NESTED, ADD)),
]


# --- mutations -------------------------------------------------------------------------------------------------------


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Return `data` after one to three changes such as chance, or somebody with an aim, makes."""
    changed = data
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        changed = rng.choice(CHANGES)(rng, changed)
    return changed


def _flip(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) or 1)
    return data[:at] + bytes(byte ^ (1 << rng.randrange(8)) for byte in data[at : at + 1]) + data[at + 1 :]


def _replace(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at + rng.randrange(9) :]


def _drop(rng: random.Random, data: bytes) -> bytes:
    begin, end = _slice(rng, data)
    return data[:begin] + data[end:]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    begin, end = _slice(rng, data)
    return data[:end] + data[begin:]


def _move(rng: random.Random, data: bytes) -> bytes:
    begin, end = _slice(rng, data)
    at = rng.randrange(len(data) + 1)
    rest = data[:begin] + data[end:]
    return rest[:at] + data[begin:end] + rest[at:]


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _slice(rng: random.Random, data: bytes) -> tuple[int, int]:
    begin = rng.randrange(len(data) + 1)
    return begin, min(len(data), begin + rng.choice((1, 1, 4, 16, 64)))


CHANGES = [_flip, _flip, _replace, _drop, _repeat, _move, _cut]


# --- what comes over the network -------------------------------------------------------------------------------------


def header(rng: random.Random) -> str:
    """Another header: denied, and nothing of the body is read."""
    sealed, other = PAIR.seal(*CHAINS), PAIR.seal()
    fields, others = sealed.header.split(";"), other.header.split(";")
    way = rng.randrange(4)
    if way == 0:
        number = rng.randrange(1, len(fields))
        fields[number] = others[number]
        changed = ";".join(fields)
    elif way == 1:
        rng.shuffle(fields)
        changed = ";".join(fields[: rng.randrange(1, len(fields) + 3)])
    else:
        changed = mutated(rng, sealed.header.encode()).decode("latin-1")
    if changed == sealed.header:
        return "unchanged"
    body = Body(sealed.body)
    reply = PAIR.answer(sealed, header=changed, read=body.read)
    assert (reply.status, body.asked) == (403, []), f"believed: {changed}"
    return "denied"


def body(rng: random.Random) -> str:
    """Another body: refused, and nothing is performed."""
    performed: list[Chain] = []
    pair = Pair(perform=lambda chain, *_: performed.append(chain) or Value(1))  # type: ignore[func-returns-value]
    sealed = pair.seal(*CHAINS)
    changed = mutated(rng, sealed.body)
    if changed[: len(sealed.body)] == sealed.body:
        return "unchanged"  # of the bytes that were signed, and no others are read
    refused = pair.refusal(sealed, pair.answer(sealed, body=changed))
    assert (refused.reason, performed) == ("bad-request", []), f"believed: {changed!r}"
    return refused.reason


def frames(rng: random.Random) -> str:
    """Another reply: an error, never another result."""
    sealed = PAIR.seal(*CHAINS)
    genuine = b"".join(PAIR.answer(sealed).body)
    changed = mutated(rng, genuine) if rng.randrange(2) else b"".join(_rearranged(rng, genuine))
    if changed[: len(genuine)] == genuine:
        return "unchanged"  # of what the last frame ends
    try:
        outcomes = PAIR.open(sealed, changed, CHAINS)
    except ProtocolError:
        return "refused"
    raise AssertionError(f"believed: {outcomes}")


def _rearranged(rng: random.Random, reply: bytes) -> list[bytes]:
    """Return the frames of `reply` in another order, some of them dropped, doubled or another reply's."""
    pieces = _frames(reply)
    pool = [*pieces, *_frames(b"".join(PAIR.answer(PAIR.seal(*CHAINS)).body))]
    return [rng.choice(pool) for _ in range(rng.randrange(1, 2 + len(pieces)))]


def _frames(reply: bytes) -> list[bytes]:
    pieces = []
    while reply:
        end = 41 + int.from_bytes(reply[:4], "big")
        pieces.append(reply[:end])
        reply = reply[end:]
    return pieces


# --- what a holder of the key may send -------------------------------------------------------------------------------

NAMES = ["add", "text", "index", "x", "größe", "class", "_x", "a b", "\ud800", "\0"]
NAMES += ["__class__", "__x__", "a.b", "", ".", ".."]
MODULES = ["operator", "builtins", "no_such_module", "json.decoder", "a..b", ".operator", "__main__", "__future__"]
NUMBERS = [0, 1, 2, -1, -2, 63, 64, 65, 2**31, 2**32, 2**63, 2**64, -(2**63), 10**100, 10**4000, 0.0, 1.5, -1.0, 1e400]
OTHERS: list[Any] = [None, True, False, [], {}, [[]], [0], [0, 0], ["operator", "add"], {"max_reply": 1}, "x" * 5000]
OTHERS += [
    [1],
    [2, 1],
    [1, False],
    [3, True],
    [0, True],
    {"deadline": 1},
    {"atomic": 1},
    {"stream": 0},
    [["str", ""], []],
]
ARGUMENTS: list[Any] = [
    *[[], {}, (), None, 0, "text", b"", [None], [0], ["text"], [()], [((), {})], [((), {}), None]],
    *[[([], {})], [((), [])], [((), {1: 2})], [((), {}, ())], [(None, None)], [[(), {}]] * 3, {0: ((), {})}],
]
NO_JSON = [b"", b"nul", b"[" * 9999, b"[1" + b"0" * 9999, b"\xff\xfe", b'"\\ud800"']


def envelope(rng: random.Random) -> str:
    """Whatever a holder of the key signs: an answer under a signature, and no exception."""
    sealed = PAIR.seal(body=_hostile_envelope(rng))
    reply = PAIR.answer(sealed)
    assert reply.status == 200
    try:
        outcomes = _opened(sealed, reply)
    except Refused as error:
        refused = error
    else:
        errors: list[Any] = [outcome.exception for outcome in outcomes if isinstance(outcome, Error)]
        if not errors:
            return "served"
        refused = errors[0]  # of one call, with the others served
        assert isinstance(refused, Refused)
    assert refused.reason in ("bad-request", "version", "too-big", "late"), refused
    assert refused.executed is (refused.reason == "too-big"), refused
    return refused.reason


def _hostile_envelope(rng: random.Random) -> bytes:
    deadline, size = rng.choice((None, None, 1, 10**14)), rng.choice((None, None, 7))
    chains = CHAINS if size is None else [rng.choice(CHAINS)]
    calls = [wire.encode_call(chain, deadline=deadline, stream=size) for chain in chains]
    genuine = wire.envelope(calls, wire.encode_options({"max_reply": rng.choice((10, 100, 10_000))}))
    length = int.from_bytes(genuine[:4], "big")
    plain, pickled = genuine[4 : 4 + length], genuine[4 + length :]
    way = rng.randrange(5)
    if way == 0:
        plain = mutated(rng, plain)
    elif way == 1:
        head = json.loads(plain)
        for _ in range(rng.choice((1, 1, 2, 4))):
            _replace_a_part(rng, head)
        plain = json.dumps(head).encode()
    elif way == 2:
        plain = rng.choice((*NO_JSON, rng.randbytes(99)))
    elif way == 3:
        return _with_other_arguments(rng, calls)
    else:  # a part of the head is then taken for arguments, or the other way round
        length = rng.choice((0, 1, length // 2, length - 1, length + 1, 2**31, 2**32 - 1))
        return length.to_bytes(4, "big") + genuine[4:]
    return len(plain).to_bytes(4, "big") + plain + pickled


def _with_other_arguments(rng: random.Random, calls: list[wire.EncodedCall]) -> bytes:
    """Return an envelope of one of `calls`, in form, with arguments that are others, or cut."""
    call = rng.choice(calls)
    pickled = pickle.dumps(rng.choice((*ARGUMENTS, pickle.loads(call.pickled))), rng.randrange(6))
    pickled = pickled[: rng.choice((len(pickled), len(pickled), rng.randrange(len(pickled) + 1)))]
    plain = f"[{len(pickled)},{call.plain.partition(',')[2]}"
    return wire.envelope([call._replace(plain=plain, pickled=pickled)])


def _replace_a_part(rng: random.Random, head: Any) -> None:
    """Put something else in place of one part, however deep, of a list or dict."""
    holder = head
    while True:
        key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        inner = holder[key]
        if not isinstance(inner, list | dict) or not inner or not rng.randrange(3):
            break
        holder = inner
    others = (rng.choice(NAMES), rng.choice(NUMBERS), copy.deepcopy(rng.choice(OTHERS)), [rng.choice(MODULES), "x"])
    holder[key] = rng.choice(others)
    if isinstance(holder, list) and not rng.randrange(4):
        holder.append(rng.choice(holder))


def _opened(sealed: Sealed, reply: Reply) -> Sequence[Outcome]:
    """Return what came: the chunks of a stream, or the outcomes of chains with as many answers as those asked for."""
    try:
        calls = wire.read_head(sealed.body).calls
    except Refused:
        return PAIR.open(sealed, reply)
    if "stream" in calls[0].options:
        arrivals = wire.Arrivals()
        return [chunk for frame in PAIR.frames(sealed, reply) if (chunk := arrivals.take(*frame)) is not None]
    return PAIR.open(sealed, reply, [_like(call.answers) for call in calls])


def _like(answers: int) -> Chain:
    return ADD if answers == 1 else Chain(Batch(answers), (), (ADD,) * answers)


def reply(rng: random.Random) -> str:
    """Whatever a holder of the key seals as a reply: outcomes, or one of the documented errors."""
    sealed = PAIR.seal()
    sealer = ReplySealer(PAIR.keyring.signing, sealed.signature)
    chains, frames = rng.choice(([ADD], [ADD], [ADD, ADD], CHAINS[3:])), rng.choice((1, 1, 2, 3, 4))
    data = b""
    for left in reversed(range(frames)):
        kind = rng.choice((1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 0, 5, 127)) | (0x80 if left == 0 else 0)
        answer = rng.randrange(len(chains) + 2) if rng.randrange(8) else rng.choice((2, 2**31, wire.WHOLE))
        data += sealer.seal(kind, answer, _hostile_payload(rng, kind & 0x7F if rng.randrange(2) else 0))
    try:
        outcomes = PAIR.open(sealed, data, chains)
    except (ProtocolError, Refused) as error:
        return type(error).__name__
    for outcome, chain in zip(outcomes, chains, strict=True):
        if isinstance(outcome, Several):
            outcome.unwrap(chain)
        elif isinstance(outcome, Error):
            outcome.arrive(chain)
            outcome.arrive(LONG)
    return "outcomes"


def _hostile_payload(rng: random.Random, kind: int) -> bytes:
    """Return a payload, of about the form that `kind` has, or of any."""
    plain: Any = ["duplicate", "text", False, {}] if kind == 4 else ["ValueError", "text", 1, 2, "traceback"]
    for _ in range(rng.choice((0, 0, 1, 2))):
        _replace_a_part(rng, plain)
    text = json.dumps(plain).encode() if rng.randrange(20) else rng.choice(NO_JSON)
    pickled = pickle.dumps(
        rng.choice((*ARGUMENTS, ValueError("text"), (KeyError(), None), (ValueError(1), ("text", 1))))
    )
    forms = {
        1: pickled,
        2: rng.choice((b"l", b"t", b"d", b"s", b"f", b"x", b"")) + pickled,
        3: len(text).to_bytes(4, "big") + text + pickled,
        4: text,
        5: rng.choice((0, 1, 2**31, 2**32 - 1)).to_bytes(4, "big") + text,
        6: pickled[: rng.randrange(len(pickled))],
    }
    return forms.get(kind) or rng.choice(list(forms.values()))


# --- keys ------------------------------------------------------------------------------------------------------------


def stranger(rng: random.Random) -> str:
    """A request of somebody without the key, however it is dressed up: denied."""
    pair = Pair(rng.choice((OTHER_SECRET, rng.randbytes(32))), audience=PAIR.audience)
    sealed = pair.seal(*CHAINS, time=NOW + rng.randrange(-60_000, 60_000))
    genuine = PAIR.seal(*CHAINS)
    fields, others = sealed.header.split(";"), genuine.header.split(";")
    fields[1:6] = [rng.choice((mine, theirs)) for mine, theirs in zip(fields[1:6], others[1:6], strict=True)]
    body = Body(sealed.body)
    reply = PAIR.answer(sealed, header=";".join(fields), read=body.read)
    assert (reply.status, body.asked) == (403, []), f"believed: {';'.join(fields)}"
    return "denied"


TARGETS: dict[str, Target] = {target.__name__: target for target in (header, body, frames, envelope, reply, stranger)}
