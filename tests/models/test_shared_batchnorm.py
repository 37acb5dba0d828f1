"""A batch normalization that is called twice moves its statistics twice, in order, by PyTorch's conventions."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from xcheck.pairs.loading import load_pair

NAME = "shared_batchnorm"


@pytest.mark.slow
def test_the_port_is_the_same_computation(checked):
    result = checked(NAME)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 9, "waived": 0, "unmatched": 0}


@pytest.mark.slow
@pytest.mark.parametrize("parameter", ["encoder.0.linear.weight", "predictor.0.norm.bias"])
def test_the_gradient_is_the_sum_of_its_uses(checked, uses, parameter):
    assert len(uses(checked(NAME), parameter)) == 2


@pytest.mark.parametrize("variant", ["BIASED", "MOMENTUM", "KERAS_DEFAULTS", "CONCATENATED", "FUNCTIONAL"])
def test_what_goes_wrong_in_a_port_is_found(checked, variant):
    result = checked(f"{NAME}:{variant}", steps=1)
    assert result.expectation["held"], result.report()


@pytest.mark.parametrize(("variant", "order"), [("PAIR", (0, 1)), ("FUNCTIONAL", (1, 0))])
def test_each_call_moves_the_statistics_towards_its_own_batch(variant, order):
    model = load_pair(f"{NAME}:{variant}").keras.build()
    views = np.random.default_rng(0).random((2, 6, 64)).astype(np.float32)
    model(list(views), training=True)
    linear, norm = (layer_named(model, name) for name in ("guess_linear", "guess_norm"))
    probe = keras.Model(layer_named(model, "encoder").input, layer_named(model, "encoder").output)
    variance = np.ones(4)
    for i in order:
        batch = linear(probe(views[i], training=True))
        variance = 0.9 * variance + 0.1 * np.var(keras.ops.convert_to_numpy(batch), axis=0, ddof=1)
    assert keras.ops.convert_to_numpy(norm.moving_variance) == pytest.approx(variance, rel=1e-4)


def layer_named(model, name):
    return next(layer for layer in model._flatten_layers() if layer.name == name)
