"""Every pair of the repository passes without its map."""

from __future__ import annotations

from dataclasses import replace

import pytest

import xcheck
from xcheck.loading import load_pair, models_folder, named_pairs, pairs_in
from xcheck.pair import Expectation

CHEAP = ("inventory", "sync", "forward", "loss", "gradient", "update", "state")


def every() -> list[str]:
    return [
        f"{models_folder() / name / 'pair.py'}:{a}"
        for name in named_pairs()
        for a in pairs_in(models_folder() / name / "pair.py")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("spec", every(), ids=lambda spec: spec.partition("models/")[2])
def test_a_pair_of_the_repository_says_the_same_without_its_map(spec):
    made = load_pair(spec)
    options = {"steps": 1, "free_steps": 0, "precision": ("float64",), "phases": CHEAP}
    with_map = xcheck.check(made, **options)
    result = xcheck.check(replace(made, weight_map=None), **options)
    assert result.verdict == with_map.verdict, result.report()
    assert result.coverage["parameters"]["unmatched"] == 0
    by_map = {(c.torch, c.keras) for c in with_map.checks if c.phase == "sync"}
    assert {(c.torch, c.keras) for c in result.checks if c.phase == "sync"} == by_map
    if isinstance(made.expect, Expectation) and made.expect.phase in CHEAP:
        assert result.first_divergence == with_map.first_divergence
