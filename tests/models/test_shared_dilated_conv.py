"""Three dilations of one kernel."""

from __future__ import annotations

import numpy as np
import pytest

from xcheck.pairs.loading import load_pair

NAME = "shared_dilated_conv"


@pytest.mark.parametrize("variant", ["PAIR", "AS_WRITTEN"])
def test_the_pair_is_one_kernel_and_one_bias(checked, variant):
    result = checked(f"{NAME}:{variant}")
    assert result.verdict == "EQUIVALENT", result.report()
    assert [(tie.status, tie.keras) for tie in result.ties] == [
        ("same", ("shared_conv/kernel",)),
        ("same", ("shared_conv/bias",)),
    ]
    assert all(len(tie.torch) == 3 for tie in result.ties)


def test_the_gradient_is_the_sum_of_three_uses(checked, uses):
    for part in ("weight", "bias"):
        found = uses(checked(NAME), f"branches.0.{part}")
        assert found == [f"branches.{i} (call 1)" for i in range(3)]


def test_adam_of_pytorch_is_another_formula(checked):
    result = checked(f"{NAME}:PLAIN_ADAM", steps=1)
    assert result.expectation["held"], result.report()
    assert result.causes[0].confirmed


@pytest.mark.parametrize(("variant", "shape"), [("PAIR", (2, 10)), ("AS_WRITTEN", (2, 10, 10, 10))])
def test_the_head_runs_flattened_or_as_written_on_each_pixel(variant, shape):
    model = load_pair(f"{NAME}:{variant}").keras.build()
    assert model(np.zeros((2, 10, 10, 1))).shape == shape


def test_a_file_keeps_one_kernel_and_three_dilations(tmp_path):
    import keras

    model = load_pair(NAME).keras.build()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    image = np.random.default_rng(0).standard_normal((2, 10, 10, 1))
    assert len(loaded.weights) == len(model.weights) == 4
    assert np.allclose(loaded(image), model(image), atol=1e-6)
