"""One encoder with batch normalization that sees two views of an image, in PyTorch.

Chen and He 2021, "Exploring Simple Siamese Representation Learning" (SimSiam): two views go through one encoder and
one predictor; each prediction is drawn to the other view's code, which is held still.

Shapes: B batch, D pixels, H hidden, C code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Config:
    """Sizes of the model."""

    pixels: int = 64
    hidden: int = 16
    code: int = 8
    predictor: int = 4


class Normalized(nn.Module):
    """A linear layer without bias, and batch normalization."""

    def __init__(self, inputs: int, outputs: int, affine: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs, affine=affine)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.linear(x))


class SimSiam(nn.Module):
    """How like the prediction from each of two views is to the code of the other."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            Normalized(config.pixels, config.hidden),
            nn.ReLU(),
            Normalized(config.hidden, config.code, affine=False),
        )
        self.predictor = nn.Sequential(
            Normalized(config.code, config.predictor),
            nn.ReLU(),
            nn.Linear(config.predictor, config.code),
        )

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        # first, second: (B, D). The tie: encoder and predictor are called twice, and their statistics move twice.
        code_1, code_2 = self.encoder(first), self.encoder(second)  # each (B, C)
        prediction_1, prediction_2 = self.predictor(code_1), self.predictor(code_2)
        one = F.cosine_similarity(prediction_1, code_2.detach())  # (B,)
        two = F.cosine_similarity(prediction_2, code_1.detach())
        return torch.stack([one, two], dim=-1)  # (B, 2)


def build(config: Config) -> SimSiam:
    """The model, with PyTorch's own initial weights."""
    return SimSiam(config)
