"""One penalized layer applied to several inputs, in PyTorch.

Shapes: B batch, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of the model."""

    features: int = 5
    uses: int = 2
    trainable: bool = True


class SharedSubmodel(nn.Module):
    """A sub-model without bias used on each input, and a frozen sum of what it gives."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.shared = nn.Linear(config.features, 1, bias=False)
        self.head = nn.Linear(config.uses, 1, bias=False)
        nn.init.ones_(self.shared.weight)
        nn.init.ones_(self.head.weight)
        self.shared.weight.requires_grad_(config.trainable)
        self.head.weight.requires_grad_(False)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        # inputs: `uses` arrays (B, D)
        x = torch.cat([self.shared(part) for part in inputs], dim=-1)  # (B, uses)
        return self.head(x)  # (B, 1)


def penalty(model: SharedSubmodel, factor: float = 1.0) -> torch.Tensor:
    """L1 of the shared weight: once, however often the layer is used, and nothing while it is frozen."""
    weight = model.shared.weight
    return factor * weight.abs().sum() if weight.requires_grad else weight.new_zeros(())


def build(config: Config) -> SharedSubmodel:
    """The model; every weight starts at one."""
    return SharedSubmodel(config)
