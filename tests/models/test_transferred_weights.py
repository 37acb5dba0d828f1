"""Copied weights are equal right after the copy, and train apart from the next step on."""

from __future__ import annotations

import numpy as np

from xcheck.pairs.loading import load_pair

NAME = "transferred_weights"


def test_a_copy_is_not_the_same_training(checked):
    result = checked(NAME)
    assert result.verdict == "DIFFERENT"
    assert (result.first_divergence.phase, result.first_divergence.step) == ("gradient", 1)
    assert result.expectation["held"], result.report()


def test_until_the_gradient_everything_agrees(checked):
    before = {c.phase for c in checked(NAME, 1).checks if c.verdict == "EQUIVALENT"}
    assert {"inventory", "sync", "forward", "loss"} <= before
    assert {c.phase for c in checked(NAME, 1).checks if c.verdict == "DIFFERENT"} == {"gradient", "update"}


def test_the_corrected_twin_is_the_same_computation(checked, uses):
    result = checked(f"{NAME}:CORRECTED")
    assert result.verdict == "EQUIVALENT", result.report()
    assert uses(result, "dense.weight") == [f"dense (call {i + 1})" for i in range(3)]


def test_the_copies_are_equal_and_part_in_the_next_step():
    pair = load_pair(NAME)
    model = pair.keras.build()
    batch = next(pair.batches(0))
    kernels = [model.get_layer(f"dense_{i}").kernel for i in range(3)]
    assert np.array_equal(kernels[0], kernels[1])
    assert np.array_equal(kernels[0], kernels[2])
    model.compile(optimizer=pair.keras.optimizer(), loss=pair.keras.loss)
    model.train_on_batch(batch.inputs, batch.targets)
    assert not np.allclose(kernels[0], kernels[1])
    assert not np.allclose(kernels[0], kernels[2])
