"""An autoencoder whose decoder is its encoder transposed, in PyTorch.

Vincent et al. 2010, "Stacked Denoising Autoencoders": each decoding layer uses the weight of its encoding layer,
transposed, and a bias of its own.

Shapes: B batch, D pixels; layer i goes from width i to width i + 1, and back.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Config:
    """Sizes of the model: the pixels, then the width after each layer. The first layer is square."""

    widths: tuple[int, ...] = (64, 64, 16)


class ReversibleLinear(nn.Module):
    """A linear layer that can be used backwards."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.forwards = nn.Linear(inputs, outputs)
        self.reverse_bias = nn.Parameter(torch.zeros(inputs))

    def forward(self, x: torch.Tensor, reverse: bool = False) -> torch.Tensor:
        if reverse:
            # The tie: F.linear multiplies by the transpose of what it is given, so this is x @ weight.
            return F.linear(x, self.forwards.weight.T, self.reverse_bias)
        return self.forwards(x)


class Autoencoder(nn.Module):
    """Each layer forwards, then each backwards."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        sizes = zip(config.widths[:-1], config.widths[1:], strict=True)
        self.layers = nn.ModuleList(ReversibleLinear(*size) for size in sizes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # image: (B, D)
        x = image
        for layer in self.layers:
            x = torch.sigmoid(layer(x))  # (B, width i + 1)
        for i in reversed(range(len(self.layers))):
            x = self.layers[i](x, reverse=True)  # (B, width i)
            x = torch.sigmoid(x) if i else x
        return x  # (B, D), logits


def build(config: Config) -> Autoencoder:
    """The model, with PyTorch's own initial weights."""
    return Autoencoder(config)
