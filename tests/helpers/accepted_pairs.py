"""Pairs with a difference that one may know and mean, and with a mistake beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import torch
from torch import nn

import xcheck

NORM_MAP = {
    "linear.weight": "linear/kernel",
    "norm.weight": "norm/gamma",
    "norm.bias": "norm/beta",
    "norm.running_mean": "norm/moving_mean",
    "norm.running_var": "norm/moving_variance",
}
LAYERS_MAP = {
    f"{torch}.{mine}": f"{torch}/{theirs}"
    for torch, roles in (
        ("first", (("weight", "kernel"), ("bias", "bias"))),
        ("near", (("weight", "gamma"), ("bias", "beta"))),
        ("second", (("weight", "kernel"), ("bias", "bias"))),
        ("far", (("weight", "gamma"), ("bias", "beta"))),
    )
    for mine, theirs in roles
}


class TorchNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.norm(self.linear(x)))


class TorchLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.near = nn.Linear(4, 3), nn.LayerNorm(3, eps=1e-3)
        self.second, self.far = nn.Linear(3, 3), nn.LayerNorm(3, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.far(self.second(torch.tanh(self.near(self.first(x)))))


def keras_norm(momentum: float = 0.9) -> Any:
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, use_bias=False, name="linear")(inputs)
    x = keras.layers.BatchNormalization(momentum=momentum, epsilon=1e-5, name="norm")(x)
    return keras.Model(inputs, keras.ops.tanh(x))


def keras_layers(near: float = 1e-3, far: float = 1e-3) -> Any:
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, name="first")(inputs)
    x = keras.ops.tanh(keras.layers.LayerNormalization(epsilon=near, name="near")(x))
    x = keras.layers.Dense(3, name="second")(x)
    return keras.Model(inputs, keras.layers.LayerNormalization(epsilon=far, name="far")(x))


def batches(seed: int) -> Iterator[xcheck.Batch]:
    """(B, 4) and (B, 3)."""
    rng = np.random.default_rng(seed)
    while True:
        yield xcheck.Batch(rng.standard_normal((6, 4)), rng.standard_normal((6, 3)))


def pair(torch_model: Any, keras_model: Any, accept: Any, weight_map: Any, rate: float = 0.1) -> xcheck.Pair:
    return xcheck.Pair(
        name="known",
        torch=xcheck.TorchSide(
            torch_model,
            loss=lambda outputs, targets: ((outputs - targets) ** 2).mean(),
            optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        ),
        keras=xcheck.KerasSide(keras_model, loss="mse", optimizer=lambda: keras.optimizers.SGD(rate)),
        batches=batches,
        weight_map=weight_map,
        accept=accept,
    )


def norm(*accept: str, momentum: float = 0.9) -> xcheck.Pair:
    """Keras remembers the biased variance of a batch, and may have another momentum too."""
    return pair(TorchNorm, lambda: keras_norm(momentum), accept, NORM_MAP)


def layers(*accept: str, near: float = 1e-3, far: float = 1e-3, rate: float = 0.1) -> xcheck.Pair:
    """Two layer norms whose epsilons may differ, and a learning rate that may."""
    return pair(TorchLayers, lambda: keras_layers(near, far), accept, LAYERS_MAP, rate)


def adam(*accept: str, decay: float = 0.1) -> xcheck.Pair:
    """Each framework's own AdamW, with a decay of 0.1 in torch."""
    made = layers(*accept)
    return replace(
        made,
        torch=replace(made.torch, optimizer=lambda p: torch.optim.AdamW(p, lr=0.01, eps=1e-3, weight_decay=0.1)),
        keras=replace(made.keras, optimizer=lambda: keras.optimizers.AdamW(0.01, epsilon=1e-3, weight_decay=decay)),
    )


def rates(*accept: str) -> xcheck.Pair:
    """PyTorch gives the first weight a learning rate of its own."""

    def groups(parameters: Any) -> Any:
        first, *others = parameters
        return torch.optim.SGD([{"params": [first], "lr": 0.3}, {"params": others}], lr=0.1)

    made = layers(*accept)
    return replace(made, torch=replace(made.torch, optimizer=groups))


PAIR, WITHOUT = norm(), norm("biased_variance")
