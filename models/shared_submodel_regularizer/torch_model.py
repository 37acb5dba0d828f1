"""One penalized layer applied to several inputs, in PyTorch.

Shapes: B batch, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of the model; with `nested` the layer sits in one sub-model per input instead of one for all."""

    features: int = 5
    uses: int = 2
    trainable: bool = True
    nested: bool = False


class SharedSubmodel(nn.Module):
    """Sub-models around one layer without bias, one for each input or one for all, and a frozen sum of the results."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        dense = nn.Linear(config.features, 1, bias=False)
        self.models = nn.ModuleList(nn.Sequential(dense) for _ in range(config.uses if config.nested else 1))
        self.head = nn.Linear(config.uses, 1, bias=False)
        nn.init.ones_(dense.weight)
        nn.init.ones_(self.head.weight)
        dense.weight.requires_grad_(config.trainable)
        self.head.weight.requires_grad_(False)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        # inputs: `uses` arrays (B, D)
        parts = [self.models[i % len(self.models)](part) for i, part in enumerate(inputs)]  # each (B, 1)
        x = torch.cat(parts, dim=-1)  # (B, uses)
        return self.head(x)  # (B, 1)


def penalty(model: SharedSubmodel, factor: float = 1.0) -> torch.Tensor:
    """L1 of the shared weight: once, however often the layer is used, and nothing while it is frozen."""
    trained = [p for p in model.parameters() if p.requires_grad]  # each Parameter once, however many paths it has
    return factor * sum((p.abs().sum() for p in trained), torch.zeros(()))


def build(config: Config) -> SharedSubmodel:
    """The model; every weight starts at one."""
    return SharedSubmodel(config)
