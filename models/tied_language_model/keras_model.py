"""A byte-level language model whose embedding is also its output layer, in Keras.

Press and Wolf 2017, "Using the Output Embedding to Improve Language Models": one table turns bytes into vectors at
the bottom and, transposed, vectors into scores of bytes at the top.

`ReversibleEmbedding` is the layer for this: it owns the table and is called twice, the second time with
`reverse=True`. Keras shares weights by calling one layer several times, and saves which calls there are, so the tie
needs nothing of its own to survive. A `Dense` at the top that starts from a copy of the table is a second variable:
equal at first, trained apart from it.

Shapes: B batch, T time, V vocabulary, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model."""

    vocabulary: int = 256
    width: int = 40
    layers: int = 1
    tied: bool = True
    scaled: bool = False


def build(config: Config) -> keras.Model:
    """The model, with Keras's own initial weights."""
    text = keras.Input((None,), dtype="int64", name="text")  # (B, T)
    embedding = keras.layers.ReversibleEmbedding(config.vocabulary, config.width, name="embedding")
    x = embedding(text)  # (B, T, D)
    if config.scaled:
        x = keras.layers.Rescaling(config.width**0.5)(x)
    for i in range(config.layers):
        x = keras.layers.LSTM(config.width, use_bias=False, return_sequences=True, name=f"recurrent_{i}")(x)
    if config.tied:
        return keras.Model(text, embedding(x, reverse=True))  # (B, T, V)
    head = keras.layers.Dense(config.vocabulary, use_bias=False, name="head")
    return keras.Model(text, head(x))
