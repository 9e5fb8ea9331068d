"""The wire format: what goes in comes out, and what must not come in does not."""

from __future__ import annotations

import ast
import asyncio
import collections
import datetime as dt
import decimal
import functools
import json
import math
import operator
import os.path
import pickle
import sys
import threading
import types
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import slacker
from slacker import wire
from slacker.chain import Attr, Batch, Call, Chain, Item, Step
from slacker.errors import ProtocolError, Refused, RemoteError, SlackerError
from slacker.outcome import Error, Outcome, Value
from slacker.wire import (
    Answers,
    FarSide,
    Frame,
    Kind,
    RemoteTraceback,
    encode_outcome,
    encode_request,
    pickling,
    read_head,
    serve,
)
from slacker.wire.replies import CHUNK_BYTES, CHUNK_ITEMS, MAX_TEXT
from slacker.wire.requests import PYTHON
from slacker.workers import DummyWorker

from .pair import ADD, spy_on_loads

PLAIN = Chain(operator.add, (Attr("x"),))


@dataclass(frozen=True)
class Shelf:
    """Something to take steps from."""

    books: tuple[str, ...] = ("Emma", "Ulysses")

    class Board:
        """A class inside of a class."""

    @classmethod
    def of(cls, *books: str) -> Shelf:
        return cls(books)

    def first(self, count: int = 1, *, upper: bool = False) -> list[str]:
        return [book.upper() if upper else book for book in self.books[:count]]


class Lazy:
    """Like Django's lazy objects: asking what it is costs a query."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            raise AssertionError("asked for its class")
        return super().__getattribute__(name)

    def __reduce__(self) -> Any:
        return Shelf, ()


class RaisesInPickling:
    """Raises what it is told to when it is pickled."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> NoReturn:
        raise self.error


class RaisesInLoading:
    """Raises what it is told to when it is unpickled."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return throw, (self.error,)


class RaisesInHash:
    """Can be hashed here, and cannot be there."""

    unhashable = False

    def __hash__(self) -> int:
        if self.unhashable:
            raise TypeError("no hash here")
        return 1


def echo(value: Any = None) -> Any:
    return value


def throw(error: BaseException) -> NoReturn:
    raise error


def recurse(depth: int) -> Any:
    """Return a list in a list in a list."""
    nested: Any = []
    for _ in range(depth):
        nested = [nested]
    return nested


PLAIN_ERROR = ["ValueError", "text", 1, 0, "traceback"]


def call(*args: Any, **kwargs: Any) -> Call:
    return Call(args, kwargs)


def decoded(*chains: Chain) -> list[Chain]:
    head = read_head(encode_request(chains))
    return [head.chain(number) for number in range(len(head.calls))]


def head_of(*chains: Chain) -> Any:
    envelope = encode_request(chains)
    length = int.from_bytes(envelope[:4], "big")
    return json.loads(envelope[4 : 4 + length])


def envelope(head: Any, arguments: Any = None) -> bytes:
    """Return an envelope of a head, as JSON or as it is, and of arguments, pickled or as they are."""
    plain = head if isinstance(head, bytes) else json.dumps(head).encode()
    pickled = b"" if arguments is None else arguments if isinstance(arguments, bytes) else pickle.dumps(arguments)
    return len(plain).to_bytes(4, "big") + plain + pickled


def plain(chain: Any) -> Any:
    """Return a chain of the head, given without its list of nested chains: there are none."""
    return [chain[0], [], *chain[1:]] if isinstance(chain, list) and chain else chain


def request(*chains: Any, arguments: Any = None, call_options: Any = None, **options: Any) -> bytes:
    """Return an envelope of calls that have one chain each, `plain` of which is meant. The first has the arguments."""
    pickled = envelope(b"", arguments)[4:]
    calls = [[0 if number else len(pickled), call_options or {}, plain(chain)] for number, chain in enumerate(chains)]
    return envelope([1, PYTHON, options, calls], pickled)


def refused(body: bytes, perform: Any = None) -> Refused:
    """Return the refusal that is the whole answer to `body`."""

    def fails(chain: Chain, options: Mapping[str, Any]) -> NoReturn:
        raise AssertionError("performed")

    (frame,) = serve(body, FarSide(perform or fails))
    try:
        (outcome,) = gathered([frame])
    except Refused as refusal:
        return refusal
    return refusal_in(outcome)


def frames_of(outcome: Outcome, number: int = 0) -> list[Frame]:
    return list(encode_outcome(outcome, number))


def gathered(frames: Iterable[Frame], count: int = 1) -> list[Outcome]:
    """Return what the client makes of `frames`, of which the last one is marked."""
    *others, last = frames
    answers = Answers([ADD] * count)
    for frame in others:
        answers.take(*frame)
    answers.take(last.kind | Kind.LAST, last.answer, last.payload)
    return answers.outcomes()


def replied(chains: Sequence[Chain], frames: Iterable[Frame]) -> list[Outcome]:
    """Return what the client makes of a whole reply to `chains`."""
    answers = Answers(chains)
    for frame in frames:
        answers.take(*frame)
    return answers.outcomes()


def refusal_in(outcome: Outcome) -> Refused:
    assert isinstance(outcome, Error)
    assert isinstance(outcome.exception, Refused)
    return outcome.exception


def carried(outcome: Outcome) -> Outcome:
    return gathered(frames_of(outcome))[0]


def carried_error(error: BaseException) -> BaseException:
    """Return `error` as it comes back from the far side, where it was raised at the third step."""
    try:
        raise error
    except BaseException as caught:
        outcome = carried(Error(caught, 3))
    assert isinstance(outcome, Error)
    assert outcome.step == 3
    return outcome.exception


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return what was unpickled so far."""
    return spy_on_loads(monkeypatch)


# --- the place of pickle ---------------------------------------------------------------------------------------------

PACKAGE = Path(slacker.__file__).parent
UNPICKLERS = {"cloudpickle", "dill", "joblib", "shelve", "_pickle", "jsonpickle", "yaml"}
HARMLESS = {
    "pickle": {"dumps", "Pickler", "PicklingError"},
    "marshal": {"dumps"},
    "copyreg": {"dispatch_table"},
}
"""What may be used of modules that can unpickle as well."""
RUNNERS = {"eval", "exec", "compile", "__import__"}


