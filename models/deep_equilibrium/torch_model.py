"""One block iterated to its fixed point, trained through the fixed point, in PyTorch.

Bai, Kolter and Koltun 2019, "Deep Equilibrium Models": the output is a z with z = f(z, x), as if the one block f were
applied forever. No step of the search for z is differentiated: by the implicit function theorem
dz = (I - J)^-1 df, with J the derivative of f by z, whatever way led there.

Shapes: B batch, D pixels, W width, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Config:
    """Sizes of the model, and how long the fixed point is sought."""

    inputs: int = 64
    width: int = 12
    classes: int = 10
    iterations: int = 24


class Block(nn.Module):
    """f(z, x) = tanh(A z + x), a contraction while A is small."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.state = nn.Linear(width, width, bias=False)
        nn.init.normal_(self.state.weight, std=0.1 / width**0.5)

    def forward(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.state(z) + x)  # (B, W)

    def derivative(self, z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """J v at the fixed point z, without a gradient of its own."""
        return F.linear(v, self.state.weight.detach()) * (1 - z**2)


class DeepEquilibrium(nn.Module):
    """Pixels into the block, its fixed point out of it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.iterations = config.iterations
        self.injection = nn.Linear(config.inputs, config.width)
        self.block = Block(config.width)
        self.head = nn.Linear(config.width, config.classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # image: (B, D)
        x = self.injection(image)  # (B, W)
        return self.head(self.fixed_point(x))  # (B, C), logits

    def fixed_point(self, x: torch.Tensor) -> torch.Tensor:
        """z = f(z, x), with the derivative that the implicit function theorem gives it."""
        with torch.no_grad():
            z = torch.zeros_like(x)
            for _ in range(self.iterations):
                z = self.block(z, x)
        # Nothing but `rest`, which is zero at the fixed point, has a gradient: this adds (I - J)^-1 d f to z.
        rest = self.block(z, x) - z
        step = rest
        for _ in range(self.iterations):
            step = rest + self.block.derivative(z, step)
        return z + step


def build(config: Config) -> DeepEquilibrium:
    """The model, with PyTorch's own initial weights around the block."""
    return DeepEquilibrium(config)
