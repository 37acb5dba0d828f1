"""One detection head for all levels of a pyramid, in PyTorch.

Lin et al. 2017, "Focal Loss for Dense Object Detection" (RetinaNet): a pyramid of feature maps of several scales, and
one head that is slid over each of them.

Shapes: B batch, H, W height and width of a level, F filters, A anchors per place, K classes, N anchors of all levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `depth` is how many convolutions a head has before its last, `prior` how probable it finds
    each class before it has learned anything."""

    filters: int = 8
    levels: int = 3
    anchors: int = 2
    classes: int = 10
    depth: int = 1
    prior: float = 0.01


class Head(nn.Module):
    """Convolutions that end in `size` numbers for each anchor."""

    def __init__(self, config: Config, size: int, bias: float = 0.0) -> None:
        super().__init__()
        self.size = size
        self.tower = nn.ModuleList(nn.Conv2d(config.filters, config.filters, 3, padding=1) for _ in range(config.depth))
        self.last = nn.Conv2d(config.filters, config.anchors * size, 3, padding=1)
        self.last.bias = nn.Parameter(torch.full((config.anchors * size,), bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # x: (B, F, H, W)
        for conv in self.tower:
            x = torch.relu(conv(x))
        x = self.last(x).permute(0, 2, 3, 1)  # (B, H, W, A * size): places first, or anchors of one place part
        return x.reshape(x.shape[0], -1, self.size)  # (B, H * W * A, size)


class Detector(nn.Module):
    """Backbone, pyramid, and two heads that every level shares."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, config.filters, 3, stride=2, padding=1)
        n = config.filters
        self.stages = nn.ModuleList(nn.Conv2d(n, n, 3, stride=2, padding=1) for _ in range(config.levels))
        self.laterals = nn.ModuleList(nn.Conv2d(n, n, 1) for _ in range(config.levels))
        self.classes = Head(config, config.classes, bias=-math.log((1 - config.prior) / config.prior))
        self.boxes = Head(config, 4)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        # image: (B, 1, H, W)
        x = torch.relu(self.stem(image))
        maps = []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            x = torch.relu(stage(x))
            maps.append(lateral(x))  # (B, F, H, W), halved from level to level
        for i in reversed(range(len(maps) - 1)):
            maps[i] = maps[i] + F.interpolate(maps[i + 1], scale_factor=2, mode="nearest")
        # The tie: each head is one module, called for every level.
        return {
            name: torch.cat([head(level) for level in maps], dim=1)  # (B, N, K), (B, N, 4)
            for name, head in (("classes", self.classes), ("boxes", self.boxes))
        }


def focal_loss(logits: torch.Tensor, labels: torch.Tensor, alpha: float = 0.25, gamma: float = 2.0) -> torch.Tensor:
    """Cross-entropy that looks away from what is easy, per object; labels are 1, 0, or -1 for what does not count."""
    p = torch.sigmoid(logits)
    right = torch.where(labels == 1, p, 1 - p)
    weight = torch.where(labels == 1, alpha, 1 - alpha) * (1 - right) ** gamma * (labels >= 0)
    entropy = F.binary_cross_entropy_with_logits(logits, (labels == 1).to(logits.dtype), reduction="none")
    return (weight * entropy).sum() / (labels == 1).sum().clamp(min=1)


def box_loss(boxes: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Absolute error, squared near zero, per object; `wanted` (B, N, 5) ends in whether there is an object."""
    there = wanted[..., 4:]
    error = F.smooth_l1_loss(boxes, wanted[..., :4], reduction="none", beta=1.0)
    return (error * there).sum() / there.sum().clamp(min=1)


def build(config: Config) -> Detector:
    """The model, with PyTorch's own initial weights."""
    return Detector(config)
