"""Losses that no formula explains, followed call by call: the place, and the number or rule that differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import xcheck

BATCH, CLASSES = 6, 4
ops: Any = keras.ops
Loss = Callable[[Any, Any], Any]


def pair(of_torch: Loss, of_keras: Loss, hot: bool = True) -> xcheck.Pair:
    """One net, and a loss of (output, target) on each side; the targets are classes, as ones or as numbers."""

    def build_torch() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, CLASSES))

    def build_keras() -> keras.Model:
        dense = keras.layers.Dense
        return keras.Sequential([keras.Input((3,)), dense(5, activation="tanh"), dense(CLASSES)])

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            classes = rng.integers(0, CLASSES, BATCH)
            yield xcheck.Batch(rng.standard_normal((BATCH, 3)), np.eye(CLASSES)[classes] if hot else classes)

    return xcheck.Pair(
        "loss",
        xcheck.TorchSide(build_torch, loss=of_torch, optimizer=lambda p: torch.optim.SGD(p, lr=0.1)),
        xcheck.KerasSide(build_keras, loss=lambda y, o: of_keras(o, y), optimizer=lambda: keras.optimizers.SGD(0.1)),
        batches,
    )


def tversky(p: Any, y: Any, alpha: float, beta: float, smooth: float) -> Any:
    """Of probabilities and ones, on both sides."""
    hit = (p * y).sum() if isinstance(p, torch.Tensor) else ops.sum(p * y)
    more = (p * (1 - y)).sum() if isinstance(p, torch.Tensor) else ops.sum(p * (1 - y))
    less = ((1 - p) * y).sum() if isinstance(p, torch.Tensor) else ops.sum((1 - p) * y)
    return 1 - (hit + smooth) / (hit + alpha * more + beta * less + smooth)


def without_first_torch(o: Any, y: Any) -> Any:
    """Squared error without the first class."""
    return ((o[:, 1:] - y[:, 1:]) ** 2).mean() + o.abs().mean()


CASES: dict[str, tuple[Loss, Loss, bool, str, str, str]] = {
    "smoothing above and below": (
        lambda o, y: tversky(o.sigmoid(), y, 0.3, 0.7, 1.0),
        lambda o, y: tversky(ops.sigmoid(o), y, 0.3, 0.7, 1e-6),
        True,
        "constant_offset",
        "the number added is 1 in torch and 1e-06 in keras",
        "(loss): add (call 4)",
    ),
    "weights exchanged": (
        lambda o, y: tversky(o.sigmoid(), y, 0.3, 0.7, 1.0),
        lambda o, y: tversky(ops.sigmoid(o), y, 0.7, 0.3, 1.0),
        True,
        "constant_factor",
        "enters with the factor 0.3 in torch and 0.7 in keras",
        "(loss): mul (call 4)",
    ),
    "under a logarithm": (
        lambda o, y: -(y * (o.softmax(-1) + 1e-6).log()).sum(-1).mean() + o.pow(2).mean(),
        lambda o, y: -ops.mean(ops.sum(y * ops.log(ops.softmax(o) + 1e-10), -1)) + ops.mean(ops.square(o)),
        True,
        "constant_offset",
        "the number added is 1e-06 in torch and 1e-10 in keras",
        "(loss): add",
    ),
    "another function": (
        lambda o, y: torch.sin(o - y).pow(2).mean(),
        lambda o, y: ops.mean(ops.tanh(o - y) ** 2),
        True,
        "activation",
        "the function is sine in torch and tanh in keras",
        "(loss): sin",
    ),
    "another axis": (
        lambda o, y: (o @ y.T / 0.1).logsumexp(1).mean(),
        lambda o, y: ops.mean(ops.logsumexp(ops.matmul(o, ops.transpose(y)) / 0.1, 0)),
        True,
        "axis",
        "the logarithm of the sum of exponentials is taken over axis",
        "(loss): logsumexp",
    ),
    "a class left out": (
        without_first_torch,
        lambda o, y: ops.mean((o - y) ** 2) + ops.mean(ops.abs(o)),
        True,
        "slice",
        "applies getitem [:, 1:] to (6, 4), which leaves (6, 3), in 2 places",
        "(loss): getitem",
    ),
    "labels off by one": (
        lambda o, y: -o.log_softmax(-1).gather(1, y[:, None]).mean(),
        lambda o, y: -ops.mean(ops.take_along_axis(ops.log_softmax(o), ((y + 1) % CLASSES)[:, None], 1)),
        False,
        "one_sided_operation",
        "the loss of the keras side applies add 1",
        "data",
    ),
    "bounds": (
        lambda o, y: (o - y).clamp(-1, 1).pow(2).mean() + o.mean() ** 2,
        lambda o, y: ops.mean(ops.clip(o - y, -0.5, 0.5) ** 2) + ops.mean(o) ** 2,
        True,
        "clamped_value",
        "values are clamped differently: below -1 in torch and below -0.5 and above 0.5 in keras",
        "(loss): clamp",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_rule_is_named(name: str) -> None:
    of_torch, of_keras, hot, cause, words, place = CASES[name]
    result = xcheck.check(pair(of_torch, of_keras, hot), steps=1, free_steps=0, precision=("float64",))
    first = result.first_divergence
    assert first is not None
    assert (first.phase, first.torch) == ("loss", place), result.report()
    assert {(c.id, c.confirmed) for c in result.causes} == {(cause, True)}, result.report()
    assert any(words in c.summary for c in result.causes), result.report()
    lines = [str(v) for c in result.causes for k, v in c.evidence.items() if k.endswith("_line")]
    assert lines
    assert all("test_followed.py:" in line for line in lines), result.report()


def test_a_healthy_partner_passes() -> None:
    def of_torch(o: Any, y: Any) -> Any:
        return tversky(o.sigmoid(), y, 0.3, 0.7, 1.0)

    def of_keras(o: Any, y: Any) -> Any:
        return tversky(ops.sigmoid(o), y, 0.3, 0.7, 1.0)

    result = xcheck.check(pair(of_torch, of_keras), steps=1, free_steps=0, precision=("float64",))
    assert result.verdict is xcheck.Verdict.EQUIVALENT, result.report()


def test_what_nothing_explains_is_not_confirmed() -> None:
    """Two losses that have nothing to do with each other differ at a place, and no cause is confirmed."""

    def of_torch(o: Any, y: Any) -> Any:
        return (torch.sin(o * y + o).cumsum(0) * torch.cos(y - o * 2)).pow(2).mean().sqrt()

    def of_keras(o: Any, y: Any) -> Any:
        return ops.mean(ops.log(1.0 + ops.exp(o * o - y)) / (2.0 + ops.cos(3 * o)))

    result = xcheck.check(pair(of_torch, of_keras), steps=1, free_steps=0, precision=("float64",))
    assert result.verdict is xcheck.Verdict.DIFFERENT
    assert not [c for c in result.causes if c.confirmed], result.report()
