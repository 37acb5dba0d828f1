"""A forecaster whose stacks repeat one block, in PyTorch.

Oreshkin et al. 2020, "N-BEATS": a block reads what is left of the series, explains a part of it (the backcast, which
is taken away) and adds its share to the forecast. In the interpretable configuration all blocks of a stack are one
block.

Shapes: B batch, T past values, H future values, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of the model.

    `listed` has the usual mistake: the stacks in a plain list, where PyTorch does not see their parameters.
    """

    past: int = 10
    future: int = 3
    width: int = 8
    stacks: int = 2
    repeats: int = 3
    listed: bool = False


class Block(nn.Module):
    """Two layers, and a linear head each for the backcast and the forecast."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.hidden_0 = nn.Linear(config.past, config.width)
        self.hidden_1 = nn.Linear(config.width, config.width)
        self.backcast = nn.Linear(config.width, config.past, bias=False)
        self.forecast = nn.Linear(config.width, config.future, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # x: (B, T)
        h = torch.relu(self.hidden_1(torch.relu(self.hidden_0(x))))  # (B, W)
        return self.backcast(h), self.forecast(h)  # (B, T), (B, H)


class Forecaster(nn.Module):
    """Each stack applies its one block several times."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.repeats = config.repeats
        blocks = [Block(config) for _ in range(config.stacks)]
        self.scale = nn.Parameter(torch.ones(1))
        self.stacks = blocks if config.listed else nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # x: (B, T)
        forecasts = []
        for block in self.stacks:
            for _ in range(self.repeats):
                backcast, forecast = block(x)
                x = x - backcast
                forecasts.append(forecast)
        return self.scale * torch.stack(forecasts).sum(0)  # (B, H)


def build(config: Config) -> Forecaster:
    """The model, with PyTorch's own initial weights."""
    return Forecaster(config)
