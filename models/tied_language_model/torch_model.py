"""A byte-level language model whose embedding is also its output layer, in PyTorch.

Press and Wolf 2017, "Using the Output Embedding to Improve Language Models": one table turns bytes into vectors at
the bottom and, transposed, vectors into scores of bytes at the top.

Shapes: B batch, T time, V vocabulary, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of the model."""

    vocabulary: int = 256
    width: int = 40
    layers: int = 1
    tied: bool = True
    scaled: bool = False


class LanguageModel(nn.Module):
    """Embedding, recurrent layers, and the embedding again."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.scale = config.width**0.5 if config.scaled else 1.0
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.recurrent = nn.ModuleList(
            nn.LSTM(config.width, config.width, bias=False, batch_first=True) for _ in range(config.layers)
        )
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.tied:
            # The tie: a Linear keeps its weight as (out, in), which is how an Embedding keeps its table.
            self.head.weight = self.embedding.weight

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        # text: (B, T)
        x = self.embedding(text) * self.scale  # (B, T, D)
        for layer in self.recurrent:
            x, _ = layer(x)  # (B, T, D)
        return self.head(x)  # (B, T, V)


def build(config: Config) -> LanguageModel:
    """The model, with PyTorch's own initial weights."""
    return LanguageModel(config)
