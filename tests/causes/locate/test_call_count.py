"""A layer that one side calls more often is told with its counts, and only where that is all that differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xcheck

SIZE, BATCH = 5, 4


def nothing(x: Any) -> Any:
    return x


def spoilt(x: Any) -> Any:
    import keras

    return x + 1e-4 * keras.ops.sin(1e3 * x)


def in_turn(layer: Any, x: Any, times: int) -> Any:
    for _ in range(times):
        x = layer(x)
    return x


def averaged(layer: Any, x: Any, times: int) -> Any:
    return sum(layer(x * (i + 1)) for i in range(times)) / times


def pair_of(
    torch_times: int,
    keras_times: int,
    *,
    use: Callable[[Any, Any, int], Any] = in_turn,
    after: Callable[[Any], Any] = nothing,
) -> xcheck.Pair:
    """One dense layer, called so often on each side."""

    def build_torch() -> Any:
        import torch

        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = torch.nn.Linear(SIZE, SIZE)

            def forward(self, x: Any) -> Any:
                return use(self.layer, x, torch_times)

        return Net()

    def build_keras() -> Any:
        import keras

        x = keras.Input((SIZE,))
        layer = keras.layers.Dense(SIZE, name="layer")
        return keras.Model(x, after(use(layer, x, keras_times)))

    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((BATCH, SIZE)))

    return xcheck.Pair(
        name="calls",
        torch=xcheck.TorchSide(build_torch),
        keras=xcheck.KerasSide(build_keras),
        batches=batches,
        weight_map={"layer.weight": "layer/kernel", "layer.bias": "layer/bias"},
    )


def looked_into(pair: xcheck.Pair) -> xcheck.Result:
    phases = ("inventory", "sync", "forward")
    return xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, phases=phases)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (pair_of(2, 3), "keras calls layer 3 times and returns that of call 3; torch calls layer 2 times: its output"),
        (pair_of(3, 1), "torch calls layer 3 times and returns that of call 3; keras calls layer 1 time: its output"),
        (
            pair_of(1, 3, use=averaged),
            "keras calls layer 3 times and returns the mean of all; torch calls layer 1 time",
        ),
    ],
)
def test_the_calls_are_counted(pair, words):
    result = looked_into(pair)
    assert [(c.id, c.confirmed) for c in result.causes] == [("number_of_calls", True)], result.report()
    assert words in result.causes[0].summary
    assert result.causes[0].evidence["after"] <= result.causes[0].evidence["allowed"]


@pytest.mark.parametrize("pair", [pair_of(2, 3, after=spoilt), pair_of(2, 2, after=spoilt)])
def test_no_count_is_named_where_something_else_is_wrong(pair):
    result = looked_into(pair)
    assert result.verdict == "DIFFERENT"
    assert [c for c in result.causes if c.confirmed] == []


def test_as_many_calls_are_the_same():
    assert {c.verdict for c in looked_into(pair_of(3, 3)).checks if c.phase == "forward"} == {"EQUIVALENT"}
