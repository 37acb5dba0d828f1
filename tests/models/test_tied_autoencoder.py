"""A decoder that is its encoder transposed: one kernel in training, after saving, and in the right direction."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from xcheck.pairs.loading import load_pair

NAME = "tied_autoencoder"


def test_the_port_is_the_same_computation(checked):
    result = checked(NAME)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 6, "waived": 0, "unmatched": 0}


@pytest.mark.parametrize("parameter", ["layers.0.forwards.weight", "layers.1.forwards.weight"])
def test_the_gradient_is_the_sum_of_its_uses(checked, uses, parameter):
    assert len(uses(checked(NAME), parameter)) == 2


def test_a_square_kernel_that_is_not_transposed_is_found(checked):
    result = checked(f"{NAME}:UNTRANSPOSED", steps=1)
    assert result.expectation["held"], result.report()


def kernels(model: keras.Model) -> int:
    return sum(variable.name == "kernel" for variable in model.variables)


@pytest.mark.parametrize(("variant", "loaded"), [("PAIR", 2), ("BORROWED", 4)])
def test_a_borrowed_kernel_is_two_after_saving(variant, loaded, tmp_path):
    model = load_pair(f"{NAME}:{variant}").keras.build()
    assert kernels(model) == 2
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert kernels(again) == loaded
    image = np.random.default_rng(0).random((3, 64))
    assert np.array_equal(model.predict(image, verbose=0), again.predict(image, verbose=0))  # nothing shows yet


def test_a_borrowed_kernel_trains_as_it_should_until_then(checked):
    result = checked(f"{NAME}:BORROWED", steps=2)
    assert {c.verdict for c in result.checks if c.phase != "persistence"} == {"EQUIVALENT"}, result.report()
