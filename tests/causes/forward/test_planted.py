"""Faults of kinds that no entry is written for: nothing wrong is confirmed, and what generic causes reach is named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import xcheck

STEPS, WIDTH = 5, 6
ops: Any = keras.ops


def checked(of_torch: Any, of_keras: Any, width: int = WIDTH) -> xcheck.Result:
    """(batch, steps, 4) -> linear -> the function -> linear, on both sides."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, WIDTH), nn.Linear(width, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.last(of_torch(self.first(x)))
            return made

    class Middle(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return of_keras(x)

    def build() -> keras.Model:
        x = keras.Input((STEPS, 4))
        return keras.Model(x, keras.layers.Dense(3)(Middle(name="middle")(keras.layers.Dense(WIDTH)(x))))

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((3, STEPS, 4)))

    made = xcheck.Pair("planted", xcheck.TorchSide(Net), xcheck.KerasSide(build), batches)
    return xcheck.check(made, steps=1, free_steps=0, precision=("float64",))


CASES: dict[str, tuple[Any, Any, str]] = {
    "sine and tanh": (torch.sin, lambda x: ops.tanh(x), "sine in torch and tanh in keras"),
    "the axis of a running sum": (lambda x: x.cumsum(1), lambda x: ops.cumsum(x, 2), "over what is axis 2 there"),
    "an index that is off by one": (lambda x: x[:, 2], lambda x: x[:, 1], "2:3 of 5 along axis 1 in torch, 1:2 of 5"),
    "a root that is missing": (
        lambda x: (x**2).mean(1).sqrt(),
        lambda x: ops.mean(x**2, 1),
        "square root in torch and none in keras",
    ),
    "axes of a mean": (
        lambda x: x - x.mean(2, keepdim=True),
        lambda x: x - ops.mean(x, (1, 2), keepdims=True),
        "subtraction of the mean is taken over axis 2",
    ),
    "a number under a logarithm": (
        lambda x: torch.log(x**2 + 1e-2),
        lambda x: ops.log(x**2 + 1e-3),
        "the number added is 0.01 in torch and 0.001 in keras",
    ),
    "bounds": (
        lambda x: x.clamp(-0.5, 0.5),
        lambda x: ops.clip(x, -0.2, 0.5),
        "below -0.5 and above 0.5 in torch and below -0.2 and above 0.5 in keras",
    ),
    "the square of numbers above zero": (lambda x: torch.sigmoid(x) ** 2, lambda x: ops.sigmoid(x), "is square in"),
}

UNKNOWN: dict[str, tuple[Any, Any]] = {
    "a pool over another axis": (
        lambda x: nn.functional.max_pool1d(x.transpose(1, 2), 2, 1).mean(1),
        lambda x: ops.mean(ops.max_pool(x, 2, 1), 1)[:, :4],
    ),
    "an epsilon in another place": (
        lambda x: x / (x.norm(dim=-1, keepdim=True) + 1e-2),
        lambda x: x / ops.sqrt(ops.sum(x**2, -1, keepdims=True) + 1e-2),
    ),
    "repeated and tiled": (
        lambda x: x[..., 0::2].repeat_interleave(2, -1) * x,
        lambda x: ops.tile(x[..., 0::2], (1, 1, 2)) * x,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_generic_causes_name_it(name: str) -> None:
    of_torch, of_keras, words = CASES[name]
    result = checked(of_torch, of_keras)
    confirmed = [c for c in result.causes if c.confirmed]
    assert len(confirmed) == 1, result.report()
    assert words in confirmed[0].summary, result.report()


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_nothing_explains_is_not_confirmed(name: str) -> None:
    of_torch, of_keras = UNKNOWN[name]
    result = checked(of_torch, of_keras, 4 if "pool" in name else WIDTH)
    assert result.verdict is xcheck.Verdict.DIFFERENT, result.report()
    assert not [c for c in result.causes if c.confirmed], result.report()


def test_the_other_side_of_a_gate_is_a_factor_and_a_number_added() -> None:
    result = checked(lambda x: torch.sigmoid(x) * x, lambda x: (1 - ops.sigmoid(x)) * x)
    summaries = {c.id: c.summary for c in result.causes if c.confirmed}
    assert set(summaries) == {"constant_factor", "constant_offset"}, result.report()
    assert "factor 1 in torch and -1 in keras" in summaries["constant_factor"]
    assert "0 in torch and 1 in keras" in summaries["constant_offset"]
