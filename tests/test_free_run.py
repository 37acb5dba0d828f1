"""Two hundred steps that are never re-synced stay inside the envelope; a rate that is slightly off does not."""

from __future__ import annotations

from typing import Any

import pytest
from ports import keras_sgd, mlp, submodel_regularizer

import xcheck
from xcheck.loading import load_pair, named_pairs

FREE: dict[str, Any] = {"steps": 1, "free_steps": 200, "precision": ("float64",), "phases": ("trajectory",)}
OFF = 0.1 * (1 + 1e-4)


def assert_stays_inside(pair: xcheck.Pair, steps: int) -> None:
    result = xcheck.check(pair, **{**FREE, "free_steps": steps})
    assert result.verdict == "EQUIVALENT", result.report()
    curve = [c for c in result.checks if c.phase == "trajectory"]
    assert {c.step for c in curve} == set(range(1, steps + 1))
    assert all(c.error is not None and c.allowed is not None and c.allowed < 1e-6 for c in curve)


@pytest.mark.slow
@pytest.mark.parametrize("make", [mlp, submodel_regularizer], ids=lambda m: m.__name__)
def test_a_small_pair_stays_inside_its_envelope_for_200_steps(make: Any) -> None:
    assert_stays_inside(make(), 200)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in named_pairs() if load_pair(name).expect is None])
def test_every_pair_stays_inside_its_envelope(name: str) -> None:
    """A few steps of each; `scripts/bench_free_run.py` takes 200."""
    assert_stays_inside(load_pair(name), 8)


def test_a_learning_rate_off_by_1e_4_leaves_the_envelope() -> None:
    pair = mlp(keras={"optimizer": lambda: keras_sgd(OFF)})
    result = xcheck.check(pair, **{**FREE, "free_steps": 5})
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert (result.first_divergence.phase, result.first_divergence.step) == ("trajectory", 1)
    assert "first parts in trajectory at step 1" in " ".join(result.report().split())


def test_and_is_caught_earlier_in_the_update_where_that_is_compared() -> None:
    result = xcheck.check(mlp(keras={"optimizer": lambda: keras_sgd(OFF)}), steps=2)
    assert result.first_divergence is not None
    assert (result.first_divergence.phase, result.first_divergence.step) == ("update", 1)
    assert "first parts in update at step 1" in " ".join(result.report().split())
    assert "trajectory" not in {c.phase for c in result.checks}  # what is known to differ is not left to run
    assert [c.id for c in result.causes] == ["optimizer_setting"]
