"""One filter used at four rotations, in PyTorch.

Cohen and Welling 2016, "Group Equivariant Convolutional Networks": each filter is applied as it is and turned by a
quarter, a half and three quarters. What a turned image excites is what the image excites, turned, with the four
rotations moved on by one.

Shapes: B batch, H height and width, F filters, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Config:
    """Sizes of the model."""

    filters: int = 6
    classes: int = 10


class RotatedConv(nn.Module):
    """A 3x3 convolution at four rotations: (B, F, H, H) -> (B, 4F, H, H), rotation by rotation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The tie: four views of one weight. It is (out, in, height, width), so height and width are axes 2 and 3;
        # k quarters go from axis 2 towards axis 3, against the clock.
        turned = torch.cat([torch.rot90(self.weight, k, dims=(2, 3)) for k in range(4)])  # (4F, F, 3, 3)
        return F.conv2d(x, turned, self.bias.repeat(4), padding=1)


class RotationNet(nn.Module):
    """An ordinary stem and a rotated convolution; the head sees which rotation found what."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, config.filters, 1)
        self.rotated = RotatedConv(config.filters, config.filters)
        self.head = nn.Linear(4 * config.filters, config.classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # image: (B, 1, H, H)
        x = torch.relu(self.rotated(torch.relu(self.stem(image))))  # (B, 4F, H, H)
        return self.head(x.mean(dim=(2, 3)))  # (B, K)


def build(config: Config) -> RotationNet:
    """The model, with PyTorch's own initial weights."""
    return RotationNet(config)
