"""Each layer has its own penalty, by Keras's formula, which a weight decay is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import xcheck
from xcheck.pairs.loading import load_pair

NAME = "independent_regularizers"


def test_the_pair_is_the_same_computation(checked):
    result = checked(NAME)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 6, "waived": 0, "unmatched": 0}


def test_the_penalties_are_compared_layer_by_layer(checked):
    names = {c.name for c in checked(NAME).checks if c.phase == "loss"}
    assert names == {"data", "penalty", "penalty/first.weight", "penalty/second.weight", "total"}


def test_l2_in_keras_is_the_factor_times_the_sum_of_squares():
    model = load_pair(NAME).keras.build()
    l2, l1 = (float(term) for term in model.losses)
    first, second, _ = (np.asarray(layer.kernel) for layer in model.layers if layer.weights)
    assert l2 == pytest.approx(0.01 * (first**2).sum(), rel=1e-5)
    assert l1 == pytest.approx(0.005 * np.abs(second).sum(), rel=1e-5)


def test_the_gradient_of_the_penalty_is_twice_the_factor_times_the_weight():
    pair = load_pair(NAME)
    model = pair.torch.build()
    sum(pair.torch.penalty(model).values()).backward()
    assert np.allclose(model.first.weight.grad, 2 * 0.01 * model.first.weight.detach())
    assert np.allclose(model.second.weight.grad, 0.005 * model.second.weight.detach().sign())
    assert model.last.weight.grad is None


def wrong_gradients(result):
    """The parameters of which the gradient, or that of a use, is another."""
    return {c.name.split(" via ")[0] for c in result.checks if c.phase == "gradient" and c.verdict == "DIFFERENT"}


def test_half_the_factor_is_found_in_that_layer():
    pair = load_pair(NAME)

    def halved(model):
        terms = pair.torch.penalty(model)
        return {**terms, "first.weight": terms["first.weight"] / 2}

    planted = replace(pair, torch=replace(pair.torch, penalty=halved), also=())
    result = xcheck.check(planted, steps=1, precision=["float64"])
    wrong = {c.name for c in result.checks if c.phase == "loss" and c.verdict == "DIFFERENT"}
    assert wrong == {"penalty", "penalty/first.weight", "total"}
    assert wrong_gradients(result) == {"first.weight"}


def test_weight_decay_is_no_penalty(checked):
    result = checked(f"{NAME}:WEIGHT_DECAY", steps=1)
    assert result.expectation["held"], result.report()
    assert wrong_gradients(result) == {"first.weight"}
