"""Some thousand mutations of everything that crosses the wire; ``python -m fuzz`` runs more of them."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from fuzz.__main__ import main
from fuzz.targets import TARGETS

RUNS = 5_000

MUST_COME = {
    "header": {"denied"},
    "body": {"bad-request"},
    "frames": {"refused"},
    "envelope": {"bad-request", "version", "too-big", "late", "served"},
    "reply": {"ProtocolError", "Refused", "outcomes"},
    "stranger": {"denied"},
}
"""What has to come of the mutations of each target, besides nothing else than "unchanged"."""


@pytest.mark.parametrize("name", TARGETS)
def test_none_is_believed_and_none_escapes(name: str) -> None:
    """Of thousands of mutations none is believed, and none raises what it must not."""
    came = Counter(TARGETS[name](random.Random(f"tests/{name}/{number}")) for number in range(RUNS))
    assert set(came) - {"unchanged"} == MUST_COME[name]
    assert came["unchanged"] < RUNS / 10


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The command runs what it is told to, and says what came of it."""
    assert main(["--runs", "50", "--seed", "7", "header", "stranger"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" in ")[0] for line in lines] == ["header: 50 runs", "stranger: 50 runs"]


def test_command_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command fails if something was believed, and says how to have that again."""

    def believes(rng: random.Random) -> str:
        assert rng.randrange(3), "believed"
        return "denied"

    monkeypatch.setitem(TARGETS, "header", believes)
    assert main(["--runs", "50", "header"]) == 1
    assert "again: python -m fuzz --runs 1 --seed 0 --from " in capsys.readouterr().err


def test_unknown_target(capsys: pytest.CaptureFixture[str]) -> None:
    """A target that is none is told so."""
    with pytest.raises(SystemExit, match="2"):
        main(["heder"])
    assert "there is no target heder" in capsys.readouterr().err
