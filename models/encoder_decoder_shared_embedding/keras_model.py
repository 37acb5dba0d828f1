"""An encoder and a decoder that share one table, with the head, in Keras.

Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (T5): one
table embeds the source, embeds the target and, transposed, scores the next byte. Where the head is that table, what
goes into it is scaled by width ** -0.5; a head of its own is not.

One `ReversibleEmbedding` is called three times, the last time with `reverse=True`. It knows nothing of the scale,
which therefore stands in the model, and stands or falls with the tie: it is right with one table, wrong with a head
of its own, and a port that is checked with one of the two may be wrong with the other.

Shapes: B batch, S source, T target, V vocabulary, D width, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import keras

from ..keras_layers import Embedding, rows_of


@dataclass(frozen=True)
class Config:
    """Sizes of the model; the vocabulary is the bytes, and one more for what is missing.

    `reach` is the largest distance that attention tells from larger ones. `scaled` has the two usual mistakes.
    """

    vocabulary: int = 257
    source: int = 12
    target: int = 6
    width: int = 24
    heads: int = 2
    hidden: int = 48
    layers: int = 1
    reach: int = 4
    tied: bool = True
    scaled: Literal["if tied", "always", "never"] = "if tied"


@keras.saving.register_keras_serializable("encoder_decoder_shared_embedding")
class RelativeBias(keras.layers.Layer):
    """What attention adds to its scores for each distance, and for the future where that is hidden."""

    def __init__(self, reach: int, heads: int, causal: bool, **options) -> None:
        super().__init__(**options)
        self.reach, self.heads, self.causal = reach, heads, causal

    def build(self, input_shape) -> None:
        self.table = self.add_weight(shape=(2 * self.reach + 1, self.heads), name="table")

    def call(self, x):
        at = keras.ops.arange(x.shape[1])
        distance = at[None, :] - at[:, None]  # (T, T)
        rows = keras.ops.clip(distance, -self.reach, self.reach) + self.reach
        bias = keras.ops.transpose(rows_of(self.table, rows), (2, 0, 1))  # (H, T, T)
        return keras.ops.where(distance > 0, -1e9, bias) if self.causal else bias

    def get_config(self):
        return {**super().get_config(), "reach": self.reach, "heads": self.heads, "causal": self.causal}


def norm(name: str) -> keras.layers.Layer:
    """A root mean square normalization with T5's epsilon."""
    return keras.layers.RMSNormalization(epsilon=1e-6, name=name)


def attention(config: Config, name: str, x, memory=None, bias=None):
    """T5's attention: no biases, and no scale, since the initial weights are small enough."""
    # x: (B, T, D); memory: (B, S, D), None for x itself; bias: (H, T, T) or None
    y = norm(f"{name}_norm")(x)
    memory = y if memory is None else memory
    q, k, v = (
        keras.layers.Reshape((-1, config.heads, config.width // config.heads))(  # (B, T or S, H, D / H)
            keras.layers.Dense(config.width, use_bias=False, name=f"{name}_{part}")(of)
        )
        for part, of in (("query", y), ("key", memory), ("value", memory))
    )
    scores = keras.ops.einsum("bihd,bjhd->bhij", q, k)  # (B, H, T, S)
    scores = scores if bias is None else scores + bias
    seen = keras.ops.einsum("bhij,bjhd->bihd", keras.ops.softmax(scores), v)
    output = keras.layers.Dense(config.width, use_bias=False, name=f"{name}_output")
    return x + output(keras.layers.Reshape((-1, config.width))(seen))


def feed_forward(config: Config, name: str, x):
    """Two dense layers."""
    up = keras.layers.Dense(config.hidden, use_bias=False, activation="relu", name=f"{name}_up")
    down = keras.layers.Dense(config.width, use_bias=False, name=f"{name}_down")
    return x + down(up(norm(f"{name}_norm")(x)))


def stack(config: Config, name: str, x, memory=None):
    """The layers of an encoder, or with `memory` of a decoder. All of them share one relative bias."""
    bias = RelativeBias(config.reach, config.heads, causal=memory is not None, name=f"{name}_bias")(x)
    for i in range(config.layers):
        x = attention(config, f"{name}_attend_{i}", x, bias=bias)
        x = x if memory is None else attention(config, f"{name}_look_{i}", x, memory)
        x = feed_forward(config, f"{name}_think_{i}", x)
    return norm(f"{name}_norm")(x)


def build(config: Config) -> keras.Model:
    """Source and target in, scores of the next byte of the target out; with Keras's own initial weights."""
    source = keras.Input((config.source,), dtype="int64", name="source")  # (B, S)
    target = keras.Input((config.target,), dtype="int64", name="target")  # (B, T), one byte behind
    kind = keras.layers.ReversibleEmbedding if config.tied else Embedding
    embedding = kind(config.vocabulary, config.width, name="embedding")
    memory = stack(config, "encoder", embedding(source))  # (B, S, D)
    x = stack(config, "decoder", embedding(target), memory)  # (B, T, D)
    if {"if tied": config.tied, "always": True, "never": False}[config.scaled]:
        x = x * config.width**-0.5
    if config.tied:
        return keras.Model([source, target], embedding(x, reverse=True))  # (B, T, V)
    head = keras.layers.Dense(config.vocabulary, use_bias=False, name="head")
    return keras.Model([source, target], head(x))
