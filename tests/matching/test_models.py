"""Every pair of the repository is matched without its map as its map says; tests/models checks each without it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import xcheck
from xcheck.matching import MatchPlan
from xcheck.pairs.loading import load_pair, models_folder, named_pairs, pairs_in
from xcheck.phases.match import match

CHEAP = ("inventory", "sync", "forward", "loss", "gradient", "update", "state")
VARIANTS = [
    f"{models_folder() / name / 'pair.py'}:{attribute}"
    for name in named_pairs()
    for attribute in pairs_in(models_folder() / name / "pair.py")
]
OTHERWISE = {
    "rnn_cell_unrolled/pair.py:GATE_ORDER": ("EQUIVALENT", None, set[str]()),
    "rnn_cell_unrolled/pair.py:RESET_BEFORE": ("DIFFERENT", "forward", set[str]()),
    "transferred_weights/pair.py:PAIR": ("DIFFERENT", "inventory", {"equal_but_untied"}),
}
"""Pairs whose map says what nothing else does, and the right answer without it: the order of gates is wrong in the map
alone, and the two cells are the same; a cell that resets before has one bias, the sum of two, and is another cell;
copies that are not declared are variables of their own."""


def plainly(every: list[str]) -> list[Any]:
    found = [pytest.param(spec, id=spec.partition("models/")[2] or spec) for spec in every]
    return [p for p in found if p.id not in OTHERWISE and f"{p.id}/pair.py:PAIR" not in OTHERWISE]


def names(plan: MatchPlan) -> set[tuple[str, str, str]]:
    return {(m.name("torch"), m.name("keras"), m.layout.name) for m in plan.matches}


@pytest.mark.slow
@pytest.mark.parametrize("spec", plainly(VARIANTS))
def test_a_pair_is_matched_without_its_map_as_its_map_says(spec):
    made = load_pair(spec)
    plan, by_map = match(replace(made, weight_map=None)), match(made)
    assert names(plan) == names(by_map)
    assert (plan.unmatched_torch, plan.unmatched_keras) == (by_map.unmatched_torch, by_map.unmatched_keras)
    assert made.expect is not None or plan.doubts == ()  # where a layer differs, its layout may stay open


@pytest.mark.slow
@pytest.mark.parametrize("name", plainly([name for name in named_pairs() if load_pair(name).expect]))
def test_a_control_is_found_without_its_map(name):
    made = replace(load_pair(name), weight_map=None)
    result = xcheck.check(made, steps=1, free_steps=0, precision=("float64",), phases=CHEAP)
    assert result.expectation["held"], result.report()


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERWISE)
def test_what_only_the_map_says_is_not_said_without_it(name):
    verdict, where, causes = OTHERWISE[name]
    made = replace(load_pair(f"{models_folder()}/{name}"), weight_map=None)
    result = xcheck.check(made, steps=1, free_steps=0, precision=("float64",), phases=CHEAP)
    assert result.verdict == verdict, result.report()
    assert (result.first_divergence and result.first_divergence.phase) == where
    assert {c.id for c in result.causes if c.confirmed} >= causes
    assert result.coverage["parameters"]["unmatched"] == 0
