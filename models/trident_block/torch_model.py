"""One block at three dilations, in PyTorch.

Li et al. 2019, "Scale-Aware Trident Networks for Object Detection": three branches of one bottleneck block share all
weights and differ in the dilation of their 3x3 convolution, so that each sees objects of another size alike. All are
trained; a trained model uses the middle one. Batch normalization is frozen, as in detectors.

Shapes: B batch, H height and width, F filters, M bottleneck, K classes, N branches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `used` is the branch of a trained model."""

    filters: int = 8
    bottleneck: int = 4
    classes: int = 10
    dilations: tuple[int, ...] = (1, 2, 3)
    used: int = 1
    stride: int = 2


class FrozenNorm(nn.BatchNorm2d):
    """A batch normalization that keeps what it has; it starts from statistics such as a trained one would have."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        for name in ("weight", "running_var"):
            nn.init.uniform_(getattr(self, name), 0.5, 1.5)
        for name in ("bias", "running_mean"):
            nn.init.uniform_(getattr(self, name), -0.2, 0.2)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> FrozenNorm:
        return super().train(False)


class TridentNet(nn.Module):
    """Stem, one bottleneck block of several branches, and a head on each branch."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(1, config.filters, 3, padding=1)
        self.reduce = nn.Conv2d(config.filters, config.bottleneck, 1, bias=False)
        self.reduce_norm = FrozenNorm(config.bottleneck)
        self.kernel = nn.Parameter(torch.empty(config.bottleneck, config.bottleneck, 3, 3))
        nn.init.kaiming_uniform_(self.kernel, nonlinearity="relu")
        self.kernel_norm = FrozenNorm(config.bottleneck)
        self.expand = nn.Conv2d(config.bottleneck, config.filters, 1, bias=False)
        self.expand_norm = FrozenNorm(config.filters)
        self.shortcut = nn.Conv2d(config.filters, config.filters, 1, stride=config.stride, bias=False)
        self.shortcut_norm = FrozenNorm(config.filters)
        self.head = nn.Linear(config.filters, config.classes)

    def branch(self, x: torch.Tensor, dilation: int) -> torch.Tensor:
        # x: (B, F, H, H). The tie: the same kernel and the same norms, whatever the dilation.
        y = torch.relu(self.reduce_norm(self.reduce(x)))  # (B, M, H, H)
        y = F.conv2d(y, self.kernel, stride=self.config.stride, padding=dilation, dilation=dilation)
        y = torch.relu(self.kernel_norm(y))  # (B, M, H / stride, H / stride)
        y = self.expand_norm(self.expand(y)) + self.shortcut_norm(self.shortcut(x))
        return self.head(torch.relu(y).mean(dim=(2, 3)))  # (B, K)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # image: (B, 1, H, H)
        x = torch.relu(self.stem(image))
        dilations = self.config.dilations if self.training else [self.config.dilations[self.config.used]]
        return torch.stack([self.branch(x, d) for d in dilations], dim=1)  # (B, N, K), N = 1 in use


def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Each branch is to find the label."""
    return F.cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(logits.shape[1]))


def build(config: Config) -> TridentNet:
    """The model, with PyTorch's own initial weights."""
    return TridentNet(config)
