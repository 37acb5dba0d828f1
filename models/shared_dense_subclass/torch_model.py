"""One linear layer used twice, in PyTorch, and two layers that merely start equal.

Shapes: B batch, D inputs and units, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `second` says what the second layer is."""

    units: int = 64
    classes: int = 10
    second: Literal["same_layer", "same_initializer"] = "same_layer"


class Net(nn.Module):
    """Two relus and a softmax."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dense = nn.Linear(config.units, config.units)
        if config.second == "same_initializer":  # two layers, equal at the start
            self.other = nn.Linear(config.units, config.units)
            self.other.load_state_dict(self.dense.state_dict())
        else:
            self.other = self.dense
        self.head = nn.Linear(config.units, config.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # x: (B, D)
        x = torch.relu(self.dense(x))  # (B, D)
        x = torch.relu(self.other(x))  # (B, D)
        return torch.softmax(self.head(x), dim=-1)  # (B, C)


def build(config: Config) -> Net:
    """The model, with PyTorch's own initial weights."""
    return Net(config)
