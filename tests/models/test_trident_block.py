"""One kernel at three dilations, strided; a trained model uses the middle one."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from xcheck.pairs.loading import load_pair

NAME = "trident_block"


@pytest.mark.slow
def test_the_port_is_the_same_computation(checked):
    result = checked(NAME)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 16, "waived": 0, "unmatched": 0}


@pytest.mark.slow
@pytest.mark.parametrize("parameter", ["kernel", "reduce.weight", "head.bias"])
def test_the_gradient_is_the_sum_of_its_uses(checked, uses, parameter):
    assert len(uses(checked(NAME), parameter)) == 3


def test_all_branches_are_trained_and_one_is_used():
    model = load_pair(NAME).keras.build()
    image = np.zeros((2, 8, 8, 1))
    assert model(image, training=True).shape == (2, 3, 10)
    assert model(image).shape == (2, 1, 10)


@pytest.mark.parametrize("variant", ["ALL_USED", "PADDED_AT_END"])
def test_what_goes_wrong_in_a_port_is_found(checked, variant):
    result = checked(f"{NAME}:{variant}", steps=1)
    assert result.expectation["held"], result.report()


def test_using_all_branches_differs_in_use_alone(checked):
    checks = checked(f"{NAME}:ALL_USED", steps=1).checks
    assert [c.name for c in checks if c.verdict == "DIFFERENT"] == ["output (inference)"]


@pytest.mark.parametrize(("variant", "same"), [("PAIR", False), ("PADDED_AT_END", True)])
def test_keras_pads_an_even_map_at_its_end_where_there_is_a_stride(variant, same):
    model = load_pair(f"{NAME}:{variant}").keras.build()
    x = np.random.default_rng(0).random((1, 8, 8, 4)).astype(np.float32)
    found = keras.ops.convert_to_numpy(model.conv(x))
    by_keras = keras.ops.convert_to_numpy(keras.ops.conv(x, model.conv.kernel, strides=2, padding="same"))
    assert found.shape == by_keras.shape
    assert np.allclose(found, by_keras, atol=1e-6) is same


def test_keras_refuses_a_stride_together_with_a_dilation():
    with pytest.raises(ValueError, match="not supported in conjunction with"):
        keras.layers.Conv2D(4, 3, strides=2, dilation_rate=2)
