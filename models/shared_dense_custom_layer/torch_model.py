"""A layer of one's own that is called several times, in PyTorch.

Shapes: B batch, D inputs, U units, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of the model; a layer that is called on what it gave needs as many inputs as units."""

    inputs: int = 64
    units: int = 64
    uses: int = 2
    classes: int = 10


class SharedDense(nn.Module):
    """relu(x @ weight + bias), with the weight laid out as Keras does."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(inputs, units)))
        self.bias = nn.Parameter(torch.zeros(units))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # x: (B, D)
        if x.shape[-1] != self.weight.shape[0]:
            raise ValueError(
                f"this layer's weight is {tuple(self.weight.shape)} and takes inputs (..., {self.weight.shape[0]}), "
                f"but it was called on {tuple(x.shape)}: a layer can be called on what it gave only if it has as many "
                "inputs as units"
            )
        return torch.relu(x @ self.weight + self.bias)  # (B, U)


class Net(nn.Module):
    """The layer, several times over, and a softmax."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.uses = config.uses
        self.shared = SharedDense(config.inputs, config.units)
        self.head = nn.Linear(config.units, config.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # x: (B, D)
        for _ in range(self.uses):
            x = self.shared(x)  # (B, U)
        return torch.softmax(self.head(x), dim=-1)  # (B, C)


def build(config: Config) -> Net:
    """The model, with its initial weights."""
    return Net(config)
