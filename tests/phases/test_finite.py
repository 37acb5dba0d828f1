"""Numbers that are not finite: on both sides nothing is judged, on one side it is a difference, and no run breaks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import xcheck
from xcheck.records.result import Verdict

NAN = float("nan")
ops: Any = keras.ops


def torch_model() -> Any:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))


def keras_model() -> Any:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, activation="relu"), keras.layers.Dense(2)])


def torch_loss(outputs: Any, targets: Any) -> Any:
    return ((outputs - targets) ** 2).mean()


def keras_loss(targets: Any, outputs: Any) -> Any:
    return ops.mean((outputs - targets) ** 2, axis=-1)


def pair(
    models: tuple[Any, Any] = (torch_model, keras_model),
    losses: tuple[Any, Any] = (torch_loss, keras_loss),
    *,
    inputs: Any = lambda rng: rng.standard_normal((6, 4)),
    rate: float = 0.01,
    outputs: int = 2,
) -> xcheck.Pair:
    def batches(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(inputs(rng), rng.standard_normal((6, outputs)))

    def sgd(parameters: Any) -> Any:
        return torch.optim.SGD(parameters, lr=rate)

    return xcheck.Pair(
        "not finite",
        xcheck.TorchSide(models[0], loss=losses[0], optimizer=sgd),
        xcheck.KerasSide(models[1], loss=losses[1], optimizer=lambda: keras.optimizers.SGD(rate)),
        batches,
    )


def check(of: xcheck.Pair, **options: Any) -> xcheck.Result:
    return xcheck.check(of, **{"steps": 1, "precision": ("float64",), "free_steps": 0, **options})


def some_nan(rng: Any) -> Any:
    x = rng.standard_normal((6, 4))
    x[0, 0] = NAN
    return x


BOTH = {
    "inputs": pair(inputs=some_nan),
    "loss": pair(losses=(lambda o, t: torch_loss(o, t) * NAN, lambda t, o: keras_loss(t, o) * NAN)),
    "gradient": pair(
        losses=(
            lambda o, t: (o - t).pow(2).sum().mul(0).sqrt(),
            lambda t, o: ops.sqrt(ops.sum((o - t) ** 2) * 0),
        )
    ),
}


@pytest.mark.parametrize("name", BOTH)
def test_what_is_not_finite_on_both_sides_is_not_judged_in_any_phase(name: str) -> None:
    result = check(BOTH[name], steps=2)
    assert result.verdict is Verdict.INCONCLUSIVE, result.report()
    assert result.first_divergence is None
    assert not result.causes


def rooted(t: Any) -> Any:
    return t.clamp(min=0).sqrt()


ONE: dict[str, xcheck.Pair] = {
    "loss": pair(losses=(torch_loss, lambda t, o: keras_loss(t, o) * NAN)),
    "output": pair(
        models=(
            torch_model,
            lambda: keras.Sequential([*keras_model().layers, keras.layers.Lambda(lambda x: ops.log(x))]),
        )
    ),
    "gradient": pair(
        losses=(
            torch_loss,
            lambda t, o: keras_loss(t, o) + ops.sqrt(0 * ops.sum(o)),
        )
    ),
    "inputs of a layer": pair(
        models=(
            torch_model,
            lambda: keras.Sequential(
                [
                    keras.Input((4,)),
                    keras.layers.Lambda(lambda x: x / ops.cast(x > 0, x.dtype)),
                    *keras_model().layers,
                ]
            ),
        )
    ),
}


@pytest.mark.parametrize("name", ONE)
def test_what_is_not_finite_on_one_side_is_a_difference_and_ends_no_run(name: str) -> None:
    result = check(ONE[name], steps=2)
    assert result.verdict is Verdict.DIFFERENT, result.report()
    assert result.failure is None
    assert not any(cause.confirmed for cause in result.causes), result.report()


def test_a_training_that_overflows_on_both_sides_is_judged_by_the_steps_before() -> None:
    result = check(pair(inputs=lambda rng: 1e3 * rng.standard_normal((6, 4)), rate=0.1), steps=6, free_steps=8)
    assert result.verdict is Verdict.EQUIVALENT, result.report()
    assert any("overflows in float64" in note for note in result.notes)
    assert not any("which changed what is tied" in note for note in result.notes)
    assert 2 <= max(c.step or 0 for c in result.checks if c.phase == "gradient") < 6


def test_an_overflow_in_the_first_steps_is_no_pass() -> None:
    result = check(pair(inputs=lambda rng: 1e200 * rng.standard_normal((6, 4))), steps=2)
    assert result.verdict is Verdict.INCONCLUSIVE, result.report()


def softplus(own: bool, scale: float) -> xcheck.Pair:
    def in_torch() -> Any:
        class Softplus(nn.Module):
            def forward(self, x: Any) -> Any:
                return -F.logsigmoid(-x)  # nn.Softplus is linear from 20 on, 2e-9 off

        return nn.Sequential(Softplus(), nn.Linear(4, 2))

    def in_keras() -> Any:
        x = keras.Input((4,))
        made: Any = ops.log(1 + ops.exp(x)) if own else ops.softplus(x)
        return keras.Model(x, keras.layers.Dense(2)(made))

    return pair((in_torch, in_keras), inputs=lambda rng: np.abs(scale * rng.standard_normal((6, 4))), rate=1e-6)


def test_a_side_that_overflows_in_float32_is_different_there() -> None:
    both = ("float64", "float32")
    result = check(softplus(True, 60.0), precision=both, reach="none")
    assert result.verdict is Verdict.DIFFERENT, result.report()
    assert result.first_divergence is not None
    assert (result.first_divergence.phase, result.first_divergence.precision) == ("forward", "float32")
    assert all(c.verdict is Verdict.EQUIVALENT for c in result.checks if c.precision == "float64")
    assert check(softplus(True, 3.0), precision=both).verdict is Verdict.EQUIVALENT
    assert check(softplus(False, 60.0), precision=both).verdict is Verdict.EQUIVALENT


def variance(own: bool) -> xcheck.Pair:
    def in_torch() -> Any:
        class Norm(nn.Module):
            def forward(self, x: Any) -> Any:
                return F.layer_norm(x, (4,))

        return nn.Sequential(Norm(), nn.Linear(4, 2))

    def in_keras() -> Any:
        def norm(x: Any) -> Any:
            mean = ops.mean(x, axis=-1, keepdims=True)
            squares = ops.mean(x * x, axis=-1, keepdims=True) - mean * mean
            return (x - mean) / ops.sqrt(ops.maximum(squares, 0.0) + 1e-5)

        x = keras.Input((4,))
        made: Any = norm(x) if own else keras.layers.LayerNormalization(center=False, scale=False, epsilon=1e-5)(x)
        return keras.Model(x, keras.layers.Dense(2)(made))

    return pair((in_torch, in_keras), inputs=lambda rng: 2000 + rng.standard_normal((6, 4)))


def test_a_side_that_is_per_cents_off_in_float32_is_different_there() -> None:
    result = check(variance(True), precision=("float64", "float32"))
    assert result.verdict is Verdict.DIFFERENT, result.report()
    assert result.first_divergence is not None
    assert result.first_divergence.precision == "float32"
    worst = next(c for c in result.checks if c.verdict is Verdict.DIFFERENT)
    assert "the keras side fails in float32" in worst.detail


@pytest.mark.parametrize("fill", [(-np.inf, -np.inf), (-1.7e308, -np.inf), (-np.inf, -1.7e308), (1e200, 1e200)])
def test_a_sum_with_huge_or_infinite_terms_ends_no_search_for_a_cause(fill: tuple[float, float]) -> None:
    """A window that holds only padding, which the comparison leaves out; the scores differ elsewhere."""
    kept = np.array([True, True, False])

    class Window(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score = nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            mask = torch.zeros(3).masked_fill(~torch.from_numpy(kept)[:, None], fill[0])
            return (self.score(x) * 1.01 + mask).softmax(-1)

    def in_keras() -> Any:
        x = keras.Input((3, 4))
        mask = np.where(kept[:, None], 0.0, fill[1]) + np.zeros((3, 3))
        return keras.Model(x, ops.softmax(keras.layers.Dense(3)(x) + ops.convert_to_tensor(mask, "float64"), axis=-1))

    def batches(seed: int) -> Iterator[xcheck.Batch]:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal((5, 3, 4)), compare={"output": np.broadcast_to(kept, (5, 3))})

    made = xcheck.Pair("window", xcheck.TorchSide(Window), xcheck.KerasSide(in_keras), batches)
    result = check(made)
    assert result.verdict in (Verdict.DIFFERENT, Verdict.INCONCLUSIVE)
    assert result.failure is None
    if result.verdict is Verdict.DIFFERENT:
        assert {cause.id for cause in result.causes if cause.confirmed} <= {"constant_factor"}, result.report()
