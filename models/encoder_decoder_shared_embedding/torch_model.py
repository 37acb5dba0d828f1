"""An encoder and a decoder that share one table, with the head, in PyTorch.

Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (T5): one
table embeds the source, embeds the target and, transposed, scores the next byte. Where the head is that table, what
goes into it is scaled by width ** -0.5; a head of its own is not.

Shapes: B batch, S source, T target, V vocabulary, D width, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Config:
    """Sizes of the model; the vocabulary is the bytes, and one more for what is missing.

    `reach` is the largest distance that attention tells from larger ones.
    """

    vocabulary: int = 257
    width: int = 24
    heads: int = 2
    hidden: int = 48
    layers: int = 1
    reach: int = 4
    tied: bool = True


class RelativeBias(nn.Module):
    """What attention adds to its scores for each distance, and for the future where that is hidden."""

    def __init__(self, config: Config, causal: bool) -> None:
        super().__init__()
        self.reach, self.causal = config.reach, causal
        self.table = nn.Parameter(torch.randn(2 * config.reach + 1, config.heads))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        at = torch.arange(x.shape[1], device=x.device)
        distance = at[None, :] - at[:, None]  # (T, T)
        bias = self.table[distance.clamp(-self.reach, self.reach) + self.reach].permute(2, 0, 1)  # (H, T, T)
        return torch.where(distance > 0, -1e9, bias) if self.causal else bias


class Attention(nn.Module):
    """T5's attention: no biases, and no scale, since the initial weights are small enough."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.RMSNorm(config.width, eps=1e-6)
        self.query, self.key, self.value, self.output = (
            nn.Linear(config.width, config.width, bias=False) for _ in range(4)
        )

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
        # x: (B, T, D); memory: (B, S, D), None for x itself; bias: (H, T, T) or None
        y = self.norm(x)
        memory = y if memory is None else memory
        q, k, v = (
            layer(part).unflatten(-1, (self.heads, -1))  # (B, T or S, H, D / H)
            for layer, part in ((self.query, y), (self.key, memory), (self.value, memory))
        )
        scores = torch.einsum("bihd,bjhd->bhij", q, k)  # (B, H, T, S)
        scores = scores if bias is None else scores + bias
        seen = torch.einsum("bhij,bjhd->bihd", torch.softmax(scores, dim=-1), v)
        return x + self.output(seen.flatten(2))


class FeedForward(nn.Module):
    """Two dense layers."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(config.width, eps=1e-6)
        self.up = nn.Linear(config.width, config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Stack(nn.Module):
    """The layers of an encoder, or with `memory` of a decoder. All of them share one relative bias."""

    def __init__(self, config: Config, decoder: bool) -> None:
        super().__init__()
        self.bias = RelativeBias(config, causal=decoder)
        self.attend = nn.ModuleList(Attention(config) for _ in range(config.layers))
        self.look = nn.ModuleList(Attention(config) for _ in range(config.layers if decoder else 0))
        self.think = nn.ModuleList(FeedForward(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=1e-6)

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None = None) -> torch.Tensor:
        bias = self.bias(x)
        for i, (attend, think) in enumerate(zip(self.attend, self.think, strict=True)):
            x = attend(x, None, bias)
            x = x if memory is None else self.look[i](x, memory, None)
            x = think(x)
        return self.norm(x)


class EncoderDecoder(nn.Module):
    """Source and target in, scores of the next byte of the target out."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.encoder, self.decoder = Stack(config, decoder=False), Stack(config, decoder=True)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        self.scale = 1.0
        if config.tied:
            self.head.weight = self.embedding.weight
            self.scale = config.width**-0.5

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        # source: (B, S); target: (B, T), one byte behind
        memory = self.encoder(self.embedding(source))  # (B, S, D)
        x = self.decoder(self.embedding(target), memory)  # (B, T, D)
        return self.head(x * self.scale)  # (B, T, V)


def build(config: Config) -> EncoderDecoder:
    """The model, with PyTorch's own initial weights."""
    return EncoderDecoder(config)
