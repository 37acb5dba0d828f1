"""Models that are given other numbers: said before anything is asked of what they compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ports import keras_mlp, mlp

import xcheck


def looked_into(torch: Callable[[Any], Any], build: Callable[[], Any] = keras_mlp) -> xcheck.Result:
    """A side whose `prepare` gives the inputs that a function makes of them."""
    pair = mlp(torch={"prepare": lambda b: (torch(b.inputs), b.targets)}, keras={"build": build})
    phases = ("inventory", "sync", "forward")
    return xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, phases=phases)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda x: x / 255.0, "that of keras is 255 times that of torch"),
        (lambda x: 2.0 * x - 1.0, "that of keras is 0.5 times that of torch plus 0.5"),
        (np.tanh, "they have no number in common"),
    ],
)
def test_inputs_that_differ_are_said_to(given, words):
    result = looked_into(given)
    assert [(c.id, c.confirmed) for c in result.causes] == [("other_inputs", False)], result.report()
    assert result.causes[0].summary.endswith(words)
    assert result.first_divergence is not None
    assert result.first_divergence.torch == result.first_divergence.keras == "(the inputs)"


def test_a_model_that_rescales_what_it_is_given_is_not_blamed():
    def build(factor: float) -> Any:
        import keras

        model = keras_mlp()
        return keras.Sequential([keras.Input((6,)), keras.layers.Rescaling(factor), *model.layers], name="sequential")

    assert looked_into(lambda x: x / 4.0, lambda: build(0.25)).verdict == "EQUIVALENT"
    result = looked_into(lambda x: x[:, ::-1].copy())
    assert [c.id for c in result.causes] == ["permuted_axes"], result.report()