def dangers(source: str) -> Iterator[str]:
    """Yield what in `source` could make code of bytes, besides ``pickle.dumps`` and the like."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in UNPICKLERS or (alias.name in HARMLESS and alias.asname):
                    yield f"import {alias.name}"
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.module.partition(".")[0] in UNPICKLERS | set(HARMLESS):
                yield f"from {node.module}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in HARMLESS:
            if node.attr not in HARMLESS[node.value.id]:
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RUNNERS:
            yield node.func.id


def test_one_place_unpickles() -> None:
    """In all of the package there is one ``pickle.loads``, and nothing else that could make code of bytes."""
    found = {str(path.relative_to(PACKAGE)): list(dangers(path.read_text())) for path in PACKAGE.rglob("*.py")}
    assert {name: what for name, what in found.items() if what} == {"wire/pickling.py": ["pickle.loads"]}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle as p; p.loads(b'')",
        "from pickle import loads",
        "import pickle; pickle.load(f)",
        "import pickle; load = pickle.loads",
        "import pickle; pickle.Unpickler(f)",
        "import marshal; marshal.loads(b'')",
        "import marshal as m",
        "import copyreg; copyreg.pickle(A, f)",
        "import dill.settings",
        "from shelve import open",
        "def f(x): return eval(x)",
        "exec(x)",
        "__import__(x)",
    ],
)
def test_danger_is_seen(source: str) -> None:
    """The check sees whatever could unpickle or evaluate."""
    assert len(list(dangers(source))) == 1


@pytest.mark.parametrize("source", ["import pickle; pickle.dumps(1)", "import json; json.loads(x)", "re.compile(x)"])
def test_the_harmless_passes(source: str) -> None:
    """The check lets pickling and JSON pass."""
    assert list(dangers(source)) == []


# --- requests: round trips -------------------------------------------------------------------------------------------

CHAINS = {
    "no step": Chain(Shelf),
    "attribute": Chain(Shelf, (Attr("of"),)),
    "private attribute": Chain(Shelf, (Attr("_default"), Attr("__private"))),
    "keyword as a name": Chain(Shelf, (Attr("class"), Attr("größe"))),
    "call without arguments": Chain(Shelf, (call(),)),
    "call": Chain(Shelf, (call(1, "two", three=3),)),
    "call with None": Chain(Shelf, (call(None), call(a=None))),
    "calls": Chain(Shelf, (call(1), call(), call(2))),
    "item": Chain(Shelf, (Item(0), Item("key"), Item((1, 2)), Item(None))),
    "slice": Chain(Shelf, (Item(slice(None, 5)), Item(slice(1, 2, -1)))),
    "all": Chain(Shelf, (call(), Attr("books"), Item(0), Attr("upper"), call())),
    "most steps": Chain(Shelf, (Attr("x"),) * 64),
    "chain as an argument": Chain(echo, (call(Chain(Shelf, (call(),))),)),
    "types as arguments": Chain(echo, (call(dt.date(2026, 1, 1), decimal.Decimal("1.5"), {1: {2}}, b"\0", Shelf),)),
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_chains_round_trip(chain: Chain) -> None:
    """A chain of any shape arrives as it was sent."""
    assert decoded(chain) == [chain]


def test_several_round_trip() -> None:
    """Several chains arrive in their order, each with its own arguments."""
    assert decoded(*CHAINS.values()) == list(CHAINS.values())


ROOTS: dict[str, tuple[Any, list[str]]] = {
    "class": (Shelf, [__name__, "Shelf"]),
    "nested class": (Shelf.Board, [__name__, "Shelf.Board"]),
    "function": (echo, [__name__, "echo"]),
    "method of a class": (Shelf.first, [__name__, "Shelf.first"]),
    "builtin class": (dict, ["builtins", "dict"]),
    "builtin function": (len, ["builtins", "len"]),
    "C function": (operator.add, ["_operator", "add"]),
    "module": (operator, ["operator", ""]),
    "module in a package": (os.path, [os.path.__name__, ""]),
    "exception class": (Refused, ["slacker.errors", "Refused"]),
}


@pytest.mark.parametrize(("root", "plain"), ROOTS.values(), ids=ROOTS)
def test_root_by_name(root: Any, plain: list[str]) -> None:
    """What can be found by its name travels as that, and nothing is pickled."""
    assert head_of(Chain(root))[3] == [[0, {}, [plain, []]]]


@pytest.mark.parametrize(("root", "plain"), ROOTS.values(), ids=ROOTS)
def test_root_is_found(root: Any, plain: list[str]) -> None:
    """What travelled by name is the very object over there."""
    assert decoded(Chain(root))[0].root is root


PICKLED = {
    "instance": Shelf.of("Walden"),
    "bound classmethod": Shelf.of,
    "builtin classmethod": dt.datetime.fromisoformat,
    "value": [1, 2],
    "none": None,
    "dunder method": Shelf.__eq__,
}


@pytest.mark.parametrize("root", PICKLED.values(), ids=PICKLED)
def test_root_pickled(root: Any) -> None:
    """What has no name of its own is pickled, and arrives equal."""
    ((_length, _options, plain),) = head_of(Chain(root))[3]
    assert (plain, decoded(Chain(root))[0].root) == ([0, []], root)


@pytest.mark.parametrize(
    "root",
    [functools.partial(echo, ["Walden"]), Shelf.of("Walden").first, operator.itemgetter(slice(1)), "Walden".split],
    ids=["partial", "bound method", "callable object", "builtin method"],
)
def test_callable_as_root(root: Any) -> None:
    """What can be called and has no name of its own does over there what it does here."""
    arguments = (("Walden", "Emma"),) if isinstance(root, operator.itemgetter) else ()
    (chain,) = decoded(Chain(root, (Call(arguments, {}),)))
    assert list(chain.replay()) == ["Walden"]


def test_names_look_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another object now stands for under its name does not travel by name."""
    old, new = types.FunctionType(echo.__code__, {}), types.FunctionType(echo.__code__, {})
    for function in (old, new):
        function.__module__, function.__qualname__ = __name__, "replaced"
    monkeypatch.setattr(sys.modules[__name__], "replaced", new, raising=False)
    assert head_of(Chain(new))[3] == [[0, {}, [[__name__, "replaced"], []]]]
    with pytest.raises(Refused, match=r"the root of replaced cannot be pickled.*not the same object"):
        encode_request([Chain(old)])


@pytest.mark.parametrize("chain", [Chain(Lazy()), Chain(echo, (call(Lazy(), "__main__"),))])
def test_objects_are_not_asked(chain: Chain) -> None:
    """No object is asked what it is: Django's lazy ones, `request.user` for one, answer with a query."""
    assert encode_request([chain])


def test_head() -> None:
    """The head is plain data: version, release, options and the chains with numbers for their arguments."""
    chain = Chain(Shelf, (call(1), Attr("first"), call(), Item(0)))
    length = len(pickle.dumps([((1,), {}), 0], 5))
    head = [1, PYTHON, {}, [[length, {}, [[__name__, "Shelf"], [], 0, "first", -1, [1]]]]]
    assert head_of(chain) == head


def test_options_travel() -> None:
    """Options arrive as they were sent."""
    options = {"language": "de", "offset": -3600.0, "nothing": None, "names": ["ä", "\ud800"]}
    assert read_head(encode_request([PLAIN], options)).options == options


def test_nothing_to_pickle() -> None:
    """A chain without arguments has no pickle."""
    assert bytes(read_head(encode_request([PLAIN])).calls[0].pickled) == b""


def test_shared_arguments_stay_one() -> None:
    """An object that is an argument of two steps is one object over there as well."""
    shared: list[int] = []
    first, second = decoded(Chain(echo, (call(shared), call(shared))))[0].steps
    assert isinstance(first, Call)
    assert isinstance(second, Call)
    assert first.args[0] is second.args[0]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
names = st.from_regex(r"[^\W\d]\w{0,8}", fullmatch=True).filter(
    lambda name: name.isidentifier() and not (name.startswith("__") and name.endswith("__"))
)
steps: st.SearchStrategy[Step] = (
    st.builds(Attr, names)
    | st.builds(Item, values)
    | st.builds(Call, st.lists(values, max_size=3).map(tuple), st.dictionaries(names, values, max_size=3))
)
chains = st.builds(Chain, st.sampled_from([Shelf, echo, operator, 7, "root"]), st.lists(steps, max_size=8).map(tuple))


@settings(deadline=None, max_examples=50)
@given(st.lists(chains, min_size=1, max_size=3))
def test_any_chains_round_trip(sent: list[Chain]) -> None:
    """Chains of any names and values arrive as they were sent."""
    assert decoded(*sent) == sent


# --- requests: what cannot be sent -----------------------------------------------------------------------------------


LOST: Any = (character for character in "")
"""What cannot be pickled."""

PLACES = {
    "root": (Chain(LOST, (call(),)), r"the root of .*<genexpr>\(\) cannot be pickled"),
    "lambda": (Chain(lambda: 1, (call(),)), r"the root of .*<lambda>\(\) cannot be pickled"),
    "code": (Chain(echo.__code__), r"the root of code\(\.\.\.\) cannot be pickled"),
    "first argument": (Chain(echo, (call(LOST),)), r"argument 1 of step 1, echo, of echo\(\.\.\.\) cannot be pickled"),
    "later argument": (Chain(echo, (call(1), call(2, LOST))), r"argument 2 of step 2, "),
    "of a method": (Chain(Shelf, (Attr("of"), call(1, LOST))), r"argument 2 of step 2, \.of, of Shelf\.of"),
    "by name": (Chain(echo, (call(1, value=LOST),)), r"argument 'value' of step 1, echo, of"),
    "inside": (Chain(echo, (call([{"key": [LOST]}]),)), r"argument 1 of step 1"),
    "key": (Chain(echo, (Attr("x"), Item(LOST))), r"the key of step 2 of echo\.x\[\.\.\.\]"),
    "lock": (Chain(echo, (call(threading.Lock()),)), r"argument 1 of step 1.*TypeError: cannot pickle '_thread.lock'"),
}


@pytest.mark.parametrize(("chain", "match"), PLACES.values(), ids=PLACES)
def test_place_is_named(chain: Chain, match: str) -> None:
    """What cannot be pickled is refused here, before anything is sent, and the message names its place."""
    with pytest.raises(Refused, match=match) as caught:
        encode_request([PLAIN, chain])
    assert (caught.value.reason, caught.value.executed) == ("unpicklable", False)


def test_local_function() -> None:
    """A function inside of another cannot be found over there."""

    def local() -> None: ...

    with pytest.raises(Refused, match=r"the root of test_local_function\.<locals>\.local\(\) cannot be pickled"):
        encode_request([Chain(local, (call(),))])


