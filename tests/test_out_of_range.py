"""Training that leaves the range of float64 on both sides ends the run there; on one side alone it is a difference."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import xcheck


def exploding(scale: float, planted: float = 0.0) -> xcheck.Pair:
    import keras
    import torch
    from torch import nn

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(scale * rng.standard_normal((8, 6)), rng.standard_normal((8, 2)))

    def keras_model() -> keras.Model:
        layers = [keras.layers.Dense(8, activation="relu", name="first"), keras.layers.Dense(2, name="last")]
        return keras.Sequential([keras.Input((6,)), *layers])

    return xcheck.Pair(
        "exploding",
        xcheck.TorchSide(
            lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)),
            loss=nn.functional.mse_loss,
            optimizer=lambda p: torch.optim.SGD(p, lr=0.1),
        ),
        xcheck.KerasSide(
            keras_model, loss="mean_squared_error", optimizer=lambda: keras.optimizers.SGD(0.1 * (1 + planted))
        ),
        batches,
    )


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_a_run_that_explodes_on_both_sides_ends_where_it_does_and_says_so(scale: float) -> None:
    result = xcheck.check(exploding(scale), steps=7, precision=("float64",), free_steps=7)
    assert result.verdict == "EQUIVALENT", result.report()
    made = max(c.step or 0 for c in result.checks if c.phase == "update")
    assert 1 <= made < 7
    assert [n for n in result.notes if n.startswith(f"the training overflows in float64 at step {made + 1}, on both")]


def test_a_difference_before_that_is_found() -> None:
    result = xcheck.check(exploding(1e6, 1e-9), steps=7, precision=("float64",), free_steps=0)
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert (result.first_divergence.phase, result.first_divergence.step) == ("update", 1)
