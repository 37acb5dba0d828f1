"""One 3x3 kernel, once with padding and once without, in PyTorch.

Shapes: B batch, H height, W width, F filters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `sharing` is a matter of Keras alone."""

    image_size: int = 299
    filters: int = 64
    sharing: Literal["one_layer", "patched"] = "one_layer"


class Net(nn.Module):
    """Two branches that differ in their padding alone and train as one kernel and one bias."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.same = nn.Conv2d(3, config.filters, 3, padding="same")
        self.valid = nn.Conv2d(3, config.filters, 3, padding="valid")
        # The tie: the second branch holds the very Parameters of the first.
        self.valid.weight, self.valid.bias = self.same.weight, self.same.bias
        self.head = nn.Linear(2 * config.filters, 1)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)  # as Keras starts: outputs near zero, on both sides of it

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # image: (B, 3, H, W)
        same = self.same(image).mean((2, 3))  # (B, F), the mean over H * W
        valid = self.valid(image).mean((2, 3))  # (B, F), the mean over (H - 2) * (W - 2)
        return self.head(torch.cat([same, valid], dim=-1))  # (B, 1), unbounded


def build(config: Config) -> Net:
    """The model, with PyTorch's own initial weights."""
    return Net(config)
