"""A layer that is called once too often inside of a model is named, and no operation is said to be missing instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xcheck

SIZE, BATCH = 5, 4
Use = Callable[[Any, Any, Any], Any]
"""(inputs, the shared layer, tanh) -> what goes into the last layer."""


def pair_of(torch_use: Use, keras_use: Use, keras_scale: float = 1.0) -> xcheck.Pair:
    """A square layer, used by each side in its own way in front of a last layer."""

    def build_torch() -> Any:
        import torch

        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer, self.last = torch.nn.Linear(SIZE, SIZE), torch.nn.Linear(SIZE, 3)

            def forward(self, x: Any) -> Any:
                return self.last(torch_use(x, self.layer, torch.tanh))

        return Net()

    def build_keras() -> Any:
        import keras

        x = keras.Input((SIZE,))
        layer = keras.layers.Dense(SIZE, name="layer")
        return keras.Model(x, keras_scale * keras.layers.Dense(3, name="last")(keras_use(x, layer, keras.ops.tanh)))

    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((BATCH, SIZE)))

    layers = {f"{n}.{w}": f"{n}/{v}" for n in ("layer", "last") for w, v in (("weight", "kernel"), ("bias", "bias"))}
    return xcheck.Pair(
        "calls", xcheck.TorchSide(build_torch), xcheck.KerasSide(build_keras), batches, weight_map=layers
    )


def causes(pair: xcheck.Pair) -> list[tuple[str, bool, str]]:
    result = xcheck.check(
        pair, steps=1, precision=("float64",), free_steps=0, phases=("inventory", "sync", "forward"), reach="none"
    )
    assert result.verdict == "DIFFERENT"
    return [(c.id, c.confirmed, c.summary) for c in result.causes]


def once(x: Any, layer: Any, tanh: Any) -> Any:
    return tanh(layer(x))


def twice(x: Any, layer: Any, tanh: Any) -> Any:
    return tanh(layer(layer(x)))


def between(x: Any, layer: Any, tanh: Any) -> Any:
    return layer(tanh(layer(x)))


def thrice(x: Any, layer: Any, tanh: Any) -> Any:
    return layer(tanh(layer(layer(x))))


def residual(x: Any, layer: Any, tanh: Any) -> Any:
    return x + tanh(layer(x))


def residual_twice(x: Any, layer: Any, tanh: Any) -> Any:
    return x + tanh(layer(layer(x)))


@pytest.mark.parametrize(
    ("torch", "keras", "words"),
    [
        (once, twice, "keras calls layer 2 times, torch calls layer once; without call"),
        (twice, once, "torch calls layer 2 times, keras calls layer once; without call"),
        (between, thrice, "keras calls layer 3 times, torch calls layer 2 times; without call"),
        (residual_twice, residual, "torch calls layer 2 times, keras calls layer once; without call"),
    ],
)
def test_a_call_too_many_is_named_with_its_number(torch: Use, keras: Use, words: str):
    ((cause, confirmed, summary),) = causes(pair_of(torch, keras))
    assert (cause, confirmed) == ("number_of_calls", True)
    assert summary.startswith(words)


def test_as_many_calls_without_an_activation_are_a_missing_activation():
    found = causes(pair_of(between, lambda x, layer, tanh: layer(layer(x))))
    assert [(cause, confirmed) for cause, confirmed, _ in found] == [("activation", True)]


def test_nothing_is_confirmed_where_another_difference_stands_behind_the_call():
    found = causes(pair_of(between, thrice, keras_scale=1.5))
    assert not any(confirmed for cause, confirmed, _ in found if cause == "activation")
    assert ("number_of_calls", False) in [(cause, confirmed) for cause, confirmed, _ in found]
