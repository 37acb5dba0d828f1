"""One encoder called twice; one call of two is another computation where batches are normalized."""

from __future__ import annotations

import numpy as np
import pytest

from xcheck.pairs.loading import load_pair

NAME = "siamese"


def test_the_port_is_the_same_computation(checked):
    result = checked(NAME)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 5, "waived": 0, "unmatched": 0}


@pytest.mark.parametrize("parameter", ["encoder.conv.weight", "encoder.norm.weight", "encoder.head.weight"])
def test_the_gradient_is_the_sum_of_its_uses(checked, uses, parameter):
    assert len(uses(checked(NAME), parameter)) == 2


def test_one_call_of_two_images_differs_in_training_alone(checked):
    result = checked(f"{NAME}:CONCATENATED", steps=1)
    assert result.expectation["held"], result.report()
    verdicts = {c.name: c.verdict for c in result.checks if c.phase == "forward"}
    assert verdicts == {"output (inference)": "EQUIVALENT", "output (training)": "DIFFERENT"}


@pytest.mark.parametrize(("variant", "share"), [("PAIR", 0.19), ("CONCATENATED", 0.1)])
def test_the_statistics_move_once_per_call(variant, share):
    """Two calls leave 0.9 * 0.9 of what was there, one call 0.9."""
    import keras

    model = load_pair(f"{NAME}:{variant}").keras.build()
    image = np.ones((4, 8, 8, 1), np.float32)
    model((image, image), training=True)
    statistics = model.get_layer("encoder").get_layer("norm")
    assert keras.ops.convert_to_numpy(statistics.moving_variance) == pytest.approx(1 - share, abs=0.03)
