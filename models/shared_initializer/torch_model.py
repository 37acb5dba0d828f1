"""Three dense layers that start from He's normal distribution, in PyTorch.

Shapes: B batch, D inputs, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `initializer` is a matter of Keras alone, since PyTorch has no initializer objects."""

    inputs: int = 784
    hidden: tuple[int, ...] = (64, 128)
    classes: int = 10
    initializer: Literal["one", "one_each"] = "one"


def he_normal_(weight: torch.Tensor) -> None:
    """Keras's HeNormal: a normal distribution cut at two standard deviations, and widened to keep its variance."""
    std = math.sqrt(2.0 / weight.shape[1]) / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=std, a=-2.0 * std, b=2.0 * std)


class Net(nn.Module):
    """relu, relu, softmax."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        sizes = [config.inputs, *config.hidden, config.classes]
        layers = [nn.Linear(sizes[i], sizes[i + 1]) for i in range(len(sizes) - 1)]
        for layer in layers:
            he_normal_(layer.weight)  # one generator draws for all layers, so each gets numbers of its own
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # x: (B, D)
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return torch.softmax(self.layers[-1](x), dim=-1)  # (B, C)


def build(config: Config) -> Net:
    """The model, with its initial weights."""
    return Net(config)
