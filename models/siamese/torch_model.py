"""One encoder that sees two images, in PyTorch.

Hadsell, Chopra and LeCun 2006, "Dimensionality Reduction by Learning an Invariant Mapping": both images go through
the same encoder, and a contrastive loss pulls equal pairs together and pushes others apart.

Shapes: B batch, H height and width, F filters, E embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Config:
    """Sizes of the model."""

    image_size: int = 8
    filters: int = 6
    embedding: int = 5


class Encoder(nn.Module):
    """An image to a point."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, config.filters, 3, padding=1)
        self.norm = nn.BatchNorm2d(config.filters)
        features = config.filters * (config.image_size // 2) ** 2
        self.head = nn.Linear(features, config.embedding, bias=False)  # a bias would cancel in the distance

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # image: (B, 1, H, H)
        x = torch.relu(self.norm(self.conv(image)))  # (B, F, H, H)
        x = F.avg_pool2d(x, 2).permute(0, 2, 3, 1)  # (B, H / 2, H / 2, F)
        return self.head(x.flatten(1))  # (B, E)


class Siamese(nn.Module):
    """The distance between what one encoder makes of two images."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.encoder = Encoder(config)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        # left, right: (B, 1, H, H). The tie: one module called twice, and its batch norm sees two batches.
        return F.pairwise_distance(self.encoder(left), self.encoder(right), keepdim=True)  # (B, 1)


def contrastive_loss(distance: torch.Tensor, same: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
    """Half the squared distance of equal pairs, half the squared shortfall to the margin of others."""
    return (same * distance**2 + (1 - same) * torch.relu(margin - distance) ** 2).mean() / 2


def build(config: Config) -> Siamese:
    """The model, with PyTorch's own initial weights."""
    return Siamese(config)
