"""Two LSTM layers whose kernels are kept at unit norm, in PyTorch.

Shapes: B batch, T time, U units of the first layer, V of the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

EPSILON = 1e-7
"""Keras adds it to every norm that it divides by, so that the norms come out at 1 - 1e-7."""


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `constraint` is a matter of Keras alone, and `trained_biases` of PyTorch alone."""

    units: tuple[int, int] = (64, 32)
    constraint: Literal["one", "one_each"] = "one"
    trained_biases: Literal[1, 2] = 1


class Net(nn.Module):
    """Two layers over time, and a number from the last step."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.first = nn.LSTM(1, config.units[0], batch_first=True)
        self.second = nn.LSTM(*config.units, batch_first=True)
        self.head = nn.Linear(config.units[1], 1)
        for name, bias in self.named_parameters():
            if "bias_hh" in name and config.trained_biases == 1:  # PyTorch adds two biases, Keras has their sum
                nn.init.zeros_(bias).requires_grad_(False)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        # series: (B, T, 1)
        x, _ = self.first(series)  # (B, T, U)
        x, _ = self.second(x)  # (B, T, V)
        return self.head(x[:, -1])  # (B, 1)


def project(model: Net, dim: int = 1) -> None:
    """Scale every kernel to unit norm, after each step of the optimizer.

    Each is (4 gates * units, inputs), so that dimension 1 holds what flows into one unit by one gate.
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "weight_ih" in name or "weight_hh" in name:
                weight /= EPSILON + weight.norm(dim=dim, keepdim=True)


def build(config: Config) -> Net:
    """The model, with PyTorch's own initial weights."""
    return Net(config)
