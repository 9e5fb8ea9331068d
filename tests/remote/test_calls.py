"""Calls on the wire: chains with others inside, batches, options of a call, streams; each call by itself."""

from __future__ import annotations

import asyncio
import json
import operator
import pickle
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slacker import Slacker, batch, chain_of, options
from slacker.chain import Attr, Batch, Call, Chain, Item, Options, Ref
from slacker.errors import ProtocolError, Refused
from slacker.outcome import Error, Outcome, Several, Value
from slacker.wire import (
    WHOLE,
    Answers,
    Arrivals,
    FarSide,
    Frame,
    Kind,
    encode_call,
    encode_request,
    envelope,
    read_head,
    refusal,
    serve,
)
from slacker.wire.replies import encode_items, encode_outcome
from slacker.wire.requests import PYTHON
from slacker.workers import DummyWorker, ThreadWorker

from .pair import ADD, Pair, spy_on_loads

FUTURE = 10**14
"""Milliseconds since 1970 that nobody here lives to see."""


def add(one: Any, other: Any) -> Any:
    return one + other


def echo(*args: Any) -> Any:
    return args


def throw(error: BaseException) -> NoReturn:
    raise error


def fail(value: object) -> NoReturn:
    raise LookupError(value)


class RaisesInLoading:
    """Raises when it is unpickled."""

    def __reduce__(self) -> Any:
        return fail, ("loaded",)


LOST: Any = (character for character in "")
"""What cannot be pickled."""

SHARED = Slacker(int)("1")
NESTED: dict[str, Callable[[], Slacker]] = {
    "nested": lambda: Slacker(add)(1, Slacker(int)("2")),
    "in containers": lambda: Slacker(echo)([Slacker(int)("2")], {"a": (Slacker(int)("3"),)})[Slacker(int)("0") :],
    "twice": lambda: Slacker(add)(SHARED, Slacker(add)(SHARED, SHARED)),
    "batch": lambda: batch(SHARED, Slacker(str)("a")),
    "one twice": lambda: batch(SHARED, SHARED),
    "returns exceptions": lambda: batch(SHARED, return_exceptions=True),
    "steps on a batch": lambda: batch(SHARED, Slacker(int)("2"))[1:],
    "argument of a step on a batch": lambda: batch(SHARED, Slacker(int)("2"))[SHARED],
    "batch in a batch": lambda: batch(batch(SHARED), Slacker(sum)(batch(SHARED, SHARED))),
    "pickled roots": lambda: Slacker([1, 2])[Slacker({"a": 1})["a"]],
    "no arguments": lambda: Slacker(echo)(Slacker(dict)()),
}

every_nested = pytest.mark.parametrize("make", NESTED.values(), ids=NESTED)


def decoded(*chains: Chain) -> list[Chain]:
    head = read_head(encode_request(chains))
    return [head.chain(number) for number in range(len(head.calls))]


def replied(chains: Sequence[Chain], frames: Iterable[Frame]) -> list[Outcome]:
    answers = Answers(chains)
    for frame in frames:
        answers.take(*frame)
    return answers.outcomes()


def asked(*chains: Chain, **given: Any) -> list[Outcome]:
    """Return what the far side makes of chains that are sent together."""
    return replied(chains, serve(encode_request(chains, given)))


def refusal_in(outcome: Outcome) -> Refused:
    assert isinstance(outcome, Error)
    assert isinstance(outcome.exception, Refused)
    return outcome.exception


def plain_request(*calls: Any, pickled: bytes = b"") -> bytes:
    plain = json.dumps([1, PYTHON, {}, list(calls)]).encode()
    return len(plain).to_bytes(4, "big") + plain + pickled


# --- requests --------------------------------------------------------------------------------------------------------


@every_nested
def test_round_trip(make: Callable[[], Slacker]) -> None:
    """A chain with others inside arrives as it was sent, and what is one chain in two places is one there."""
    chain = chain_of(make())
    (arrived,) = decoded(chain)
    assert arrived == chain
    assert len(arrived.parts()) == len(chain.parts())


