"""Running statistics that differ: the convention, the variance, the order and the count of the calls, each proven."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import torch
from setups import run
from torch import nn

import xcheck

MAP = {
    "linear.weight": "linear/kernel",
    "norm.weight": "norm/gamma",
    "norm.bias": "norm/beta",
    "norm.running_mean": "norm/moving_mean",
    "norm.running_var": "norm/moving_variance",
}


class Views(nn.Module):
    """Several inputs (B, 4) through one norm, added up: (B, 3)."""

    def __init__(self, order: tuple[int, ...] = (0, 1), joined: bool = False, **norm: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)
        self.norm = nn.BatchNorm1d(3, **norm)
        self.order, self.joined = order, joined

    def forward(self, *views: torch.Tensor) -> torch.Tensor:
        if self.joined:
            return torch.tanh(self.norm(self.linear(torch.cat(views)))).split(len(views[0]))[0]
        made = {i: torch.tanh(self.norm(self.linear(views[i]))) for i in self.order}
        return made[0] + 2 * made[1]


class Unbiased(keras.layers.BatchNormalization):
    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        before = keras.ops.copy(self.moving_variance)
        outputs = super().call(inputs, training=training, mask=mask)
        if training:
            kept, n = before * self.momentum, inputs.shape[0]
            self.moving_variance.assign(kept + (self.moving_variance - kept) * (n / (n - 1)))
        return outputs


class KerasViews(keras.Model):
    def __init__(self, kind: Any = Unbiased, joined: bool = False, moved: int = 2, **norm: Any) -> None:
        super().__init__()
        self.linear = keras.layers.Dense(3, use_bias=False, name="linear")
        self.norm = kind(**{"momentum": 0.9, "epsilon": 1e-5, **norm}, name="norm")
        self.joined, self.moved = joined, moved

    def call(self, views: Any, training: Any = None) -> Any:
        if self.joined:
            both = keras.ops.tanh(self.norm(self.linear(keras.ops.concatenate(list(views))), training=training))
            first, second = keras.ops.split(both, 2)
            return first + 2 * second
        first = keras.ops.tanh(self.norm(self.linear(views[0]), training=training))
        kept = [keras.ops.copy(v) for v in self.norm.non_trainable_variables]
        second = keras.ops.tanh(self.norm(self.linear(views[1]), training=training))
        if training and self.moved == 1:
            for variable, value in zip(self.norm.non_trainable_variables, kept, strict=True):
                variable.assign(value)
        return first + 2 * second


def batches(seed: int) -> Iterator[xcheck.Batch]:
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(tuple(rng.standard_normal((6, 4)) * s + s for s in (1.0, 3.0)), rng.standard_normal((6, 3)))


def views(torch_parts: Callable[[], Any] = Views, keras_parts: Callable[[], Any] = KerasViews) -> xcheck.Pair:
    return xcheck.Pair(
        name="views",
        torch=xcheck.TorchSide(torch_parts, loss=nn.functional.mse_loss, optimizer=lambda p: torch.optim.SGD(p, 0.1)),
        keras=xcheck.KerasSide(
            keras_parts, loss="mean_squared_error", optimizer=lambda: keras.optimizers.SGD(0.1), prepare=listed
        ),
        batches=batches,
        weight_map={path: f"keras_views/{other}" for path, other in MAP.items()},
    )


def listed(batch: xcheck.Batch) -> Any:
    return list(batch.inputs), batch.targets


def test_the_port_is_the_same_computation() -> None:
    assert run(views()).verdict == "EQUIVALENT"


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "the same number": ({}, {"momentum": 0.1}, ["momentum_convention"]),
    "Keras's default": ({}, {"momentum": 0.99}, ["momentum"]),
    "the biased variance": ({}, {"kind": keras.layers.BatchNormalization}, ["biased_variance"]),
    "two at once": ({}, {"kind": keras.layers.BatchNormalization, "momentum": 0.99}, ["momentum", "biased_variance"]),
    "the other order": ({"order": (1, 0)}, {}, ["call_order"]),
    "one call that is not counted": ({}, {"moved": 1}, ["statistics_updates"]),
}


@pytest.mark.parametrize("name", CASES)
def test_what_differs_in_running_statistics_alone(name: str) -> None:
    in_torch, in_keras, expected = CASES[name]
    result = run(views(lambda: Views(**in_torch), lambda: KerasViews(**in_keras)))
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "state"
    assert [(c.id, c.confirmed) for c in result.causes] == [(cause, True) for cause in expected]


def test_statistics_that_are_bent_besides_have_no_cause() -> None:
    class Bent(Unbiased):
        def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            outputs = super().call(inputs, training=training, mask=mask)
            if training:
                self.moving_mean.assign(keras.ops.tanh(self.moving_mean))
            return outputs

    result = run(views(keras_parts=lambda: KerasViews(kind=Bent, momentum=0.99)))
    assert result.verdict == "DIFFERENT"
    assert not [c for c in result.causes if c.confirmed]


def test_one_call_for_both_views() -> None:
    result = run(views(keras_parts=lambda: KerasViews(joined=True)))
    (cause,) = result.causes
    assert (cause.id, cause.phase, cause.confirmed) == ("joined_batches", "forward", True)
    assert result.first_divergence is not None
    assert (result.first_divergence.torch, result.first_divergence.keras) == ("norm", "keras_views/norm")
    assert cause.evidence["after"] < 1e-12 < cause.evidence["before"]


def test_one_call_for_both_views_by_another_epsilon_is_not_proven() -> None:
    class Odd(Unbiased):
        def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            return super().call(inputs, training=training, mask=mask) + (0.01 if training else 0.0)

    result = run(views(keras_parts=lambda: KerasViews(kind=Odd, joined=True)))
    assert result.verdict == "DIFFERENT"
    assert "joined_batches" not in {c.id for c in result.causes}
