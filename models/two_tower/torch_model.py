"""Two towers that read one table of items, in PyTorch.

Yi et al. 2019, "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations": one tower turns a
history of items into a query, the other an item into a candidate. Both look items up in the same table. A batch is
scored against itself: its other candidates are the negatives, and each score is lowered by how often a candidate is
drawn.

Shapes: B batch, L history, V items, D width, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of the model."""

    items: int = 100
    width: int = 8
    hidden: int = 12


class Tower(nn.Module):
    """A vector to a vector."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, config.hidden)
        self.down = nn.Linear(config.hidden, config.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.relu(self.up(x)))


class TwoTower(nn.Module):
    """Scores of each query of a batch for each of its candidates."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.items = nn.Embedding(config.items, config.width)
        self.query, self.candidate = Tower(config), Tower(config)

    def forward(self, history: torch.Tensor, item: torch.Tensor, log_frequency: torch.Tensor) -> torch.Tensor:
        # history: (B, L); item: (B,); log_frequency: (B,), of the item.
        # The tie: one table is looked up L + 1 times per example, often for the same item.
        query = self.query(self.items(history).mean(dim=1))  # (B, D)
        candidate = self.candidate(self.items(item))  # (B, D)
        return query @ candidate.T - log_frequency  # (B, B)


def build(config: Config) -> TwoTower:
    """The model, with PyTorch's own initial weights."""
    return TwoTower(config)
