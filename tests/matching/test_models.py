"""Every pair of the repository is matched without its map as its map says, and passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import xcheck
from xcheck.loading import load_pair, models_folder, named_pairs, pairs_in
from xcheck.match import match
from xcheck.matching import MatchPlan

CHEAP = ("inventory", "sync", "forward", "loss", "gradient", "update", "state")
VARIANTS = [
    f"{models_folder() / name / 'pair.py'}:{attribute}"
    for name in named_pairs()
    for attribute in pairs_in(models_folder() / name / "pair.py")
]
OTHERWISE = {
    "rnn_cell_unrolled/pair.py:GATE_ORDER": "the map states the wrong order on purpose",
    "rnn_cell_unrolled/pair.py:RESET_BEFORE": "the map waives the bias that one side lacks",
    "transferred_weights": "declared copies are known from the map alone",
}
"""What cannot be, or is not yet, matched as the map says, and why."""


def specs(every: list[str]) -> list[Any]:
    marked: list[Any] = []
    for spec in every:
        name = spec.partition("models/")[2] or spec
        why = OTHERWISE.get(name)
        marked.append(pytest.param(spec, id=name, marks=[pytest.mark.xfail(reason=why)] if why else []))
    return marked


def names(plan: MatchPlan) -> set[tuple[str, str, str]]:
    return {(m.name("torch"), m.name("keras"), m.layout.name) for m in plan.matches}


@pytest.mark.slow
@pytest.mark.parametrize("spec", specs(VARIANTS))
def test_a_pair_is_matched_without_its_map_as_its_map_says(spec):
    made = load_pair(spec)
    plan, by_map = match(replace(made, weight_map=None)), match(made)
    assert names(plan) == names(by_map)
    assert (plan.unmatched_torch, plan.unmatched_keras) == (by_map.unmatched_torch, by_map.unmatched_keras)
    assert made.expect is not None or plan.doubts == ()  # where a layer differs, its layout may stay open


@pytest.mark.slow
@pytest.mark.parametrize("name", specs(named_pairs()))
def test_a_pair_passes_without_its_map(name):
    made = replace(load_pair(name), weight_map=None)
    result = xcheck.check(made, steps=1, free_steps=0, precision=("float64",), phases=CHEAP)
    assert result.expectation is None or result.expectation["held"], result.report()
    assert result.verdict == (made.expect.verdict if made.expect else "EQUIVALENT"), result.report()
