"""One 3x3 kernel seen at three dilations, in PyTorch.

Shapes: B batch, C channels, H height, W width, F filters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of the model."""

    image_size: int = 10
    filters: int = 4
    classes: int = 10
    dilations: tuple[int, ...] = (1, 2, 3)
    head: Literal["flat", "per_pixel"] = "flat"


class DilatedConv(nn.Module):
    """Branches that differ in their dilation alone and train as one kernel and one bias."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.branches = nn.ModuleList(nn.Conv2d(1, config.filters, 3, dilation=d, padding=d) for d in config.dilations)
        # The tie: every branch holds the very Parameter of the first.
        for branch in self.branches[1:]:
            branch.weight, branch.bias = self.branches[0].weight, self.branches[0].bias
        features = config.filters * len(config.dilations)
        if config.head == "flat":
            features *= config.image_size**2
        self.head = nn.Linear(features, config.classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # image: (B, 1, H, W)
        maps = [torch.relu(branch(image)) for branch in self.branches]  # each (B, F, H, W)
        x = torch.cat(maps, dim=1).permute(0, 2, 3, 1)  # (B, H, W, 3F)
        if self.config.head == "flat":
            x = x.flatten(1)  # (B, H * W * 3F)
        return torch.softmax(self.head(x), dim=-1)


def build(config: Config) -> DilatedConv:
    """The model, with PyTorch's own initial weights."""
    return DilatedConv(config)
