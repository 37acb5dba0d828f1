"""One linear layer used several times, in PyTorch.

Shapes: B batch, D inputs and units, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `sharing` is a matter of Keras alone, the layer is shared here."""

    units: int = 64
    uses: int = 3
    classes: int = 10
    sharing: Literal["transferred", "one_layer"] = "one_layer"


class Net(nn.Module):
    """The layer with a relu, several times over, and a softmax."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.uses = config.uses
        self.dense = nn.Linear(config.units, config.units)
        self.head = nn.Linear(config.units, config.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # x: (B, D)
        for _ in range(self.uses):
            x = torch.relu(self.dense(x))  # (B, D)
        return torch.softmax(self.head(x), dim=-1)  # (B, C)


def build(config: Config) -> Net:
    """The model, with PyTorch's own initial weights."""
    return Net(config)
