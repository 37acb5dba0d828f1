"""A masked language model whose layers share their weights in groups, in Keras.

Lan et al. 2020, "ALBERT: A Lite BERT": a narrow embedding, one block applied several times, and a head that uses the
embedding again.

A block is a model of its own that is called as often as its group has layers. Keras stores it once, with its calls, so
a saved and loaded model has as many blocks as groups. Two ways to lose this look just as natural: to build the block
inside the loop over layers, which makes a new one each time, and to take `layer % groups` for the group, which shares
every other layer in place of neighbours. The second has the right number of weights.

Shapes: B batch, T time, V vocabulary, E embedding, D width, H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import keras

from ..keras_layers import Positions


@dataclass(frozen=True)
class Config:
    """Sizes of the model; the vocabulary is the bytes and a mask.

    `sharing` has the two usual mistakes: a block for each layer, and groups of layers that are no neighbours.
    """

    vocabulary: int = 257
    length: int = 10
    embedding: int = 16
    width: int = 24
    heads: int = 2
    hidden: int = 48
    layers: int = 4
    groups: int = 2
    sharing: Literal["neighbours", "alternating", "none"] = "neighbours"


def norm(name: str) -> keras.layers.Layer:
    """A layer normalization with ALBERT's epsilon."""
    return keras.layers.LayerNormalization(epsilon=1e-12, name=name)


def gelu(x):
    """ALBERT's activation, by the approximation with a tanh."""
    return keras.activations.gelu(x, approximate=True)


def block(config: Config, name: str) -> keras.Model:
    """Attention and two dense layers, each added to its input and then normalized."""
    x = keras.Input((None, config.width))  # (B, T, D)
    attention = keras.layers.MultiHeadAttention(config.heads, config.width // config.heads, name=f"{name}_attention")
    y = norm(f"{name}_attention_norm")(x + attention(x, x))
    up = keras.layers.Dense(config.hidden, name=f"{name}_up")
    down = keras.layers.Dense(config.width, name=f"{name}_down")
    return keras.Model(x, norm(f"{name}_norm")(y + down(gelu(up(y)))), name=name)


def build(config: Config) -> keras.Model:
    """Narrow embedding, the same block several times, and back to the embedding; with Keras's own initial weights."""
    text = keras.Input((config.length,), dtype="int64", name="text")  # (B, T)
    embedding = keras.layers.ReversibleEmbedding(config.vocabulary, config.embedding, name="embedding")
    x = Positions(config.length, name="positions")(embedding(text))  # (B, T, E)
    x = keras.layers.Dense(config.width, name="widen")(norm("embedding_norm")(x))  # (B, T, D)
    if config.sharing == "none":
        layers = [block(config, f"layer_{i}") for i in range(config.layers)]
    else:
        blocks = [block(config, f"group_{i}") for i in range(config.groups)]
        if config.sharing == "neighbours":
            layers = [blocks[i // (config.layers // config.groups)] for i in range(config.layers)]
        else:
            layers = [blocks[i % config.groups] for i in range(config.layers)]
    for layer in layers:
        x = layer(x)
    x = norm("head_norm")(gelu(keras.layers.Dense(config.embedding, name="narrow")(x)))  # (B, T, E)
    return keras.Model(text, embedding(x, reverse=True))  # (B, T, V)
