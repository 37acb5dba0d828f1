"""`xcheck match`: the plan as a table, and as a file that is a weight map."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from commands import run
from fakes import linear_pair

import xcheck
from xcheck.cli.match import show_plan
from xcheck.errors import FileError, PairError
from xcheck.matching.map_file import write_map
from xcheck.pairs.loading import load_pair
from xcheck.phases.match import match

PAIR_FILE = """
from fakes import linear_pair
PAIR = linear_pair(weight_map=None)
"""


def test_the_plan_is_shown_and_written_as_a_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "port.py").write_text(PAIR_FILE)
    assert run("match", str(tmp_path / "port.py"), "--write", str(tmp_path / "map.json")) == 0
    out = capsys.readouterr().out
    for line in (
        "linear.weight  transpose  dense/kernel  by value",
        "linear.bias    identity   dense/bias    by value",
    ):
        assert line in out
    assert "2 matched, 0 unmatched" in out
    weight_map = xcheck.read_map(tmp_path / "map.json")
    assert weight_map == {"linear.weight": ("dense/kernel", "transpose"), "linear.bias": ("dense/bias", "identity")}
    result = xcheck.check(linear_pair(weight_map=weight_map), steps=1)
    assert result.verdict == "EQUIVALENT"
    assert not any("without a map" in note for note in result.notes)


def test_why_prints_the_evidence_for_one_parameter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "port.py").write_text(PAIR_FILE)
    assert run("match", str(tmp_path / "port.py"), "--why", "dense/kernel") == 0
    out = capsys.readouterr().out
    assert "linear.weight -> dense/kernel" in out
    assert "evidence   by value" in out
    assert "of a value in torch" in out
    assert "proven: all outputs agree" in out
    assert "linear.bias" not in out


def test_why_says_what_is_unmatched_and_what_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    pair = linear_pair(weight_map=None, torch={"extra": {"spare.weight": (4,)}})
    assert show_plan(pair, match(pair), None, "spare.weight") == 3
    assert "torch spare.weight is unmatched" in capsys.readouterr().out
    with pytest.raises(PairError, match=r"did you mean spare\.weight"):
        show_plan(pair, match(pair), None, "spare.weigth")


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_what_is_left_over_is_listed_and_ends_in_another_code(side: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = {"torch": "spare.weight", "keras": "spare/kernel"}[side]
    pair = linear_pair(weight_map=None, **{side: {"extra": {path: (4,)}}})
    assert show_plan(pair, match(pair), None) == 3
    out = capsys.readouterr().out
    assert f"unmatched  {side} {path} (no compared output depends on it)" in out
    assert "2 matched, 1 unmatched" in out
    waived = replace(pair, weight_map={path: xcheck.waive("not ported")})
    assert show_plan(waived, match(waived), None) == 0
    assert f"waived     {path}: not ported" in capsys.readouterr().out


@pytest.mark.parametrize(
    "spec", ["models/shared_unit_norm_lstm/pair.py", "models/siamese/pair.py", "tests/real_ports/pairs/gpt2.py"]
)
def test_a_written_map_says_what_the_plan_says(tmp_path: Path, spec: str) -> None:
    pair = load_pair(spec)
    plan = match(replace(pair, weight_map=None))
    waived = {"x": "because"}
    weight_map = xcheck.read_map(write_map(replace(plan, waived=waived), tmp_path / "map.json", pair.name))
    assert weight_map.pop("x") == xcheck.waive("because")
    again = match(replace(pair, weight_map=weight_map))
    names = [[(m.name("torch"), m.name("keras"), m.layout.name, m.offset) for m in p.parameters] for p in (plan, again)]
    assert sorted(names[0]) == sorted(names[1])
    assert {m.evidence for m in again.parameters} == {""}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"weights": 3}', '{"weights": {"a": []}}', '{"weights": {"a": ["b"]}}',
             '{"weights": {"a": {"waived": "x"}}}', '{"weights": {"a": [1, 2]}}']
)  # fmt: skip
def test_a_file_that_is_no_map_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(FileError, match="not a weight map"):
        xcheck.read_map(tmp_path / "map.json")


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read") as caught:
        xcheck.read_map(tmp_path / "map.json")
    assert "xcheck match PAIR --write FILE" in str(caught.value)


def test_a_map_by_hand_has_the_forms_that_a_pair_file_has(tmp_path: Path) -> None:
    written = {"a": "b", "c": ["d", "transpose"], "e": [["f", "conv"], ["g", "conv"]], "h": {"waive": "why"}}
    written["i"] = {"copies": ["j", "k"]}
    (tmp_path / "map.json").write_text(json.dumps({"weights": written}))
    assert xcheck.read_map(tmp_path / "map.json") == {
        "a": "b",
        "c": ("d", "transpose"),
        "e": [("f", "conv"), ("g", "conv")],
        "h": xcheck.waive("why"),
        "i": xcheck.copies("j", "k"),
    }
