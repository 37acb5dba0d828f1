"""A factor on what goes into a layer is found there, and never called a factor of its weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import torch
from layer_cases import IMAGE, ROW, looked_into

import xcheck

Function = Callable[[Any], Any]
OF_EACH = np.linspace(0.5, 1.2, ROW[1])


def same(x: Any) -> Any:
    return x


def half(x: Any) -> Any:
    return x * 0.5


def pair_of(before: Function, layer: Any, keras_layer: Any, keras_before: Function = same) -> xcheck.Pair:
    """A layer of each side, with something done to its input."""
    shape = IMAGE if isinstance(layer(), torch.nn.Conv2d) else ROW

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer()

        def forward(self, x: Any) -> Any:
            return torch.tanh(self.layer(before(x)))

    def build_keras() -> Any:
        inputs = keras.Input(shape[1:])
        return keras.Model(inputs, keras.ops.tanh(keras_layer()(keras_before(inputs))))

    def prepare(batch: Any) -> Any:
        return (np.moveaxis(batch.inputs, -1, 1) if len(shape) == 4 else batch.inputs), None

    def outputs(y: Any) -> Any:
        return y.movedim(1, -1) if len(shape) == 4 else y

    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal(shape))

    in_torch = xcheck.TorchSide(Net, prepare=prepare, outputs=outputs)
    return xcheck.Pair("fed", in_torch, xcheck.KerasSide(build_keras), batches)


def linear() -> Any:
    return torch.nn.Linear(ROW[1], 5)


def dense() -> Any:
    return keras.layers.Dense(5)


def conv() -> Any:
    return torch.nn.Conv2d(IMAGE[-1], 5, 3, padding=1)


def keras_conv() -> Any:
    return keras.layers.Conv2D(5, 3, padding="same")


FACTORS: dict[str, tuple[xcheck.Pair, str]] = {
    "a product in torch": (pair_of(half, linear, dense), "0.5 in torch and 1 in keras"),
    "a product in keras": (pair_of(same, linear, dense, half), "1 in torch and 0.5 in keras"),
    "pixels in keras": (
        pair_of(same, conv, keras_conv, keras.layers.Rescaling(1 / 4)),
        "1 in torch and 0.25 in keras",
    ),
    "a number for each channel": (
        pair_of(lambda x: x * torch.tensor(OF_EACH), linear, dense),
        "a number for each channel, from 0.5 to 1.2 in torch and 1 in keras",
    ),
    "other numbers on both sides": (
        pair_of(half, linear, dense, keras.layers.Rescaling(1 / 4)),
        "0.5 in torch and 0.25 in keras",
    ),
}


@pytest.mark.parametrize("name", FACTORS)
def test_a_factor_on_what_goes_in(name: str) -> None:
    pair, words = FACTORS[name]
    (cause,) = looked_into(pair).causes
    assert (cause.id, cause.confirmed) == ("constant_factor", True)
    assert words in cause.summary


def test_a_weight_that_is_multiplied_is_one() -> None:
    class Scaled(torch.nn.Linear):
        def forward(self, input: Any) -> Any:
            return torch.nn.functional.linear(input, self.weight * 0.5, self.bias)

    (cause,) = looked_into(pair_of(same, lambda: Scaled(ROW[1], 5), dense)).causes
    assert (cause.id, cause.confirmed) == ("scaled_weight", True)


def test_an_input_that_is_bent_has_no_factor() -> None:
    assert not any(cause.confirmed for cause in looked_into(pair_of(lambda x: x**3, linear, dense)).causes)
