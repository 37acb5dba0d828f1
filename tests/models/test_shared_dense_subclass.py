"""A shared initializer object shares no weights; a shared layer does."""

from __future__ import annotations

import numpy as np

from xcheck.pairs.loading import load_pair

NAME = "shared_dense_subclass"


def test_the_claim_is_false(checked):
    result = checked(NAME, steps=1)
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence.phase == "inventory"
    assert result.expectation["held"], result.report()


def test_the_corrected_subclass_is_the_same_computation(checked):
    result = checked(f"{NAME}:CORRECTED")
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 4, "waived": 0, "unmatched": 0}


def test_the_gradient_of_the_corrected_subclass_is_the_sum_of_two_uses(checked, uses):
    assert uses(checked(f"{NAME}:CORRECTED"), "dense.weight") == ["dense (call 1)", "dense (call 2)"]


def test_what_was_claimed_to_share_is_two_layers(checked):
    result = checked(f"{NAME}:TWO_LAYERS")
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 6, "waived": 0, "unmatched": 0}


def test_the_two_kernels_start_equal_and_part_in_the_first_step():
    pair = load_pair(NAME)
    model = pair.keras.build()
    batch = next(pair.batches(0))
    model(batch.inputs)
    first, second = model.dense.kernel, model.other.kernel
    assert first is not second
    assert np.array_equal(first, second)
    model.compile(optimizer=pair.keras.optimizer(), loss=pair.keras.loss)
    model.train_on_batch(batch.inputs, batch.targets)
    assert not np.allclose(first, second)