def test_module_without_a_name() -> None:
    """A module that nobody can import cannot be found over there."""
    with pytest.raises(Refused, match=r"the root of nowhere\.x cannot be pickled.*cannot pickle 'module'"):
        encode_request([Chain(types.ModuleType("nowhere"), (Attr("x"),))])


@pytest.fixture
def of_main(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Return a function, a class and an instance of ``__main__``."""

    def work() -> None: ...

    class Work:
        pass

    for thing in (work, Work):
        thing.__module__, thing.__qualname__ = "__main__", thing.__name__
        monkeypatch.setattr(sys.modules["__main__"], thing.__name__, thing, raising=False)
    return types.SimpleNamespace(function=work, kind=Work, instance=Work(), module=sys.modules["__main__"])


@pytest.mark.parametrize("name", ["function", "kind", "instance", "module"])
def test_root_of_main(of_main: types.SimpleNamespace, name: str) -> None:
    """A root of ``__main__``, which is another program over there, is refused and named."""
    with pytest.raises(Refused, match=r"^the root of .* cannot be pickled, so it cannot be sent") as caught:
        encode_request([Chain(getattr(of_main, name), (Attr("x"),))])
    assert (caught.value.reason, caught.value.executed) == ("unpicklable", False)


@pytest.mark.parametrize("name", ["function", "kind", "instance"])
def test_argument_of_main(of_main: types.SimpleNamespace, name: str) -> None:
    """An argument of ``__main__`` is refused and named, and the message says what to do."""
    with pytest.raises(Refused, match=r"argument 2 of step 1, echo,.*stands in __main__: move it into a module"):
        encode_request([Chain(echo, (call(1, [getattr(of_main, name)]),))])


def test_word_main() -> None:
    """The word ``__main__`` is an argument as any other."""
    chain = Chain(echo, (call("__main__", Shelf()),))
    assert decoded(chain) == [chain]


class OnlyAlone:
    """Can be pickled, but no two at once."""

    pickling = 0

    def __reduce__(self) -> Any:
        type(self).pickling += 1
        if type(self).pickling == 2:
            raise ValueError("one at a time")
        return OnlyAlone, ()


def test_not_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be pickled though each argument can is refused as well."""
    monkeypatch.setattr(OnlyAlone, "pickling", 0)
    with pytest.raises(Refused, match="the arguments cannot be pickled together: ValueError: one at a time"):
        encode_request([Chain(echo, (call(OnlyAlone(), OnlyAlone()),))])


ODD_ERRORS: list[BaseException] = [
    SystemExit(3),
    GeneratorExit(),
    asyncio.CancelledError(),
    StopIteration(),
    KeyError(1),
]


@pytest.mark.parametrize("error", ODD_ERRORS, ids=repr)
def test_pickling_may_raise_anything(error: BaseException) -> None:
    """Whatever pickling an argument raises becomes a refusal: on a loop SystemExit would end the program."""
    with pytest.raises(Refused, match=f"argument 1 of step 1.*{type(error).__name__}"):
        encode_request([Chain(echo, (call(RaisesInPickling(error)),))])


def test_too_deep() -> None:
    """An argument too deep for pickle is refused, not a crash."""
    with pytest.raises(Refused, match=r"argument 1 of step 1.*RecursionError"):
        encode_request([Chain(echo, (call(recurse(100_000)),))])


@pytest.mark.parametrize(
    ("sent", "match"),
    [
        ([Chain(Shelf, (Attr("x"),) * 65)], r"has 65 steps; 64 may be sent"),
        ([], "0 chains are to be sent; 1 to 1000 may"),
        ([PLAIN] * 1001, "1001 chains are to be sent"),
    ],
)
def test_too_many(sent: list[Chain], match: str) -> None:
    """More steps or chains than the other side takes are refused here."""
    with pytest.raises(Refused, match=match) as caught:
        encode_request(sent)
    assert (caught.value.reason, caught.value.executed) == ("bad-request", False)


def test_as_many_as_may_be() -> None:
    """A thousand chains may be sent."""
    assert len(decoded(*[PLAIN] * 1000)) == 1000


# --- requests: what the far side refuses -----------------------------------------------------------------------------

DEEP = b"[" * 100_000
ROOT = ["operator", "add"]

NO_ENVELOPES = {
    "empty": b"",
    "three bytes": b"\0\0\0",
    "no head": b"\0\0\0\0",
    "head cut": b"\0\0\0\xff[1]",
    "length beyond the end": b"\xff\xff\xff\xff",
    "a pickle": pickle.dumps([1]),
    "not JSON": envelope(b"{'a': 1}"),
    "not UTF-8": envelope(b'[1,"\xff"]'),
    "UTF-16": envelope('[1,"3.11",{},[]]'.encode("utf-16")),
    "deep": envelope(DEEP),
    "deep and closed": envelope(DEEP + b"]" * 100_000),
    "a huge int": envelope(b"[1" + b"0" * 5_000 + b"]"),
    "null": envelope(None),
    "an object": envelope({"version": 1}),
    "an empty list": envelope([]),
    "version as text": envelope(["1", "3.11", {}, [[ROOT]]]),
    "version as true": envelope([True, "3.11", {}, [[ROOT]]]),
    "version as a float": envelope([1.0, "3.11", {}, [[ROOT]]]),
    "too short": envelope([1, "3.11", {}]),
    "too long": envelope([1, "3.11", {}, [[ROOT]], 5]),
    "release as a number": envelope([1, 3.11, {}, [[ROOT]]]),
    "options as a list": envelope([1, "3.11", [], [[ROOT]]]),
    "options as null": envelope([1, "3.11", None, [[ROOT]]]),
    "chains as an object": envelope([1, "3.11", {}, {"0": [ROOT]}]),
    "chains as text": envelope([1, "3.11", {}, "chains"]),
    "no chains": request(),
    "too many chains": request(*[[ROOT]] * 1001),
    "max_reply as text": request([ROOT], max_reply="5"),
    "max_reply below nothing": request([ROOT], max_reply=-1),
    "max_reply as true": request([ROOT], max_reply=True),
    "max_reply as null": request([ROOT], max_reply=None),
    "chain as text": request("chain"),
    "chain as an object": request({"root": ROOT}),
    "chain without a root": request([]),
    "too many steps": request([ROOT, *["x"] * 65]),
}

NO_ROOTS: list[Any] = [
    *[None, True, False, -1, 0.0, "operator"],
    *[[], ["operator"], ["operator", "add", "x"], ["operator", None], [1, "add"], [["operator"], "add"]],
    *[["", "add"], ["..", ""], [".operator", ""], ["a..b", ""], ["a b", ""], ["a-b", ""], ["os.path.", ""], ["1", ""]],
    *[["operator", "."], ["operator", "add."], ["operator", "a b"], ["operator", "__class__"]],
    *[["operator", "add.__self__"], ["operator", "__builtins__"], ["operator", "x.__globals__.y"]],
    *[["operator", "<lambda>"], ["operator", "f.<locals>.g"], {"module": "operator"}],
]

NO_STEPS: list[Any] = [
    *[None, True, False, -2, 1.0, -1.0, 1e400],
    *["", " ", "a b", "a.b", "a-b", "1", "a\n", "\ud800", "()"],
    *["__class__", "__init__", "__x__", "____", "__", "__getattribute__", "\uff3f\uff3fclass\uff3f\uff3f"],
    *[[], [None], [-1], [True], ["a"], [0, 0], [[0]], [1.0], {}, {"0": 0}, recurse(500)],
]


@pytest.mark.parametrize("body", NO_ENVELOPES.values(), ids=NO_ENVELOPES)
def test_no_envelope(body: bytes, loaded: list[bytes]) -> None:
    """What is no envelope of the one form is refused, and nothing is unpickled or performed."""
    refusal = refused(body)
    assert (refusal.reason, refusal.executed, loaded) == ("bad-request", False, [])


@pytest.mark.parametrize("root", NO_ROOTS, ids=repr)
def test_no_root(root: Any, loaded: list[bytes]) -> None:
    """A root that is no name, or a name with a dunder, is refused before anything is unpickled or imported."""
    refusal = refused(request([root], arguments=[0]))
    assert (refusal.reason, str(refusal), loaded) == (
        "bad-request",
        "the root of a chain is neither a name nor a number, nor a batch",
        [],
    )


@pytest.mark.parametrize("step", NO_STEPS, ids=lambda step: repr(step)[:30])
def test_no_step(step: Any, loaded: list[bytes]) -> None:
    """A step that is no name, a dunder, or no number is refused before anything is unpickled."""
    refusal = refused(request([ROOT, step], arguments=[0]))
    assert (refusal.reason, refusal.executed, loaded) == ("bad-request", False, [])
    assert str(refusal).startswith("a step is not one that may be sent: ")


@pytest.mark.parametrize("version", [0, 2, -1, 10**4000])
def test_another_version(version: int, loaded: list[bytes]) -> None:
    """Another version of the wire is refused by that name, whatever else is in its head."""
    refusal = refused(envelope([version, {"whatever": "it has"}]))
    assert (refusal.reason, refusal.executed, loaded) == ("version", False, [])
    assert "this side speaks 1" in str(refusal)


HARD_TO_READ: dict[str, bytes] = {
    "no pickle": request([ROOT, 0], arguments=b"no pickle"),
    "a pickle cut": request([ROOT, 0], arguments=pickle.dumps([((1, 2), {})])[:-3]),
    "no arguments": request([ROOT, 0]),
    "a number too many": request([ROOT, 1], arguments=[((), {})]),
    "a key too many": request([ROOT, [1]], arguments=[0]),
    "a root too many": request([1], arguments=[0]),
    "a huge number": request([ROOT, 10**100], arguments=[((), {})]),
    "arguments as a dict": request([ROOT, 0], arguments={0: ((), {})}),
    "arguments as a tuple": request([ROOT, 0], arguments=(((), {}),)),
    "arguments as text": request([0], arguments="root"),
    "call as text": request([ROOT, 0], arguments=["ab"]),
    "call of lists": request([ROOT, 0], arguments=[([], {})]),
    "call without names": request([ROOT, 0], arguments=[((),)]),
    "call of pairs": request([ROOT, 0], arguments=[((), [])]),
    "call as a number": request([ROOT, 0], arguments=[7]),
    "a module that is not there": request([["no_such_module.at_all", "x"]]),
    "a name that is not there": request([["operator", "no_such_name"]]),
    "a class that is not there": request([ROOT, 0], arguments=b"\x80\x05\x8c\x08operator\x8c\x04nope\x93."),
    "what raises": request([ROOT, 0], arguments=[RaisesInLoading(ValueError("no"))]),
    "what exits": request([ROOT, 0], arguments=[RaisesInLoading(SystemExit(1))]),
    "what stops": request([ROOT, 0], arguments=[RaisesInLoading(StopIteration())]),
    "what closes": request([ROOT, 0], arguments=[RaisesInLoading(GeneratorExit())]),
    "what refuses": request([ROOT, 0], arguments=[RaisesInLoading(Refused("x", reason="mine"))]),
}


@pytest.mark.parametrize("body", HARD_TO_READ.values(), ids=HARD_TO_READ)
def test_cannot_be_read_here(body: bytes) -> None:
    """What cannot be imported, unpickled or put together here is refused: nothing ran."""
    refusal = refused(body)
    assert (refusal.reason, refusal.executed) == ("bad-request", False)
    assert str(refusal).startswith("the request cannot be read here: ")


def test_another_python() -> None:
    """If the request cannot be read, and another Python made it, the refusal says so."""
    refusal = refused(envelope([1, "9.9.9" * 100, {}, [[0, {}, [ROOT, [], 0]]]]))
    assert f"(Python {PYTHON}; it was made by 9.9.99.9.99.9.99.9.9)" in str(refusal)


def test_names_are_checked_for_all_first(loaded: list[bytes]) -> None:
    """A name in the last chain is checked before the arguments of the first are unpickled."""
    refused(request([ROOT, 0], [ROOT, "__class__"], arguments=[RaisesInLoading(ValueError())]))
    assert loaded == []


def test_long_reasons_are_cut() -> None:
    """A refusal is short, whatever it is about."""
    body = request([ROOT, 0], arguments=[RaisesInLoading(ValueError("x" * 1_000_000))])
    assert len(str(refused(body))) == MAX_TEXT


# --- the far side ----------------------------------------------------------------------------------------------------


def test_one_after_another() -> None:
    """Chains are replayed in their order, each for itself: one that fails stops no other."""
    frames = list(serve(encode_request([ADD, Chain(throw, (call(ValueError("no")),)), ADD])))
    assert [frame.kind for frame in frames] == [Kind.VALUE, Kind.ERROR, Kind.VALUE | Kind.LAST]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_last_is_marked(count: int) -> None:
    """The last frame of a reply, and no other, is marked."""
    marks = [bool(frame.kind & Kind.LAST) for frame in serve(encode_request([ADD] * count))]
    assert marks == [False] * (count - 1) + [True]


def test_perform_that_raises() -> None:
    """What `perform` makes of nonsense in the options is an error of the work, not of the server."""

    def perform(chain: Chain, options: Mapping[str, Any], encode: object) -> NoReturn:
        raise OverflowError(options["zone"])

    (frame,) = serve(encode_request([ADD], {"zone": 1e300}), FarSide(perform))
    (outcome,) = gathered([frame])
    assert isinstance(outcome, Error)
    assert repr(outcome.exception) == "OverflowError(1e+300)"


def test_a_stream_that_raises_at_once() -> None:
    """So it is for streams: what makes them may find nonsense in the options as well."""

    def perform_stream(chain: Chain, options: Mapping[str, Any]) -> Generator[Value | Error, None, None]:
        raise OverflowError(options["zone"])
        yield

    request = encode_request([ADD], {"zone": 1e300}, stream=5)
    (frame,) = serve(request, FarSide(stream=perform_stream))
    assert frame.kind == Kind.ERROR | Kind.LAST
    assert repr(gathered([frame])[0].exception) == "OverflowError(1e+300)"


@pytest.mark.parametrize(
    "options", [{"deadline": "x"}, {"deadline": 10**400}, {"deadline": None}, {"atomic": 1}, {"stream": 0}]
)
def test_options_of_a_request_that_only_calls_have(options: dict[str, Any]) -> None:
    """Those that a call may have must make sense where a request has them for all of its calls."""
    (frame,) = serve(encode_request([ADD], options))
    with pytest.raises(Refused, match="an option that is not known, or not of its type") as caught:
        gathered([frame])
    assert caught.value.reason == "bad-request"


def test_a_refusal_of_the_work() -> None:
    """An error of slacker's own that the work raised says that it ran, for it did, whatever had made it."""
    refused = Refused("elsewhere", reason="clock-skew", details={"time": 5})
    (outcome,) = gathered(list(serve(encode_request([Chain(throw, (call(refused),))]))))
    assert isinstance(outcome, Error)
    assert (type(outcome.exception), outcome.exception.executed) == (Refused, True)
    assert refused.executed is False


@pytest.mark.parametrize(("room", "big"), [(0, False), (-1, True)])
def test_max_reply(room: int, big: bool) -> None:
    """A result of more bytes than the client takes is refused as too big: it ran."""
    chain = Chain(echo, (call("x" * 1000),))
    size = len(pickle.dumps("x" * 1000, 5))
    (frame,) = serve(encode_request([chain], {"max_reply": size + room}))
    if not big:
        assert gathered([frame]) == [Value("x" * 1000)]
        return
    error = refusal_in(gathered([frame])[0])
    assert (str(error), error.reason, error.executed) == (
        f"the result is larger than the {size - 1} bytes allowed",
        "too-big",
        True,
    )


def test_max_reply_of_a_long_result() -> None:
    """The bytes of a result in parts are counted together, and one that began ends with the refusal."""
    (frame, last) = serve(encode_request([Chain(list, (call(range(1500)),))], {"max_reply": 2000}))
    assert (frame.kind, last.kind) == (Kind.CHUNK, Kind.REFUSED | Kind.LAST)
    assert refusal_in(gathered([frame, last])[0]).reason == "too-big"


def test_max_reply_of_a_batch() -> None:
    """The bytes of all results of a batch are counted together, and it fails as a whole."""
    item = Chain(echo, (call("x" * 1000),))
    for return_exceptions in (False, True):
        batch = Chain(Batch(5, return_exceptions), (), (item,) * 5)
        frames = list(serve(encode_request([batch], {"max_reply": 3500})))
        assert [frame.kind & 0x7F for frame in frames] == [Kind.VALUE] * 3 + [Kind.REFUSED]
        assert refusal_in(replied([batch], frames)[0]).executed is True


@pytest.mark.parametrize("options", [{}, {"max_reply": 10**100}])
def test_largest_reply(options: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A result for whose length a frame has no room is refused as too big, whatever the client takes."""
    monkeypatch.setattr(wire, "MAX_REPLY", 100)
    (frame,) = serve(encode_request([Chain(echo, (call("x" * 1000),))], options))
    assert str(refusal_in(gathered([frame])[0])) == "the result is larger than the 100 bytes allowed"


def test_too_big_leaves_the_others() -> None:
    """A result that is too big is refused by itself: the other calls of the request are performed and answered."""
    frames = serve(encode_request([ADD, Chain(echo, (call("x" * 1000),)), ADD], {"max_reply": 100}))
    first, second, third = gathered(frames, 3)
    assert (first, refusal_in(second).reason, third) == (Value(5), "too-big", Value(5))


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_closed_early(taken: int) -> None:
    """Closing the reply closes all that makes it: chains that were not begun are left out."""
    performed: list[Chain] = []

    def perform(chain: Chain, options: Mapping[str, Any], encode: object) -> Outcome:
        performed.append(chain)
        return Value([0] * 1200)

    frames: Any = serve(encode_request([ADD] * 5), FarSide(perform))
    for _ in range(taken):
        next(frames)
    frames.close()
    assert len(performed) == min(taken, 1)


def test_closed_while_a_value_is_encoded() -> None:
    """Closing in the middle of a long value is no error of that value."""
    frames: Any = encode_outcome(Value([0] * 1200), 0)
    next(frames)
    frames.close()
    assert list(frames) == []


# --- replies: values -------------------------------------------------------------------------------------------------


class Point(NamedTuple):
    x: int
    y: int


class MyList(list[int]):
    """A list of a class of its own."""


VALUES: dict[str, Any] = {
    "none": None,
    "not implemented": NotImplemented,
    "ellipsis": ...,
    "true": True,
    "text": "text \ud800 \0",
    "bytes": b"\0\xff",
    "int": 10**100,
    "nested": {"a": [1, (2, {3}), frozenset([4])], None: {5: ...}},
    "class": Shelf,
    "function": echo,
    "instance": Shelf.of("Walden"),
    "exception class": KeyError,
    "named tuple": Point(1, 2),
    "chain": ADD,
    "empty list": [],
    "empty tuple": (),
    "empty dict": {},
    "empty set": set(),
    "empty frozenset": frozenset(),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_values(value: Any) -> None:
    """A value arrives as it is, in one frame."""
    assert [frame.kind for frame in frames_of(Value(value))] == [Kind.VALUE]
    outcome = carried(Value(value))
    assert outcome == Value(value)
    assert isinstance(outcome, Value)
    assert type(outcome.value) is type(value)


def test_returned_exception() -> None:
    """An exception that was returned is a value."""
    outcome = carried(Value(KeyError(1)))
    assert isinstance(outcome, Value)
    assert repr(outcome.value) == "KeyError(1)"


@settings(deadline=None)
@given(values)
def test_any_value(value: Any) -> None:
    """Any plain value arrives as it is."""
    assert carried(Value(value)) == Value(value)


KINDS: dict[str, Callable[[Iterable[int]], Any]] = {
    "list": list,
    "tuple": tuple,
    "dict": lambda numbers: {number: str(number) for number in numbers},
    "set": set,
    "frozenset": frozenset,
}


@pytest.mark.parametrize("size", [1, 2, 499, 500, 501, 1000, 1001, 1234])
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_long_containers(make: Callable[[Iterable[int]], Any], size: int) -> None:
    """A container of any length arrives as it is, of its own kind, and in its order."""
    value = make(range(size))
    outcome = carried(Value(value))
    assert isinstance(outcome, Value)
    assert (type(outcome.value), outcome.value, list(outcome.value)) == (type(value), value, list(value))


@pytest.mark.parametrize("size", [499, 500, 501, 1000, 1001, 1234])
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_frames_of_500(make: Callable[[Iterable[int]], Any], size: int) -> None:
    """No frame holds more than 500 items, and only the last one fewer."""
    frames = frames_of(Value(make(range(size))))
    expected = [Kind.VALUE] if size <= CHUNK_ITEMS else [Kind.CHUNK] * math.ceil(size / CHUNK_ITEMS)
    assert [frame.kind for frame in frames] == expected


@pytest.mark.parametrize(
    "sizes",
    [[10_000] * 800, [100_000] * 80, [300_000] * 27, [600_000] * 13, range(0, 100_000, 500), range(100_000, 0, -500)],
    ids=["10 kB", "100 kB", "300 kB", "600 kB", "growing", "shrinking"],
)
@pytest.mark.parametrize("kind", ["list", "tuple", "dict"])
def test_frames_of_a_mebibyte(kind: str, sizes: Iterable[int]) -> None:
    """No frame of several items has more than a mebibyte, and there are not many more frames than there must be."""
    items: Any = [os.urandom(size) for size in sizes]
    value = dict(enumerate(items)) if kind == "dict" else KINDS[kind](items)
    frames = frames_of(Value(value))
    lengths = [len(frame.payload) for frame in frames]
    assert max(lengths) <= CHUNK_BYTES
    assert len(frames) < 2 * sum(lengths) / CHUNK_BYTES + 1
    assert gathered(frames) == [Value(value)]


@pytest.mark.parametrize("place", [0, 250, 499, 999])
def test_one_large_item(place: int) -> None:
    """An item larger than a mebibyte is a frame by itself, or with little ones; the others are not held up by it."""
    value: list[Any] = list(range(1000))
    value[place] = bytes(3 << 20)
    frames = frames_of(Value(value))
    assert sum(len(frame.payload) > CHUNK_BYTES for frame in frames) == 1
    assert len(frames) < 30
    assert gathered(frames) == [Value(value)]


def test_a_single_large_item() -> None:
    """A container of one item is one frame, whatever its size."""
    assert [frame.kind for frame in frames_of(Value([bytes(3 << 20)]))] == [Kind.VALUE]


@pytest.mark.parametrize("groups", [1, 5])
def test_what_is_shared_is_not_multiplied(groups: int) -> None:
    """Items that all refer to the same large objects stay together: apart, each would bring a copy along."""
    shared = [bytes(2 << 20) + bytes([number]) for number in range(groups)]
    frames = frames_of(Value([(shared[number % groups], number) for number in range(1500)]))
    assert len(frames) == 1
    assert len(frames[0].payload) < 1.1 * groups * (2 << 20)


def test_what_is_shared_further_on() -> None:
    """Where only items further on share something large, the parts that they are in stay whole."""
    large = bytes(2 << 20)
    value = [*range(CHUNK_ITEMS), *[(large, number) for number in range(2 * CHUNK_ITEMS)]]
    frames = frames_of(Value(value))
    assert gathered(frames) == [Value(value)]
    assert len(frames) == 3


def test_a_graph_is_not_multiplied() -> None:
    """The nodes of one graph go together, and are one graph there: apart, each part would bring all of it along."""
    nodes: list[dict[str, Any]] = []
    nodes += [{"number": number, "all": nodes} for number in range(20_000)]
    frames = frames_of(Value([*nodes]))
    (outcome,) = gathered(frames)
    assert isinstance(outcome, Value)
    assert len(frames) == 1
    assert all(node["all"][number] is node for number, node in enumerate(outcome.value))


def test_a_large_one_is_pickled_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a long list of large items costs to pickle is little more than what it has."""
    pickled: list[int] = []
    dumps = pickling.dumps

    def counting_dumps(value: Any) -> bytes:
        data = dumps(value)
        pickled.append(len(data))
        return data

    monkeypatch.setattr(pickling, "dumps", counting_dumps)
    frames = frames_of(Value([os.urandom(8_000) for _ in range(5_000)]))
    assert sum(pickled) < 1.4 * sum(len(frame.payload) for frame in frames)


def test_contains_itself() -> None:
    """A long list that contains itself arrives, and does so still."""
    value: list[Any] = list(range(1200))
    value.append(value)
    outcome = carried(Value(value))
    assert isinstance(outcome, Value)
    assert outcome.value[:1200] == value[:1200]
    assert outcome.value[1200][1200] is outcome.value[1200]


@pytest.mark.parametrize(
    "value",
    [
        MyList(range(1000)),
        collections.OrderedDict.fromkeys(range(1000)),
        collections.Counter(range(1000)),
        collections.deque(range(1000)),
        b"x" * (3 << 20),
        "x" * (3 << 20),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_containers_stay_whole(value: Any) -> None:
    """What is not just a list, tuple, dict, set or frozenset is one frame, and keeps its class."""
    assert [frame.kind for frame in frames_of(Value(value))] == [Kind.VALUE]
    outcome = carried(Value(value))
    assert isinstance(outcome, Value)
    assert (type(outcome.value), outcome.value) == (type(value), value)


# --- replies: values that cannot be sent or read ---------------------------------------------------------------------


def remote_error(outcome: Outcome) -> RemoteError:
    assert isinstance(outcome, Error)
    assert type(outcome.exception) is RemoteError
    return outcome.exception


@pytest.mark.parametrize(
    ("value", "name", "match"),
    [
        (LOST, "TypeError", "the result, a generator, cannot be pickled: cannot pickle 'generator' object"),
        (threading.Lock(), "TypeError", "the result, a lock, cannot be pickled"),
        (lambda: 1, None, "the result, a function, cannot be pickled"),
        ([LOST], "TypeError", "the result, a list, cannot be pickled"),
        (recurse(100_000), "RecursionError", "the result, a list, cannot be pickled"),
        *[(RaisesInPickling(error), None, "the result, a RaisesInPickling, cannot") for error in ODD_ERRORS],
        ({1: RaisesInPickling(SystemExit())}, "SystemExit", "the result, a dict, cannot be pickled"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else type(value).__name__,
)
def test_result_that_cannot_be_pickled(value: Any, name: str | None, match: str) -> None:
    """A result that cannot be pickled is an error that says so: the work ran."""
    error = remote_error(carried(Value(value)))
    assert error.executed is True
    assert error.type_name == (name or error.type_name)
    assert match in error.message


@pytest.mark.parametrize("error", [*ODD_ERRORS, ValueError("no")], ids=repr)
def test_fails_in_the_middle(error: BaseException) -> None:
    """A long result of which a later part cannot be pickled is an error; the parts before it are dropped."""
    frames = frames_of(Value([*range(1200), RaisesInPickling(error)]))
    assert [frame.kind for frame in frames] == [Kind.CHUNK, Kind.CHUNK, Kind.ERROR]
    assert "the result, a list, cannot be pickled" in remote_error(gathered(frames)[0]).message


def test_where_pickling_failed() -> None:
    """The traceback of the far side shows where pickling failed."""
    error = remote_error(carried(Value(RaisesInPickling(ValueError("no")))))
    assert "in __reduce__" in str(error.__cause__)


@pytest.mark.parametrize("error", [*ODD_ERRORS, ValueError("no")], ids=repr)
def test_result_that_cannot_be_loaded(error: BaseException) -> None:
    """A result that cannot be loaded here is an error that says so: the work ran, and the loop lives."""
    arrived = remote_error(carried(Value(RaisesInLoading(error))))
    assert (arrived.executed, type(arrived.__cause__)) == (True, type(error))
    assert arrived.message.startswith("the result cannot be loaded here: ")


def test_class_that_is_missing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result of a class that is not here is an error that names it."""
    frames = frames_of(Value(Shelf()))
    monkeypatch.delattr(sys.modules[__name__], "Shelf")
    assert "Can't get attribute 'Shelf'" in remote_error(gathered(frames)[0]).message


def test_others_arrive() -> None:
    """One result that cannot be loaded does not take those of the other chains along."""
    frames = [*frames_of(Value(1), 0), *frames_of(Value(RaisesInLoading(ValueError())), 1), *frames_of(Value(3), 2)]
    first, second, third = gathered(frames, 3)
    assert (first, type(second), third) == (Value(1), Error, Value(3))


@pytest.mark.parametrize("place", [0, 700, 1300])
def test_part_that_cannot_be_loaded(place: int) -> None:
    """A long result of which one part cannot be loaded is one error, whatever parts came before and after."""
    value: list[Any] = list(range(1400))
    value[place] = RaisesInLoading(ValueError("no"))
    error = remote_error(carried(Value(value)))
    assert error.message == "the result cannot be loaded here: no"


@pytest.mark.parametrize("make", [set, frozenset, dict.fromkeys], ids=["set", "frozenset", "dict"])
def test_cannot_be_put_together(make: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A long result whose items cannot be hashed here is an error that says so."""
    frames = frames_of(Value(make([RaisesInHash(), *range(1200)])))
    monkeypatch.setattr(RaisesInHash, "unhashable", True)
    assert remote_error(gathered(frames)[0]).message == "the result cannot be loaded here: no hash here"


# --- replies: exceptions ---------------------------------------------------------------------------------------------


class OutOfStock(Exception):
    """Takes more than its text."""

    def __init__(self, title: str, *, left: int) -> None:
        super().__init__(f"only {left} of {title!r} left")
        self.title = title
        self.left = left


class NoSuchBook(Exception):
    """Makes its text of its argument."""

    def __init__(self, title: str, shelf: int = 0) -> None:
        super().__init__(f"no {title!r} on shelf {shelf}")
        self.title = title


class WithItsOwnReduce(Exception):
    """Comes back by a way of its own, past its args, which cannot be pickled."""

    def __init__(self, code: int) -> None:
        super().__init__(LOST)
        self.code = code

    def __reduce__(self) -> Any:
        return WithItsOwnReduce, (self.code,)


class BecomesAnother(Exception):
    """Comes back as something else."""

    def __reduce__(self) -> Any:
        return ValueError, ("another",)


class ReduceRaises(Exception):
    def __reduce__(self) -> NoReturn:
        raise SystemExit("no pickle")


class StrRaises(Exception):
    def __str__(self) -> NoReturn:
        raise RuntimeError("no text")

    __repr__ = __str__


class StrExits(Exception):
    def __str__(self) -> NoReturn:
        raise SystemExit("no text")

    __repr__ = __str__


class ArgsRaise(Exception):
    @property
    def args(self) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("no args")


class Frozen(Exception):
    """Refuses every assignment, as a frozen dataclass does."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(name)


class Empty(Exception):
    """Is false, as an exception with a length may be."""

    def __len__(self) -> int:
        return 0


SURVIVE: list[Exception] = [
    ValueError(),
    ValueError("text", 2, [3]),
    KeyError("key"),
    OSError(2, "No such file", "name"),
    FileNotFoundError(2, "No such file"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"),
    SyntaxError("bad", ("file", 1, 2, "text")),
    ImportError("no", name="x", path="y"),
    TimeoutError("the work's own"),
    MemoryError(),
    RecursionError("too deep"),
    StopIteration(3),
    StopAsyncIteration(),
    decimal.InvalidOperation("x"),
    json.JSONDecodeError("msg", "doc", 1),
    NoSuchBook("Emma"),
    WithItsOwnReduce(7),
    Frozen(7),
    Empty(),
    Refused("declined", reason="duplicate", executed=True, details={"a": 1}),
    ExceptionGroup("several", [ValueError(1), ExceptionGroup("inner", [KeyError(2)])]),
    ValueError(Shelf()),
]


@pytest.mark.parametrize("error", SURVIVE, ids=lambda error: type(error).__name__)
def test_exceptions(error: Exception) -> None:
    """An exception arrives with its class, its text, its args and its attributes."""
    arrived = carried_error(error)
    assert (type(arrived), str(arrived)) == (type(error), str(error))
    assert (repr(arrived), vars(arrived)) == (repr(error), vars(error))


def test_text_is_not_made_twice() -> None:
    """A class that makes its text of its argument does not make it of its text again."""
    arrived = carried_error(NoSuchBook("Emma", 3))
    assert (str(arrived), arrived.args, vars(arrived)) == (
        "no 'Emma' on shelf 3",
        ("no 'Emma' on shelf 3",),
        {"title": "Emma"},
    )


def test_notes() -> None:
    """Notes arrive with their exception."""
    error = ValueError("no")
    error.add_note("a note")
    assert carried_error(error).__notes__ == ["a note"]


def test_traceback() -> None:
    """The far side's traceback, with causes, arrives as text, as the cause of the exception."""
    try:
        try:
            throw(KeyError("first"))
        except KeyError as first:
            raise ValueError("second") from first
    except ValueError as second:
        cause = carried_error(second).__cause__
    assert isinstance(cause, RemoteTraceback)
    for part in ("in throw", "KeyError: 'first'", "The above exception was the direct cause", "ValueError: second"):
        assert part in str(cause)


def test_traceback_survives_pickling() -> None:
    """What tells of the far side can be pickled itself, for the next border."""
    assert str(pickle.loads(pickle.dumps(RemoteTraceback("text")))) == "\n\ntext"


def test_cause_in_a_circle() -> None:
    """An exception that is its own cause arrives."""
    error, other = ValueError("one"), ValueError("other")
    error.__cause__, other.__cause__ = other, error
    assert str(carried_error(error)) == "one"


LOST_ERRORS: list[tuple[BaseException, str, str | None]] = [
    (OutOfStock("Emma", left=2), f"{__name__}.OutOfStock", "only 2 of 'Emma' left"),
    (ValueError(LOST), "ValueError", str(LOST)),
    (ReduceRaises("text"), f"{__name__}.ReduceRaises", "text"),
    (BecomesAnother("text"), f"{__name__}.BecomesAnother", "text"),
    (StrExits(RaisesInLoading(ValueError())), f"{__name__}.StrExits", "<str() of it raised SystemExit>"),
    (ArgsRaise("text"), f"{__name__}.ArgsRaise", "text"),
    (ValueError(RaisesInPickling(SystemExit())), "ValueError", None),
    (SystemExit(3), "SystemExit", "3"),
    (KeyboardInterrupt(), "KeyboardInterrupt", ""),
    (GeneratorExit(), "GeneratorExit", ""),
    (asyncio.CancelledError("why"), "asyncio.exceptions.CancelledError", "why"),
    (BaseExceptionGroup("several", [SystemExit(1)]), "BaseExceptionGroup", "several (1 sub-exception)"),
]


@pytest.mark.parametrize(("error", "name", "message"), LOST_ERRORS, ids=lambda value: type(value).__name__)
def test_exceptions_that_do_not_survive(error: BaseException, name: str, message: str | None) -> None:
    """An exception that cannot come back as itself, or is no Exception, comes as its name and text: the work ran."""
    arrived = carried_error(error)
    assert type(arrived) is RemoteError
    assert (arrived.type_name, arrived.executed) == (name, True)
    assert arrived.message == (arrived.message if message is None else message)
    assert isinstance(arrived.__cause__, RemoteTraceback)


def test_text_that_raises() -> None:
    """An exception without a text arrives all the same."""
    assert type(carried_error(StrRaises("x"))) is StrRaises


def test_local_class() -> None:
    """An exception of a class that cannot be found comes as its name and text."""

    class Local(Exception):
        pass

    arrived = carried_error(Local("text"))
    assert isinstance(arrived, RemoteError)
    assert arrived.message == "text"
    assert arrived.type_name.endswith("<locals>.Local")


def test_traceback_that_raises() -> None:
    """An exception whose traceback cannot be shown arrives without it."""
    error = SyntaxError("text", ("file", 1, 1, "code"))
    error.offset = "no number"  # type: ignore[assignment]
    error.end_offset = 5
    error.end_lineno = 1
    shown = str(carried_error(error).__cause__)
    assert shown.startswith("\n\n<showing the traceback raised TypeError>")


def test_large_message() -> None:
    """A message of ten megabytes is cut: it is to be read."""
    error = carried_error(ValueError("x" * 10_000_000))
    assert isinstance(error, RemoteError)
    assert (error.type_name, error.message) == ("ValueError", "x" * MAX_TEXT)


def test_frames_of_errors_are_bounded() -> None:
    """The frame of an error is small, whatever it holds."""
    frames = frames_of(Error(ValueError("x" * 10_000_000, bytes(10_000_000)), 1))
    assert len(frames[0].payload) < 200_000


def test_long_traceback() -> None:
    """Of a long traceback the end, which says what was raised at last, arrives."""
    error = ValueError("at last")
    inner: Exception = error
    for _ in range(200):
        inner.__cause__ = inner = KeyError("before")
    shown = str(carried_error(error).__cause__)
    assert (len(shown), shown[-20:]) == (MAX_TEXT + 2, "ValueError: at last\n")


@pytest.mark.parametrize("become", [ValueError, dict, echo], ids=lambda value: value.__name__)
def test_class_that_differs_here(monkeypatch: pytest.MonkeyPatch, become: Any) -> None:
    """An exception whose class is something else here comes as its name and text."""
    frames = frames_of(Error(NoSuchBook("Emma"), 1))
    monkeypatch.setattr(sys.modules[__name__], "NoSuchBook", become)
    error = remote_error(gathered(frames)[0])
    assert (error.type_name, error.message) == (f"{__name__}.NoSuchBook", "no 'Emma' on shelf 0")


@pytest.mark.parametrize("error", [NoSuchBook("Emma"), WithItsOwnReduce(7)], ids=lambda error: type(error).__name__)
def test_class_that_is_no_exception_here(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """An exception whose class, of the same name, is no exception any more comes as its name and text."""
    frames = frames_of(Error(error, 1))
    name = type(error).__name__
    become = type(name, (), {"__module__": __name__, "__init__": lambda self, *args: None})
    monkeypatch.setattr(sys.modules[__name__], name, become)
    assert remote_error(gathered(frames)[0]).type_name == f"{__name__}.{name}"


def test_exception_class_that_is_missing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception whose class is not here comes as its name and text."""
    frames = frames_of(Error(NoSuchBook("Emma"), 1))
    monkeypatch.delattr(sys.modules[__name__], "NoSuchBook")
    error = remote_error(gathered(frames)[0])
    assert (error.type_name, error.message) == (f"{__name__}.NoSuchBook", "no 'Emma' on shelf 0")


def test_exception_that_exits_when_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception whose class exits when it is made here comes as its name and text."""
    frames = frames_of(Error(NoSuchBook("Emma"), 1))
    monkeypatch.setattr(NoSuchBook, "__init__", lambda self, *args: throw(SystemExit(1)))
    assert remote_error(gathered(frames)[0]).message == "no 'Emma' on shelf 0"


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


def interrupted(work: Callable[[], Any], *, main: bool) -> Any:
    """Return what `work` returns or raises, in the main thread or in another one."""
    outcomes: list[Any] = []

    def run() -> None:
        try:
            outcomes.append(work())
        except BaseException as error:
            outcomes.append(type(error))

    if main:
        run()
    else:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    return outcomes[0]


INTERRUPTED: dict[str, tuple[Callable[[], Any], Callable[[Any], bool]]] = {
    "arguments pickled": (
        lambda: encode_request([Chain(echo, (call(RaisesInPickling(KeyboardInterrupt())),))]),
        lambda result: result is Refused,
    ),
    "arguments unpickled": (
        lambda: next(serve(request([ROOT, 0], arguments=[RaisesInLoading(KeyboardInterrupt())]))),
        lambda result: result.kind == Kind.REFUSED | Kind.LAST,
    ),
    "result pickled": (
        lambda: frames_of(Value(RaisesInPickling(KeyboardInterrupt()))),
        lambda result: result[0].kind == Kind.ERROR,
    ),
    "result unpickled": (
        lambda: carried(Value(RaisesInLoading(KeyboardInterrupt()))),
        lambda result: isinstance(result, Error),
    ),
    "exception unpickled": (
        lambda: gathered([Frame(Kind.ERROR, 0, envelope(PLAIN_ERROR, [RaisesInLoading(KeyboardInterrupt())]))]),
        lambda result: isinstance(result[0], Error),
    ),
}


@pytest.mark.parametrize(("work", "is_answer"), INTERRUPTED.values(), ids=INTERRUPTED)
def test_interrupt_of_the_work(work: Callable[[], Any], is_answer: Callable[[Any], bool]) -> None:
    """In a thread a KeyboardInterrupt is the work's, and becomes an answer as everything else."""
    assert is_answer(interrupted(work, main=False))


@pytest.mark.parametrize("work", [work for work, _ in INTERRUPTED.values()], ids=INTERRUPTED)
def test_interrupt_of_the_user(work: Callable[[], Any]) -> None:
    """In the main thread a KeyboardInterrupt is the user's, and passes."""
    assert interrupted(work, main=True) is KeyboardInterrupt


# --- replies: what makes no sense ------------------------------------------------------------------------------------


def error_payload(*plain: Any, pickled: bytes = b"") -> bytes:
    return envelope(list(plain) or PLAIN_ERROR, pickled)


def refusal_payload(*plain: Any) -> bytes:
    return json.dumps(list(plain)).encode()


ONE = pickle.dumps(1)
ITEMS = b"l" + pickle.dumps([1])
LAST = Kind.LAST

NONSENSE: dict[str, tuple[list[tuple[int, int, bytes]], str]] = {
    "nothing": ([], "cut"),
    "no last": ([(Kind.VALUE, 0, ONE)], "cut"),
    "no last chunk": ([(Kind.CHUNK, 0, ITEMS)], "cut"),
    "more after the last": ([(Kind.VALUE | LAST, 0, ONE), (Kind.VALUE | LAST, 1, ONE)], "after the last"),
    "one left out": ([(Kind.VALUE | LAST, 0, ONE)], "left out answer 1"),
    "twice": ([(Kind.VALUE, 0, ONE), (Kind.VALUE | LAST, 0, ONE)], "answer 0 came twice"),
    "value after chunk": (
        [(Kind.CHUNK, 0, ITEMS), (Kind.VALUE, 0, ONE), (Kind.VALUE | LAST, 1, ONE)],
        "answer 0 came twice",
    ),
    "chunk after error": (
        [(Kind.ERROR, 0, error_payload()), (Kind.CHUNK, 0, ITEMS), (Kind.VALUE | LAST, 1, ONE)],
        "answer 0 came twice",
    ),
    "answer 2 of 2": ([(Kind.VALUE | LAST, 2, ONE)], "answer 2 came where 2 were asked for"),
    "answer of a refusal": ([(Kind.VALUE | LAST, wire.WHOLE, ONE)], "where 2 were asked for"),
    "unknown kind": ([(7 | LAST, 0, ONE)], "a frame of kind 7 came, which is not known"),
    "end of a stream": ([(Kind.END | LAST, 0, b"")], "a frame of kind 5 came, which is .* not for here"),
    "kind 0": ([(0 | LAST, 0, ONE)], "a frame of kind 0 came"),
    "empty chunk": ([(Kind.CHUNK | LAST, 0, b"")], "does not continue"),
    "chunk of no kind": ([(Kind.CHUNK | LAST, 0, b"x" + pickle.dumps([1]))], "does not continue"),
    "chunk of another kind": ([(Kind.CHUNK, 0, ITEMS), (Kind.CHUNK | LAST, 0, b"t" + ITEMS[1:])], "does not continue"),
    "chunk of no items": ([(Kind.CHUNK | LAST, 0, b"l" + ONE)], "holds no items"),
    "empty error": ([(Kind.ERROR | LAST, 0, b"")], "cannot be read"),
    "error cut": ([(Kind.ERROR | LAST, 0, error_payload()[:10])], "cannot be read"),
    "error too deep": ([(Kind.ERROR | LAST, 0, envelope(DEEP))], "cannot be read"),
    "error as an object": ([(Kind.ERROR | LAST, 0, envelope({}))], "not of the form"),
    "error too short": ([(Kind.ERROR | LAST, 0, error_payload("ValueError", "text", 1, 0))], "not of the form"),
    "error of other types": (
        [(Kind.ERROR | LAST, 0, error_payload("ValueError", "text", "1", 0, ""))],
        "not of the form",
    ),
    "error before the first step": ([(Kind.ERROR | LAST, 0, error_payload("E", "", -1, 0, ""))], "not of the form"),
    "error before the first chain": ([(Kind.ERROR | LAST, 0, error_payload("E", "", 0, -1, ""))], "not of the form"),
    "error at a true step": ([(Kind.ERROR | LAST, 0, error_payload("E", "", True, 0, ""))], "not of the form"),
    "empty refusal": ([(Kind.REFUSED | LAST, wire.WHOLE, b"")], "cannot be read"),
    "refusal that is no text": ([(Kind.REFUSED | LAST, wire.WHOLE, b"\xff\xfe\xff")], "cannot be read"),
    "refusal too deep": ([(Kind.REFUSED | LAST, wire.WHOLE, DEEP)], "cannot be read"),
    "refusal as a number": ([(Kind.REFUSED | LAST, wire.WHOLE, b"5")], "not of the form"),
    "refusal too short": ([(Kind.REFUSED | LAST, wire.WHOLE, refusal_payload("a", "b", False))], "not of the form"),
    "refusal of other types": ([(Kind.REFUSED | LAST, wire.WHOLE, refusal_payload("", "", 0, []))], "not of the form"),
}


@pytest.mark.parametrize(("frames", "match"), NONSENSE.values(), ids=NONSENSE)
def test_nonsense(frames: list[tuple[int, int, bytes]], match: str) -> None:
    """Frames that make no sense are an error of the protocol, never a result and never anything else."""
    answers = Answers([ADD, ADD])
    with pytest.raises(ProtocolError, match=match):
        for frame in frames:
            answers.take(*frame)
        answers.outcomes()


def test_cut_says_nothing_of_the_work() -> None:
    """Of a reply that was cut nobody knows whether all of the work ran."""
    with pytest.raises(ProtocolError) as caught:
        Answers([ADD]).outcomes()
    assert caught.value.executed is None


@pytest.mark.parametrize(
    "pickled",
    [b"nonsense", pickle.dumps(1), pickle.dumps((1, 2)), pickle.dumps((1, 2, 3)), pickle.dumps((KeyError(), None))],
    ids=["no pickle", "number", "numbers", "too many", "another class"],
)
def test_error_with_something_else(pickled: bytes) -> None:
    """An error that brings along what is not the exception it names comes as name and text."""
    error = remote_error(gathered([Frame(Kind.ERROR, 0, error_payload(pickled=pickled))])[0])
    assert (error.type_name, error.message, str(error.__cause__)) == ("ValueError", "text", "\n\ntraceback")


def test_refusal() -> None:
    """A refusal arrives with its reason, its message, its details and what it says of the work."""
    frame = wire.refusal("clock-skew", "the clocks differ", executed=True, details={"time": 5})
    with pytest.raises(Refused) as caught:
        gathered([frame])
    error = caught.value
    assert (error.reason, str(error), error.executed, error.details) == (
        "clock-skew",
        "the clocks differ",
        True,
        {"time": 5},
    )


def test_outcomes_twice() -> None:
    """The outcomes of a reply may be asked for again."""
    answers = Answers([ADD])
    for frame in serve(encode_request([Chain(echo, (call([0] * 1200),))])):
        answers.take(*frame)
    assert answers.outcomes() == answers.outcomes() == [Value([0] * 1200)]


# --- DummyWorker -----------------------------------------------------------------------------------------------------

ALIKE: dict[str, Chain] = {
    "value": Chain(Shelf, (call(), Attr("first"), call(2, upper=True), Item(0), Attr("lower"), call())),
    "module": Chain(operator, (Attr("mul"), call(6, 7))),
    "partial": Chain(functools.partial(echo, [1, 2]), (call(), Item(slice(1, None)))),
    "classmethod": Chain(Shelf.of, (call("Walden"), Attr("books"))),
    "instance": Chain(Shelf.of("Walden"), (Attr("first"), call())),
    "exception returned": Chain(echo, (call((KeyError, 1)),)),
    "no step": Chain(Shelf),
    "long list": Chain(list, (call(range(3000)),)),
    "long dict": Chain(dict.fromkeys, (call(range(3000)),)),
    "exception": Chain(Shelf, (call(), Attr("books"), Item(7))),
    "no attribute": Chain(Shelf, (call(), Attr("no_such_name"))),
    "wrong call": Chain(Shelf, (call(), Attr("first"), call(no=1))),
    "own exception": Chain(throw, (call(WithItsOwnReduce(7)),)),
    "stop": Chain(throw, (call(StopIteration(3)),)),
    "exit": Chain(throw, (call(SystemExit(3)),)),
    "cancelled": Chain(throw, (call(asyncio.CancelledError()),)),
    "refused": Chain(throw, (call(Refused("no", reason="mine")),)),
}


async def told(worker: DummyWorker, chain: Chain) -> Any:
    """Return what running `chain` gives, or what there is to say of what it raises."""
    try:
        return await worker.run(chain)
    except Exception as error:
        about = {**vars(error)}
        if isinstance(error, SlackerError):
            about["executed"] = True  # of the work's own only a wire says so
        return type(error), str(error), about


@pytest.mark.parametrize("chain", ALIKE.values(), ids=ALIKE)
async def test_dummy_worker(chain: Chain) -> None:
    """`DummyWorker(pickled=True)` gives and raises what `DummyWorker()` does, notes included."""
    assert await told(DummyWorker(pickled=True), chain) == await told(DummyWorker(), chain)


async def test_dummy_worker_shows_what_cannot_be_sent() -> None:
    """`DummyWorker(pickled=True)` refuses what a worker that leaves the process would refuse."""
    with pytest.raises(Refused, match="argument 1 of step 1, echo, of"):
        await DummyWorker(pickled=True).run(Chain(echo, (call(LOST),)))


async def test_dummy_worker_copies() -> None:
    """What `DummyWorker(pickled=True)` returns is a copy."""
    value: list[int] = []
    result = await DummyWorker(pickled=True).run(Chain(echo, (call(value),)))
    assert result == value
    assert result is not value
