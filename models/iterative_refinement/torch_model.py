"""An estimate refined by one recurrent block, with a loss after each iteration, in PyTorch.

After Teed and Deng 2020, "RAFT": one convolutional GRU is applied K times; each time it sees the estimate so far, and
what it adds is judged by itself, since the estimate it starts from carries no gradient. Here an image loses its noise.

Shapes: B batch, C channels, H height, W width, K iterations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of the model."""

    channels: int = 4
    iterations: int = 3


class UpdateBlock(nn.Module):
    """A convolutional GRU and the change it makes to the estimate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.update = nn.Conv2d(2 * channels + 1, channels, 3, padding=1)
        self.reset = nn.Conv2d(2 * channels + 1, channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels + 1, channels, 3, padding=1)
        self.change = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(
        self, h: torch.Tensor, features: torch.Tensor, estimate: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # h, features: (B, C, H, W); estimate: (B, 1, H, W)
        x = torch.cat([h, features, estimate], 1)  # (B, 2C + 1, H, W)
        z = torch.sigmoid(self.update(x))
        r = torch.sigmoid(self.reset(x))
        q = torch.tanh(self.candidate(torch.cat([r * h, features, estimate], 1)))
        h = (1 - z) * h + z * q
        return h, self.change(h)  # (B, C, H, W), (B, 1, H, W)


class Refinement(nn.Module):
    """Features once, then the block K times."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.iterations = config.iterations
        self.features = nn.Conv2d(1, config.channels, 3, padding=1)
        self.start = nn.Conv2d(1, config.channels, 3, padding=1)
        self.block = UpdateBlock(config.channels)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # image: (B, 1, H, W)
        features = torch.relu(self.features(image))  # (B, C, H, W)
        h = torch.tanh(self.start(image))  # (B, C, H, W)
        estimate, estimates = image, []
        for _ in range(self.iterations):
            estimate = estimate.detach()
            h, change = self.block(h, features, estimate)
            estimate = estimate + change
            estimates.append(estimate)
        return torch.stack(estimates, 1).squeeze(2)  # (B, K, H, W)


def sequence_loss(estimates: torch.Tensor, truth: torch.Tensor, gamma: float = 0.8) -> torch.Tensor:
    """Mean absolute error of each iteration, the last one weighted 1, the one before it gamma, and so on."""
    each = (estimates - truth).abs().mean((0, 2, 3))  # (K,)
    weights = gamma ** torch.arange(len(each) - 1, -1, -1).to(each)
    return (weights * each).sum()


def build(config: Config) -> Refinement:
    """The model, with PyTorch's own initial weights."""
    return Refinement(config)
