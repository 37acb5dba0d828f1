"""A decoder-only transformer whose head is its embedding, and the schedule it is trained by, in PyTorch.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2), as it is commonly retrained: AdamW
that leaves vectors alone, a learning rate that warms up and then falls along a cosine, gradients clipped together.

Shapes: B batch, T time, V vocabulary, D width, H heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Config:
    """Sizes of the model."""

    vocabulary: int = 256
    length: int = 12
    width: int = 24
    heads: int = 2
    layers: int = 1


class Block(nn.Module):
    """Attention to what came before, and two dense layers, each added to its input."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(config.width)
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.output = nn.Linear(config.width, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, 4 * config.width)
        self.down = nn.Linear(4 * config.width, config.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # x: (B, T, D); q, k, v: (B, H, T, D / H)
        parts = self.query_key_value(self.attention_norm(x)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)  # (B, T, D)
        x = x + self.output(seen)
        return x + self.down(F.gelu(self.up(self.norm(x)), approximate="tanh"))


class Transformer(nn.Module):
    """Embedding, blocks, and the embedding again."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.length, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.head.weight = self.embedding.weight  # the tie

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        # text: (B, T)
        x = self.embedding(text) + self.positions.weight[: text.shape[1]]  # (B, T, D)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))  # (B, T, V)


@dataclass(frozen=True)
class Training:
    """How it is trained: the learning rate's peak and course in steps, decay, clipping."""

    peak: float = 6e-4
    warm_up: int = 4
    steps: int = 20
    floor: float = 0.1
    weight_decay: float = 0.1
    beta_2: float = 0.95
    epsilon: float = 1e-8
    clip: float = 1.0


def learning_rate(taken: int, training: Training) -> float:
    """Of the next step, after so many: up in a line to the peak, then down a cosine to a share of it."""
    if taken < training.warm_up:
        return training.peak * (taken + 1) / training.warm_up
    done = min((taken - training.warm_up) / (training.steps - training.warm_up), 1.0)
    return training.peak * (training.floor + (1 - training.floor) * (1 + math.cos(math.pi * done)) / 2)


def decayed(parameters: list[nn.Parameter]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Which parameters decay: matrices do, biases and the scales and shifts of norms do not."""
    return [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]


def build(config: Config) -> Transformer:
    """The model, with PyTorch's own initial weights."""
    return Transformer(config)
