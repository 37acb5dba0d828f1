"""A loss that weighs the parts of an output otherwise is told from one that is another loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import xcheck

SIZE, PARTS, BATCH = 5, 3, 4


def pair_of(torch_weights: Sequence[float], keras_weights: Sequence[float], power: float = 1.0) -> xcheck.Pair:
    """A dense layer used three times, with a loss after each use."""

    def build_torch() -> Any:
        import torch

        class Net(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = torch.nn.Linear(SIZE, SIZE)

            def forward(self, x: Any) -> Any:
                made: list[Any] = []
                for _ in range(PARTS):
                    x = torch.tanh(self.layer(x))
                    made.append(x)
                return torch.stack(made, -1)

        return Net()

    def build_keras() -> Any:
        import keras

        x = inputs = keras.Input((SIZE,))
        layer, made = keras.layers.Dense(SIZE, name="layer"), []
        for _ in range(PARTS):
            x = keras.ops.tanh(layer(x))
            made.append(x)
        return keras.Model(inputs, keras.ops.stack(made, -1))

    def torch_loss(outputs: Any, targets: Any) -> Any:
        each = (outputs - targets[..., None]).abs().mean((0, 1))
        return sum(w * each[i] for i, w in enumerate(torch_weights))

    def keras_loss(targets: Any, outputs: Any) -> Any:
        import keras

        error: Any = keras.ops.abs(outputs - targets[..., None])
        each: Any = keras.ops.mean(error**power, 1)
        return sum(w * each[:, i] for i, w in enumerate(keras_weights))

    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((BATCH, SIZE)), rng.standard_normal((BATCH, SIZE)))

    def keras_optimizer() -> Any:
        import keras

        return keras.optimizers.SGD(0.1)

    def torch_optimizer(parameters: Any) -> Any:
        import torch

        return torch.optim.SGD(parameters, 0.1)

    return xcheck.Pair(
        name="parts",
        torch=xcheck.TorchSide(build_torch, loss=torch_loss, optimizer=torch_optimizer),
        keras=xcheck.KerasSide(build_keras, loss=keras_loss, optimizer=keras_optimizer),
        batches=batches,
        weight_map={"layer.weight": "layer/kernel", "layer.bias": "layer/bias"},
    )


def looked_into(pair: xcheck.Pair) -> xcheck.Result:
    phases = ("inventory", "sync", "forward", "loss", "gradient")
    return xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, phases=phases)


@pytest.mark.parametrize(
    ("torch", "keras", "words"),
    [
        ((0.25, 0.5, 1.0), (1.0, 0.5, 0.25), "0.25, 0.5, 1 in torch and 1, 0.5, 0.25 in keras, from the other end"),
        ((0.25, 0.5, 1.0), (1.0, 1.0, 1.0), "0.25, 0.5, 1 in torch and 1, 1, 1 in keras"),
        ((1.0, 1.0, 1.0), (0.0, 0.0, 1.0), "1, 1, 1 in torch and 0, 0, 1 in keras"),
    ],
)
def test_other_weights_are_named(torch, keras, words):
    result = looked_into(pair_of(torch, keras))
    (cause,) = (c for c in result.causes if c.phase == "loss")
    assert (cause.id, cause.confirmed) == ("loss_weights", True)
    assert words in cause.summary
    assert "along axis 2" in cause.summary
    assert cause.evidence["before"] > 1e-3
    assert cause.evidence["after"] < cause.evidence["allowed"]


@pytest.mark.parametrize("keras", [(0.25, 0.5, 1.0), (1.0, 0.5, 0.25)])
def test_no_weights_are_named_where_the_loss_is_another(keras):
    result = looked_into(pair_of((0.25, 0.5, 1.0), keras, power=2.0))
    assert result.verdict == "DIFFERENT"
    assert "loss_weights" not in {c.id for c in result.causes}


def test_the_same_weights_are_the_same_loss():
    result = looked_into(pair_of((0.25, 0.5, 1.0), (0.25, 0.5, 1.0)))
    assert {c.verdict for c in result.checks if c.phase == "loss"} == {"EQUIVALENT"}
