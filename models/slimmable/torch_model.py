"""One network at several widths: each width uses the first channels of the same kernels, in PyTorch.

Yu et al. 2018, "Slimmable Neural Networks": every width sees each batch and their losses are added up, so a kernel
collects the gradient of all widths it takes part in. Normalization is not shared: each width has its own statistics.

Shapes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Config:
    """Sizes of the model: `channels` of the widest network, and how many of them each network uses."""

    channels: int = 8
    widths: tuple[int, ...] = (4, 8)
    classes: int = 10


class SlimmableConv(nn.Module):
    """A 3x3 convolution that can be used with fewer channels than it has."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.whole = nn.Conv2d(inputs, outputs, 3, bias=False)

    def forward(self, x: torch.Tensor, outputs: int) -> torch.Tensor:
        # x: (B, C, H, W), of the first C input channels; weight: (outputs, inputs, 3, 3)
        return F.conv2d(x, self.whole.weight[:outputs, : x.shape[1]], padding=1)


class SlimmableLinear(nn.Module):
    """A linear layer that can be used with fewer inputs than it has."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.whole = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # x: (B, C); weight: (K, inputs)
        return F.linear(x, self.whole.weight[:, : x.shape[-1]], self.whole.bias)


class Slimmable(nn.Module):
    """Two convolutions and a classifier, run once per width."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.widths = config.widths
        self.conv_0 = SlimmableConv(1, config.channels)
        self.conv_1 = SlimmableConv(config.channels, config.channels)
        self.norms_0 = nn.ModuleList(nn.BatchNorm2d(width) for width in config.widths)
        self.norms_1 = nn.ModuleList(nn.BatchNorm2d(width) for width in config.widths)
        self.head = SlimmableLinear(config.channels, config.classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # image: (B, 1, H, W)
        logits = []
        for i, width in enumerate(self.widths):
            x = torch.relu(self.norms_0[i](self.conv_0(image, width)))  # (B, width, H, W)
            x = torch.relu(self.norms_1[i](self.conv_1(x, width)))  # (B, width, H, W)
            logits.append(self.head(x.mean((2, 3))))  # (B, K)
        return torch.stack(logits, 1)  # (B, widths, K)


def build(config: Config) -> Slimmable:
    """The model, with PyTorch's own initial weights."""
    return Slimmable(config)
