"""Three dense layers, two of them penalized, each in its own way, in PyTorch.

Shapes: B batch, D inputs, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of the model, and the factors of its penalties."""

    inputs: int = 784
    hidden: tuple[int, int] = (64, 128)
    classes: int = 10
    l2: float = 0.01
    l1: float = 0.005


class Net(nn.Module):
    """relu, relu, softmax."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Linear(config.inputs, config.hidden[0])
        self.second = nn.Linear(*config.hidden)
        self.last = nn.Linear(config.hidden[1], config.classes)
        nn.init.xavier_uniform_(self.first.weight)
        nn.init.kaiming_normal_(self.second.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # x: (B, D)
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x))
        return torch.softmax(self.last(x), dim=-1)  # (B, C)


def penalties(model: Net) -> dict[str, torch.Tensor]:
    """What Keras calls L2 and L1: a * sum(w^2), of which the gradient is 2 * a * w, and a * sum(|w|). Biases are free.

    PyTorch's `weight_decay=a` is neither: it is no term of the loss, and adds a * w to the gradient.
    """
    return {
        "first.weight": model.config.l2 * model.first.weight.square().sum(),
        "second.weight": model.config.l1 * model.second.weight.abs().sum(),
    }


def build(config: Config) -> Net:
    """The model, with its initial weights."""
    return Net(config)
