"""A masked language model whose layers share their weights in groups, in PyTorch.

Lan et al. 2020, "ALBERT: A Lite BERT": a narrow embedding, one block applied several times, and a head that uses the
embedding again.

Shapes: B batch, T time, V vocabulary, E embedding, D width, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Config:
    """Sizes of the model; the vocabulary is the bytes and a mask."""

    vocabulary: int = 257
    length: int = 10
    embedding: int = 16
    width: int = 24
    heads: int = 2
    hidden: int = 48
    layers: int = 4
    groups: int = 2


class Block(nn.Module):
    """Attention and two dense layers, each added to its input and then normalized."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.query, self.key, self.value = (nn.Linear(config.width, config.width) for _ in range(3))
        self.output = nn.Linear(config.width, config.width)
        self.attention_norm = nn.LayerNorm(config.width, eps=1e-12)
        self.up = nn.Linear(config.width, config.hidden)
        self.down = nn.Linear(config.hidden, config.width)
        self.norm = nn.LayerNorm(config.width, eps=1e-12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # x: (B, T, D); q, k, v: (B, H, T, D / H)
        q, k, v = (m(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for m in (self.query, self.key, self.value))
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (B, T, D)
        x = self.attention_norm(x + self.output(seen))
        return self.norm(x + self.down(F.gelu(self.up(x), approximate="tanh")))


class Albert(nn.Module):
    """Narrow embedding, the same block several times, and back to the embedding."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.embedding)
        self.positions = nn.Embedding(config.length, config.embedding)
        self.embedding_norm = nn.LayerNorm(config.embedding, eps=1e-12)
        self.widen = nn.Linear(config.embedding, config.width)
        blocks = [Block(config) for _ in range(config.groups)]
        # The tie: layers of one group, which are neighbours, are one block.
        self.layers = nn.ModuleList(blocks[i // (config.layers // config.groups)] for i in range(config.layers))
        self.narrow = nn.Linear(config.width, config.embedding)
        self.head_norm = nn.LayerNorm(config.embedding, eps=1e-12)
        self.head = nn.Linear(config.embedding, config.vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        # text: (B, T)
        x = self.embedding(text) + self.positions.weight[: text.shape[1]]  # (B, T, E)
        x = self.widen(self.embedding_norm(x))  # (B, T, D)
        for layer in self.layers:
            x = layer(x)
        x = self.head_norm(F.gelu(self.narrow(x), approximate="tanh"))  # (B, T, E)
        return self.head(x)  # (B, T, V)


def build(config: Config) -> Albert:
    """The model, with PyTorch's own initial weights."""
    return Albert(config)
