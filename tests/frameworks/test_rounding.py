"""What a model returns is off by one rounding error for the loss, and by nothing else, and only inside the block."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import xcheck
from xcheck.frameworks.sides import Sides
from xcheck.phases.begin import begin

EPS = 2.0**-52
STEEP = 20.0


def confident(reference: str = "torch", slope: float = STEEP, logits_kept: bool = True) -> xcheck.Pair:
    """A classifier whose probabilities are close to 0 and 1, but no closer than Keras cuts them off."""
    import keras
    import torch
    from torch import nn

    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            x = np.sign(rng.normal(size=(8, 1))) * rng.uniform(0.45, 0.75, size=(8, 1))
            yield xcheck.Batch(x, rng.integers(0, 2, (8, 1)).astype(float))

    class Steep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(1, 1)
            nn.init.ones_(self.dense.weight)
            nn.init.zeros_(self.dense.bias)

        def forward(self, x: Any) -> Any:
            return torch.sigmoid(slope * self.dense(x))

    def keras_model() -> Any:
        x = keras.Input((1,))
        z = slope * keras.layers.Dense(1, kernel_initializer="ones")(x)
        # Of a sigmoid Keras keeps the logits, and its loss takes those.
        return keras.Model(x, keras.ops.sigmoid(z) if logits_kept else 1.0 / (1.0 + keras.ops.exp(-z)))

    return xcheck.Pair(
        "confident",
        xcheck.TorchSide(Steep, loss=nn.BCELoss(), optimizer=lambda p: torch.optim.SGD(p, lr=1e-3)),
        xcheck.KerasSide(
            keras_model,
            loss=keras.losses.BinaryCrossentropy(),
            optimizer=lambda: keras.optimizers.SGD(1e-3),
        ),
        batches,
        reference=reference,
    )


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_the_outputs_that_a_loss_sees_are_off_by_one_rounding_error(side: Any) -> None:
    pair = confident()
    batch = next(pair.batches(0))
    with Sides(begin(pair, 0, 1, None), "cpu", lambda _: None).open(side) as runner:
        start = runner.snapshot()
        plain = runner.step(1, batch)
        runner.restore(start)
        with runner.rounding(np.random.default_rng(0)):
            moved = runner.step(1, batch)
        runner.restore(start)
        again = runner.step(1, batch)
    (name,) = plain.outputs
    off = np.abs(moved.outputs[name] / plain.outputs[name] - 1)
    # PyTorch's operations before the output are rounded as well, and a steep sigmoid passes that on.
    assert 0 < off.max() <= (4 * STEEP if side == "torch" else 2) * EPS
    assert side == "keras" or moved.losses["data"] != plain.losses["data"]
    for key, value in dict(plain.items()).items():
        assert np.array_equal(value, dict(again.items())[key])


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_saturated_outputs_stay_within_what_a_loss_holds_them_to(side: Any) -> None:
    """PyTorch's binary cross-entropy refuses a probability above 1."""
    pair = confident(slope=1e4)
    batch = next(pair.batches(0))
    with Sides(begin(pair, 0, 1, None), "cpu", lambda _: None).open(side) as runner:
        start = runner.snapshot()
        plain = runner.step(1, batch).outputs["output"]
        runner.restore(start)
        with runner.rounding(np.random.default_rng(0)):
            moved = runner.step(1, batch).outputs["output"]
    assert plain.max() == 1
    assert moved.max() <= 1
    assert 0 < (plain - moved)[plain == 1].max() <= 2 * EPS


@pytest.mark.parametrize(("reference", "logits_kept"), [("torch", True), ("torch", False), ("keras", False)])
def test_a_loss_of_probabilities_next_to_one_raises_no_alarm(reference: str, logits_kept: bool) -> None:
    """log(1 - p) is known to eps / (1 - p), of which a perturbed weight shows nothing where the sigmoid is flat."""
    pair = confident(reference, logits_kept=logits_kept)
    result = xcheck.check(pair, steps=3, free_steps=3, precision=("float64",))
    if reference == "torch":
        assert result.verdict == "EQUIVALENT", result.report()
    else:  # at other weights this one saturates, where Keras cuts probabilities off and PyTorch does not
        assert {c.at_ordinary for c in result.checks if c.verdict == "DIFFERENT"} == {True}, result.report()
        assert [c.id for c in result.causes if c.confirmed] == ["clipped_probabilities"]
    (loss,) = [c for c in result.checks if (c.phase, c.name, c.step) == ("loss", "data", 1)]
    assert loss.allowed is not None
    assert 1e-12 < loss.allowed < 1e-7


def test_a_difference_of_one_in_a_million_is_still_found() -> None:
    other = confident(slope=STEEP * (1 + 1e-6))
    result = xcheck.check(replace(confident(), keras=other.keras), steps=1, free_steps=0, precision=("float64",))
    assert result.verdict == "DIFFERENT"
