"""Steps that are never re-synced stay inside the envelope; a rate that is slightly off does not."""

from __future__ import annotations

from typing import Any

import pytest
from curves import assert_stayed_inside
from ports import keras_sgd, mlp

import xcheck

FREE: dict[str, Any] = {"steps": 1, "free_steps": 80, "precision": ("float64",), "phases": ("trajectory",)}
OFF = 0.1 * (1 + 1e-4)


@pytest.mark.slow
def test_a_small_pair_stays_inside_its_envelope() -> None:
    """Every pair of the repository does so for a few steps in its own tests, and for 200 in bench_free_run.py."""
    result = xcheck.check(mlp(), **FREE)
    assert result.verdict == "EQUIVALENT", result.report()
    assert_stayed_inside(result, FREE["free_steps"])


def test_a_learning_rate_off_by_1e_4_leaves_the_envelope() -> None:
    pair = mlp(keras={"optimizer": lambda: keras_sgd(OFF)})
    result = xcheck.check(pair, **{**FREE, "free_steps": 5})
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert (result.first_divergence.phase, result.first_divergence.step) == ("trajectory", 1)
    assert "first difference in trajectory at step 1" in " ".join(result.report().split())


def test_and_is_caught_earlier_in_the_update_where_that_is_compared() -> None:
    result = xcheck.check(mlp(keras={"optimizer": lambda: keras_sgd(OFF)}), steps=2)
    assert result.first_divergence is not None
    assert (result.first_divergence.phase, result.first_divergence.step) == ("update", 1)
    assert "first difference in update at step 1" in " ".join(result.report().split())
    assert "trajectory" not in {c.phase for c in result.checks}  # what is known to differ is not left to run
    assert [c.id for c in result.causes] == ["optimizer_setting"]
