"""The penalty of a shared layer is counted once per variable, however the layer is reached."""

from __future__ import annotations

import numpy as np
import pytest

from xcheck.pairs.loading import load_pair

NAME = "shared_submodel_regularizer"


def term(result, name):
    """The values of a loss term at step 1: (torch, keras)."""
    found = next(c for c in result.checks if c.phase == "loss" and c.name == name and c.step == 1)
    return found.torch_value, found.keras_value


@pytest.mark.parametrize("variant", ["PAIR", "FROZEN", "THREE_USES", "ZERO_INPUTS", "ZERO_INPUTS_FROZEN"])
def test_the_pair_is_the_same_computation(checked, variant):
    result = checked(f"{NAME}:{variant}")
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 2, "waived": 0, "unmatched": 0}


def test_a_layer_in_two_models_trains_as_one_until_it_is_saved(checked):
    result = checked(f"{NAME}:NESTED")
    assert result.expectation["held"], result.report()
    assert all(c.verdict == "EQUIVALENT" for c in result.checks if c.phase != "persistence")
    assert {c.phase for c in result.checks} >= {"loss", "gradient", "update", "trajectory"}
    wrong = {c.name for c in result.checks if c.verdict != "EQUIVALENT"}
    assert "keras: .keras" in wrong  # a file that cannot be loaded
    assert "keras: step after clone_model: total loss" in wrong  # two kernels, two penalties


@pytest.mark.parametrize("variant", ["PAIR", "THREE_USES", "NESTED"])
def test_the_data_loss_and_the_penalty_are_compared_apart(checked, variant):
    names = {c.name for c in checked(f"{NAME}:{variant}").checks if c.phase == "loss"}
    assert names == {"data", "penalty", "penalty/models.0.0.weight", "total"}


@pytest.mark.parametrize(("variant", "calls"), [("PAIR", 2), ("THREE_USES", 3), ("NESTED", 2)])
def test_the_gradient_is_the_sum_of_all_uses_and_one_penalty(checked, uses, variant, calls):
    found = uses(checked(f"{NAME}:{variant}"), "models.0.0.weight")
    assert found == [*(f"models.0.0 (call {i + 1})" for i in range(calls)), "penalty"]


def test_the_penalty_of_the_report_is_one_and_not_two(checked):
    result = checked(f"{NAME}:COUNTED_PER_USE")
    assert term(result, "penalty") == (2.0, 1.0)
    assert term(result, "total") == (2.0, 1.0)
    assert result.expectation["held"], result.report()


@pytest.mark.parametrize(("variant", "penalty"), [("ZERO_INPUTS", 1.0), ("ZERO_INPUTS_FROZEN", 0.0), ("NESTED", 5.0)])
def test_keras_counts_a_trained_variable_once_and_a_frozen_one_not_at_all(variant, penalty):
    model = load_pair(f"{NAME}:{variant}").keras.build()
    inputs = [np.zeros((4, *part.shape[1:])) for part in model.inputs]
    model.compile(loss="mean_squared_error")
    assert model.evaluate(inputs, np.zeros((4, 1)), verbose=0) == penalty
    assert float(sum(model.losses, 0.0)) == penalty