@every_nested
def test_same_result(make: Callable[[], Slacker]) -> None:
    """It gives over there what it gives here."""
    chain = chain_of(make())
    (outcome,) = asked(chain)
    assert outcome.unwrap(chain) == chain.replay()


def test_head_of_nested() -> None:
    """Chains are numbered in their call, each before what is nested in it; a batch says how many items it has."""
    chain = chain_of(batch(Slacker(abs)(SHARED), SHARED)[SHARED])
    head = json.loads(encode_request([chain])[4:].split(b"\x80\x05")[0])
    (_length, own, *chains) = head[3][0]
    assert (own, chains) == (
        {},
        [[[2, False], [1, 2], [0]], [["builtins", "abs"], [2], 1], [["builtins", "int"], [], 2]],
    )


def test_options_of_a_call() -> None:
    """What a call has of its own is told with it, and nothing is said of what it has not."""
    chain = Chain(operator.add, (Call((2, 3), {}),), (), Options(timeout=1.0, atomic="archive"))
    calls = read_head(envelope([encode_call(chain, deadline=FUTURE, stream=10), encode_call(ADD)])).calls
    assert [call.options for call in calls] == [{"deadline": FUTURE, "atomic": "archive", "stream": 10}, {}]


def test_the_transaction_arrives() -> None:
    """The alias of a transaction is an option of the chain over there; its time limit has become a deadline."""
    chain = Chain(operator.add, ADD.steps, (), Options(timeout=1.0, atomic="archive"))
    assert decoded(chain)[0].options == Options(atomic="archive")


def test_most_chains() -> None:
    """A thousand chains may be sent, with those that are nested and the batch itself; one more may not."""
    items = [Slacker(int)(str(number)) for number in range(1000)]
    assert len(decoded(chain_of(batch(*items[1:])))[0].nested) == 999
    with pytest.raises(Refused, match="1001 chains are to be sent; 1 to 1000 may"):
        encode_request([chain_of(batch(*items))])


def test_most_chains_of_several_calls() -> None:
    """The chains of all calls of a request count together, on either side."""
    encoded = encode_call(chain_of(Slacker(abs)(SHARED)))
    assert (encoded.chains, len(read_head(envelope([encoded] * 500)).calls)) == (2, 500)
    with pytest.raises(Refused, match="1002 chains are to be sent"):
        envelope([encoded] * 501)
    call = [0, {}, [["operator", "add"], [1]], [["operator", "add"], []]]
    with pytest.raises(Refused, match="1002 chains came; 1 to 1000 may"):
        read_head(plain_request(*[call] * 501))


@pytest.mark.parametrize(
    ("q", "match"),
    [
        (Slacker(echo)(Slacker(abs)(LOST)), r"argument 1 of step 1, abs, of abs\(\.\.\.\) cannot be pickled"),
        (Slacker(echo)(1, [Slacker(abs), LOST]), r"argument 2 of step 1, echo, of echo\(\.\.\.\) cannot be pickled"),
        (Slacker(echo)(Slacker(lambda: 1)()), r"the root of .*<lambda>\(\) cannot be pickled"),
        (batch(SHARED, Slacker(echo)[LOST]), r"the key of step 1 of echo\[\.\.\.\] cannot be pickled"),
    ],
    ids=["nested", "beside a nested", "root", "item"],
)
def test_place_is_named(q: Slacker, match: str) -> None:
    """What cannot be pickled is named with the chain it is in, nested or not."""
    with pytest.raises(Refused, match=match):
        encode_request([chain_of(q)])


def test_names_of_nested() -> None:
    """Names in nested chains are held to the same rules."""
    nested = Chain(echo, (Attr("__class__"),))
    with pytest.raises(Refused, match=r"has a step of a name that may not be sent: '__class__'"):
        encode_request([Chain(echo, (Call((Ref(0),), {}),), (nested,))])


