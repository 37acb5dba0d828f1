"""Outputs with the same numbers in another order: the call that moves them on each side, and how."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import xcheck
from xcheck.causes.locate.reordered import pattern

ops: Any = keras.ops
RNG = np.random.default_rng(0)
STEPS, WIDTH = 5, 6


def shuffled(x: Any, groups: int) -> Any:
    """(c g) -> (g c) of the last axis."""
    return x.reshape(-1, STEPS, WIDTH // groups, groups).swapaxes(2, 3).reshape(-1, STEPS, WIDTH)


def keras_shuffled(x: Any, groups: int) -> Any:
    """The same in Keras."""
    apart = ops.reshape(x, (-1, STEPS, WIDTH // groups, groups))
    return ops.reshape(ops.transpose(apart, (0, 1, 3, 2)), (-1, STEPS, WIDTH))


def checked(of_torch: Any, of_keras: Any) -> xcheck.Result:
    """One layer on both sides, and what moves its numbers."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, WIDTH)

        def forward(self, x: torch.Tensor) -> Any:
            return of_torch(self.layer(x))

    class Move(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return of_keras(x)

    def build() -> keras.Model:
        x = keras.Input((STEPS, 4))
        return keras.Model(x, Move(name="move")(keras.layers.Dense(WIDTH)(x)))

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((3, STEPS, 4)))

    made = xcheck.Pair("moved", xcheck.TorchSide(Net), xcheck.KerasSide(build), batches)
    return xcheck.check(made, steps=1, free_steps=0, precision=("float64",))


CASES: dict[str, tuple[Any, Any, str]] = {
    "flipped": (lambda x: x, lambda x: ops.flip(x, 1), "as a flip along axis 1 in keras"),
    "shifted": (lambda x: x.roll(1, 1), lambda x: x, "as a shift by 1 along axis 1 of 5, around its end in torch"),
    "shuffled otherwise": (
        lambda x: torch.tanh(shuffled(x, 2)),
        lambda x: ops.tanh(keras_shuffled(x, 3)),
        '"a b (c2 c1) -> a b (c1 c2)" (c1=2, c2=3) in torch',
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_moves_the_numbers_is_named(name: str) -> None:
    of_torch, of_keras, words = CASES[name]
    result = checked(of_torch, of_keras)
    assert [(c.id, c.confirmed) for c in result.causes] == [("permuted_axes", True)], result.report()
    assert words in result.causes[0].summary, result.report()
    assert result.causes[0].evidence["inputs"] == 2


def test_the_same_order_passes() -> None:
    result = checked(lambda x: shuffled(x, 2), lambda x: keras_shuffled(x, 2))
    assert result.verdict is xcheck.Verdict.EQUIVALENT, result.report()


def test_patterns() -> None:
    x = RNG.standard_normal((2, 6, 5, 12))
    apart = x.reshape(2, 6, 5, 3, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(2, 12, 10, 3)
    assert pattern(x, apart) == '"a b1 c1 (d b2 c2) -> a (b1 b2) (c1 c2) d" (b1=6, b2=2, c1=5, c2=2)'
    assert pattern(x, x[..., RNG.permutation(12)]).startswith("another order of (2, 6, 5, 12)")
