"""One table of items for both towers; the gradient of a lookup, and where Adagrad starts."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from xcheck.pairs.loading import load_pair

NAME = "two_tower"


def test_the_port_is_the_same_computation(checked):
    result = checked(NAME)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 9, "waived": 0, "unmatched": 0}


def test_the_gradient_is_the_sum_of_its_uses(checked, uses):
    assert len(uses(checked(NAME), "items.weight")) == 2


@pytest.mark.parametrize("variant", ["SPARSE_GRADIENT", "PLAIN_ADAGRAD"])
def test_what_goes_wrong_in_a_port_is_found(checked, variant):
    result = checked(f"{NAME}:{variant}", steps=1)
    assert result.expectation["held"], result.report()


def test_a_sparse_gradient_goes_wrong_in_the_table_alone(checked):
    checks = checked(f"{NAME}:SPARSE_GRADIENT", steps=1).checks
    assert all(c.verdict == "EQUIVALENT" for c in checks if c.phase == "gradient")
    assert {c.name for c in checks if c.verdict == "DIFFERENT"} == {"items.weight", "items.weight [accumulator]"}


@pytest.mark.parametrize(("dense", "remembered"), [(True, 9.0), (False, 3.0)])
def test_keras_squares_the_list_of_rows_and_not_their_sum(dense, remembered):
    """Three lookups of one row, each with gradient 1."""
    kind = load_pair(NAME, {"keras_dense_gradient": dense}).keras.build().get_layer("items").__class__
    rows = keras.Input((3,), dtype="int64")
    model = keras.Model(rows, keras.ops.sum(kind(2, 1)(rows), axis=(1, 2)))
    adagrad = keras.optimizers.Adagrad(initial_accumulator_value=0.0)
    model.compile(optimizer=adagrad, loss=lambda _, outputs: keras.ops.sum(outputs))
    model.train_on_batch(np.array([[1, 1, 1]]), np.zeros(1))
    assert keras.ops.convert_to_numpy(adagrad._accumulators[0]).tolist() == [[0.0], [remembered]]