def test_too_many_steps_of_nested() -> None:
    """And so is the number of their steps."""
    with pytest.raises(Refused, match="has 65 steps; 64 may be sent"):
        encode_request([Chain(echo, (), (Chain(echo, (Attr("x"),) * 65),))])


PLAIN = [["operator", "add"], []]

BAD_CALLS: dict[str, Any] = {
    "null": None,
    "text": "call",
    "an object": {"chain": PLAIN},
    "empty": [],
    "no chain": [0, {}],
    "length as text": ["0", {}, PLAIN],
    "length as true": [True, {}, PLAIN],
    "length below nothing": [-1, {}, PLAIN],
    "length beyond the end": [1, {}, PLAIN],
    "huge length": [10**100, {}, PLAIN],
    "options as a list": [0, [], PLAIN],
    "options as null": [0, None, PLAIN],
    "unknown option": [0, {"priority": 1}, PLAIN],
    "deadline as text": [0, {"deadline": "1"}, PLAIN],
    "deadline as true": [0, {"deadline": True}, PLAIN],
    "deadline as a float": [0, {"deadline": 1.5}, PLAIN],
    "deadline below nothing": [0, {"deadline": -1}, PLAIN],
    "atomic as true": [0, {"atomic": True}, PLAIN],
    "atomic as null": [0, {"atomic": None}, PLAIN],
    "stream of nothing": [0, {"stream": 0}, PLAIN],
    "stream as true": [0, {"stream": True}, PLAIN],
    "chain of a root only": [0, {}, [["operator", "add"]]],
    "nested as a number": [0, {}, [["operator", "add"], 1], PLAIN],
    "nested in itself": [0, {}, [["operator", "add"], [0]]],
    "nested in what is nested in it": [0, {}, [["operator", "add"], [1]], [["operator", "add"], [0]]],
    "nested that is not there": [0, {}, [["operator", "add"], [1]]],
    "nested below the first": [0, {}, [["operator", "add"], [-1]], PLAIN],
    "nested as true": [0, {}, [["operator", "add"], [True]], PLAIN],
    "nested as text": [0, {}, [["operator", "add"], ["1"]], PLAIN],
    "batch of nothing": [0, {}, [[0, False], []]],
    "batch of more than there are": [0, {}, [[2, False], [1]], PLAIN],
    "batch of fewer than none": [0, {}, [[-1, False], [1]], PLAIN],
    "batch of true": [0, {}, [[True, False], [1]], PLAIN],
    "batch without a number": [0, {}, [[False], [1]], PLAIN],
    "batch that returns a number": [0, {}, [[1, 0], [1]], PLAIN],
    "batch as true": [0, {}, [True, [1]], PLAIN],
    "dunder in a nested": [0, {}, [["operator", "add"], [1]], [["operator", "add"], [], "__class__"]],
}


@pytest.mark.parametrize("call", BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_calls(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no call is refused with the whole request, before anything is unpickled."""
    loaded = spy_on_loads(monkeypatch)
    (frame,) = serve(plain_request([0, {}, PLAIN], call))
    with pytest.raises(Refused) as caught:
        Answers([ADD]).take(*frame)
    assert (caught.value.reason, caught.value.executed, loaded) == ("bad-request", False, [])


def test_bytes_too_many() -> None:
    """Bytes that belong to no call are refused."""
    with pytest.raises(Refused, match="3 bytes of arguments came where the head says 0"):
        read_head(plain_request([0, {}, PLAIN], pickled=b"abc"))


def nested_to(depth: int) -> bytes:
    plain = [[["operator", "add"], [number + 1] if number < depth else []] for number in range(depth + 1)]
    return plain_request([0, {}, *plain])


@pytest.mark.parametrize(("depth", "read"), [(32, True), (33, False), (999, False)])
def test_depth(depth: int, read: bool) -> None:
    """Chains that are nested 32 deep are read, deeper ones refused."""
    head = read_head(nested_to(depth))
    if read:
        assert head.chain(0).depth == 32
    else:
        with pytest.raises(
            Refused, match=r"the request cannot be read here: ValueError: recipes can be nested 32 deep"
        ):
            head.chain(0)


def test_a_ref_to_nothing() -> None:
    """A Ref to what is not there fails where it is used, as work does."""
    pickled = pickle.dumps([((Ref(7),), {})])
    body = plain_request([len(pickled), {}, [["builtins", "abs"], [1], 0], PLAIN], pickled=pickled)
    (outcome,) = replied([ADD], serve(body))
    assert isinstance(outcome, Error)
    assert (type(outcome.exception), outcome.step, outcome.place) == (IndexError, 1, 0)


# --- each call by itself ---------------------------------------------------------------------------------------------


def test_a_call_that_cannot_be_read() -> None:
    """A call whose arguments cannot be unpickled is refused, and leaves the others alone."""
    first, second, third = asked(ADD, Chain(echo, (Call((RaisesInLoading(),), {}),)), ADD)
    error = refusal_in(second)
    assert (first, error.reason, error.executed, third) == (Value(5), "bad-request", False, Value(5))
    assert str(error) == "the request cannot be read here: LookupError: loaded"


@pytest.mark.parametrize("return_exceptions", [False, True])
@pytest.mark.parametrize("size", [1, 3])
def test_a_batch_that_cannot_be_read(size: int, return_exceptions: bool) -> None:
    """A batch that is refused is refused as a whole, also one that returns exceptions: those are of the work."""
    bad = Chain(echo, (Call((RaisesInLoading(),), {}),))
    first, second = asked(Chain(Batch(size, return_exceptions), (), (*[ADD] * (size - 1), bad)), ADD)
    assert (refusal_in(first).reason, second) == ("bad-request", Value(5))


def test_late() -> None:
    """A call whose deadline has passed does not begin: it is refused with the far side's time, and nothing ran."""
    performed: list[Chain] = []

    def perform(chain: Chain, options: Mapping[str, Any], encode: object) -> Outcome:
        performed.append(chain)
        return Value(options.get("deadline"))

    before = time.time_ns() // 1_000_000
    calls = [encode_call(ADD, deadline=before - 1), encode_call(ADD), encode_call(ADD, deadline=FUTURE)]
    late, none, early = replied([ADD] * 3, serve(envelope(calls), FarSide(perform)))
    error = refusal_in(late)
    assert (none, early, len(performed)) == (Value(None), Value(FUTURE), 2)
    assert (error.reason, error.executed, error.details["time"] >= before) == ("late", False, True)


def test_deadline_of_the_request() -> None:
    """A deadline among the options of a request is that of each call which has none of its own."""
    chains = [ADD, ADD]
    body = envelope([encode_call(ADD), encode_call(ADD, deadline=FUTURE)], json.dumps({"deadline": 1}))
    late, early = replied(chains, serve(body))
    assert (refusal_in(late).reason, early) == ("late", Value(5))


def test_late_in_a_batch() -> None:
    """A batch that is late is refused as a whole."""
    chain = chain_of(batch(SHARED, SHARED, return_exceptions=True))
    (outcome,) = replied([chain], serve(envelope([encode_call(chain, deadline=1)])))
    assert refusal_in(outcome).reason == "late"


def test_a_transaction_where_there_are_no_databases() -> None:
    """Where nobody knows of databases a transaction is refused rather than left out."""
    chain = Chain(operator.add, ADD.steps, (), Options(atomic="default"))
    (outcome, other) = asked(chain, ADD)
    error = refusal_in(outcome)
    assert (error.reason, error.executed, other) == ("bad-request", False, Value(5))


# --- answers ---------------------------------------------------------------------------------------------------------


def test_items_are_answers() -> None:
    """Each item of a batch is an answer of its own, so that a long one comes in chunks."""
    chains = [ADD, chain_of(batch(Slacker(list)(range(600)), SHARED)), ADD]
    frames = list(serve(encode_request(chains)))
    assert [(frame.kind & ~Kind.LAST, frame.answer) for frame in frames] == [
        (Kind.VALUE, 0),
        (Kind.CHUNK, 1),
        (Kind.CHUNK, 1),
        (Kind.VALUE, 2),
        (Kind.VALUE, 3),
    ]
    assert replied(chains, frames) == [Value(5), Value([list(range(600)), 1]), Value(5)]


def test_steps_on_a_batch_are_one_answer() -> None:
    """A batch with steps is a call as any other, and has one answer."""
    assert len(list(serve(encode_request([chain_of(batch(SHARED, SHARED)[:])])))) == 1


def test_batch_fails() -> None:
    """A batch that fails answers with the failure alone, and the calls after it have their own numbers."""
    chain = chain_of(batch(SHARED, Slacker(throw)(LookupError("no")), SHARED))
    frames = list(serve(encode_request([chain, ADD])))
    assert [frame.answer for frame in frames] == [0, 3]
    (outcome, other) = replied([chain, ADD], frames)
    with pytest.raises(LookupError, match="no") as caught:
        outcome.unwrap(chain)
    assert (other, caught.value.__notes__) == (
        Value(5),
        [
            "slacker: at step 1, throw, of throw(...), in batch(int(...), throw(...), int(...)); "
            "it is item 2 of 3: 1 ran before it, 1 did not run"
        ],
    )


def test_batch_returns_exceptions() -> None:
    """One that returns exceptions has them in their places, each with where it happened."""
    chain = chain_of(batch(SHARED, Slacker(throw)(LookupError("no")), SHARED, return_exceptions=True))
    (outcome,) = asked(chain)
    assert isinstance(outcome, Several)
    first, failed, last = outcome.outcomes
    assert isinstance(failed, Error)
    assert (first, failed.step, chain.parts()[failed.place], last) == (Value(1), 1, chain.nested[1], Value(1))


def test_an_item_that_cannot_be_pickled() -> None:
    """A result that cannot be pickled fails the batch, or is in its place an error of one that returns exceptions."""
    for return_exceptions in (False, True):
        chain = chain_of(batch(SHARED, Slacker(memoryview)(b"a"), return_exceptions=return_exceptions))
        (outcome,) = asked(chain)
        error = outcome.outcomes[1] if isinstance(outcome, Several) else outcome
        assert isinstance(error, Error)
        assert "cannot be pickled" in str(error.exception)


BATCH = chain_of(batch(SHARED, SHARED))
ONE = pickle.dumps(1)


@pytest.mark.parametrize(
    ("frames", "match"),
    [
        ([(Kind.VALUE | Kind.LAST, 0, ONE)], "left out answer 1"),
        ([(Kind.VALUE | Kind.LAST, 1, ONE)], "left out answer 0"),
        ([(Kind.VALUE, 0, ONE), (Kind.VALUE | Kind.LAST, 2, ONE)], "answer 2 came where 2 were asked for"),
    ],
)
def test_nonsense_answers(frames: list[tuple[int, int, bytes]], match: str) -> None:
    """A batch of which answers are missing, though nothing failed, is an error of the protocol."""
    with pytest.raises(ProtocolError, match=match):
        replied([BATCH], [Frame(*frame) for frame in frames])


def test_not_understood_there() -> None:
    """What `perform` gives for a batch that is no list of as many is an error of the protocol, and hangs nobody."""
    with pytest.raises(ProtocolError, match="left out answer 1"):
        replied([BATCH], serve(encode_request([BATCH]), FarSide(lambda *_: Value([1]))))


def test_order_of_calls() -> None:
    """Frames of an outcome are numbered from the answer that they are given."""
    frames = list(encode_outcome(Several([Value(1), Value(2)]), 7))
    assert [frame.answer for frame in frames] == [7, 8]


# --- streams ---------------------------------------------------------------------------------------------------------


def taken(frames: Iterable[tuple[int, int, bytes]]) -> list[Value | Error | None]:
    arrivals = Arrivals()
    return [arrivals.take(*frame) for frame in frames]


END = (Kind.END | Kind.LAST, 0, b"")


def test_stream() -> None:
    """The items of a stream come in lists, and its end as None."""
    frames = [*encode_items([1, 2], 0), *encode_items([3], 0), END]
    assert taken(frames) == [Value([1, 2]), Value([3]), None]


def test_stream_of_large_items() -> None:
    """Items that are too large for one frame come in several."""
    frames = list(encode_items([bytes(800_000), bytes(800_001)], 0))
    assert [len(value.value) for value in taken(frames) if isinstance(value, Value)] == [1, 1]


def test_stream_that_fails() -> None:
    """An error ends a stream after the items before it, and so does a refusal."""
    (error,) = encode_outcome(Error(LookupError("no"), 2, 1), 0)
    chunk, failed = taken([*encode_items([1], 0), (error.kind | Kind.LAST, 0, error.payload)])
    assert isinstance(failed, Error)
    assert (chunk, repr(failed.exception), failed.step, failed.place) == (Value([1]), "LookupError('no')", 2, 1)
    late = refusal("late", "no time", answer=0)
    (refused,) = taken([(late.kind | Kind.LAST, 0, late.payload)])
    assert isinstance(refused, Error)
    assert isinstance(refused.exception, Refused)


def test_items_that_cannot_be_pickled() -> None:
    """Items that cannot be pickled are an error in their place."""
    chunk, error = [*encode_items([1], 0), *encode_items([LOST], 0)]
    assert (chunk.kind, error.kind) == (Kind.CHUNK, Kind.ERROR)


def test_items_that_cannot_be_loaded() -> None:
    """Items that cannot be loaded here are an error that says so."""
    (outcome,) = taken(encode_items([RaisesInLoading()], 0))
    assert isinstance(outcome, Error)
    assert str(outcome.exception) == "LookupError: the result cannot be loaded here: loaded"


@pytest.mark.parametrize(
    ("frames", "match"),
    [
        ([END, END], "a frame came after the last one"),
        ([(Kind.VALUE | Kind.LAST, 0, ONE)], "does not continue a stream"),
        ([(Kind.CHUNK, 1, b"l" + pickle.dumps([1]))], "does not continue a stream"),
        ([(Kind.CHUNK, 0, b"t" + pickle.dumps([1]))], "does not continue a stream"),
        ([(Kind.CHUNK, 0, b"l" + ONE)], "a chunk came that holds no items"),
        ([(Kind.END, 0, b"")], "does not continue a stream"),
        ([(Kind.REFUSED, 0, b"[]")], "does not continue a stream"),
    ],
)
def test_nonsense_streams(frames: list[tuple[int, int, bytes]], match: str) -> None:
    """What does not belong into a stream is an error of the protocol."""
    with pytest.raises(ProtocolError, match=match):
        taken(frames)


def test_stream_refused() -> None:
    """A stream may be refused with its whole request."""
    with pytest.raises(Refused, match="seen before"):
        taken([refusal("duplicate", "seen before", answer=WHOLE)])


# --- all the way -----------------------------------------------------------------------------------------------------


@every_nested
def test_all_the_way(make: Callable[[], Slacker]) -> None:
    """Sealed, through a hook and opened again it gives what it gives here."""
    chain = chain_of(make())
    assert Pair().ask(chain) == chain.replay()


values = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=3)


def longer(inner: st.SearchStrategy[Chain]) -> st.SearchStrategy[Chain]:
    """Return chains, or batches, in which others are nested."""

    def chain(root: Any, name: str, value: Any, nested: list[Chain]) -> Chain:
        refs = [Ref(number) for number in range(len(nested))]
        return Chain(
            root, (Attr(name), Call((value, *refs), {"a": refs}), Item(refs[0] if refs else value)), tuple(nested)
        )

    def batched(nested: list[Chain], size: int, returns: bool, name: str) -> Chain:
        return Chain(Batch(min(size, len(nested)), returns), (Attr(name),) if size < len(nested) else (), tuple(nested))

    names = st.sampled_from(["x", "_y", "größe", "class"])
    some = st.lists(inner, min_size=1, max_size=3)
    return st.builds(chain, st.sampled_from([echo, operator, "root", 7]), names, values, some) | st.builds(
        batched, some, st.integers(1, 3), st.booleans(), names
    )


any_chain = st.recursive(st.builds(lambda value: Chain(echo, (Call((value,), {}),)), values), longer, max_leaves=10)


@settings(deadline=None)
@given(st.lists(any_chain, min_size=1, max_size=3))
def test_any_chain_round_trips(sent: list[Chain]) -> None:
    """Any chains with others and batches inside arrive as they were sent, several in one request."""
    assert decoded(*sent) == sent


any_recipe = st.recursive(
    st.builds(lambda items: Slacker(list)(items), st.lists(st.integers(0, 9), max_size=3)),
    lambda inner: (
        st.builds(lambda one, other: Slacker(add)(one, other), inner, inner)
        | st.builds(lambda one, number: Slacker(list)(one)[number:], inner, st.integers(-2, 2))
        | st.builds(lambda one: Slacker(list)(one).index(7), inner)
        | st.builds(lambda items: batch(*items), st.lists(inner, min_size=1, max_size=3))
        | st.builds(lambda items: batch(*items, return_exceptions=True), st.lists(inner, min_size=1, max_size=3))
        | st.builds(lambda one: batch(one, one)[0], inner)
    ),
    max_leaves=6,
)


def told(value: Any) -> Any:
    """Return `value` with exceptions as what there is to say of them, for these are not equal to their copies."""
    if isinstance(value, Exception):
        return type(value), str(value), value.__notes__
    return list(map(told, value)) if isinstance(value, list) else value


@settings(deadline=None, max_examples=60)
@given(any_recipe)
def test_any_recipe_is_the_same_on_every_worker(q: Any) -> None:
    """In place, through the wire and in threads a recipe gives the same, or fails alike with the same note."""

    async def everywhere() -> list[Any]:
        async with ThreadWorker(1) as threads:
            workers = [DummyWorker(), DummyWorker(pickled=True), threads]
            return [(await asyncio.gather(options(q, worker), return_exceptions=True))[0] for worker in workers]

    here, there, in_thread = map(told, asyncio.run(everywhere()))
    assert here == there == in_thread


def refusal_of(frames: Iterable[Frame]) -> Refused:
    (frame,) = frames
    with pytest.raises(Refused) as caught:
        Arrivals().take(*frame)
    return caught.value


def test_stream_beside_other_calls() -> None:
    """A stream has a request of its own."""
    refused = refusal_of(serve(envelope([encode_call(ADD, stream=1), encode_call(ADD)])))
    assert (refused.reason, refused.executed) == ("bad-request", False)


def test_stream_where_replies_are_whole() -> None:
    """A far side that cannot stream says so."""
    refused = refusal_of(serve(encode_request([ADD], stream=1), FarSide(stream=None)))
    assert (refused.reason, refused.executed) == ("no-streams", False)


def test_stream_that_comes_late() -> None:
    """A stream whose time has passed does not begin; the time there goes along."""
    refused = refusal_of(serve(envelope([encode_call(ADD, deadline=5, stream=1)]), now=lambda: 7))
    assert (refused.reason, refused.executed, refused.details) == ("late", False, {"time": 7})


def test_stream_in_a_transaction_of_nobody() -> None:
    """A far side without databases streams nothing that is to be one transaction."""
    chain = Chain(list, (Call(((1,),), {}),), (), Options(atomic="default"))
    (frame,) = serve(encode_request([chain], stream=1))
    outcome = Arrivals().take(*frame)
    assert isinstance(outcome, Error)
    assert "nobody knows of databases" in str(outcome.exception)
