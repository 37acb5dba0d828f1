"""Two towers that read one table of items, in Keras.

Yi et al. 2019, "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations": one tower turns a
history of items into a query, the other an item into a candidate. Both look items up in the same table. A batch is
scored against itself: its other candidates are the negatives, and each score is lowered by how often a candidate is
drawn.

One `Embedding` is called for the histories and again for the candidates, and is saved once. Its gradient is where a
port goes wrong, with or without a tie: on TensorFlow it is a list of rows, one for each lookup, and Adagrad adds up
the squares of the list, not of the sum over equal items. `keras_layers.rows_of` says more; `dense_gradient=False` is
Keras's own layer. Adagrad's sum of squares moreover starts at 0.1 in Keras and at 0 in PyTorch.

Shapes: B batch, L history, V items, D width, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras

from ..keras_layers import Embedding


@dataclass(frozen=True)
class Config:
    """Sizes of the model."""

    items: int = 100
    width: int = 8
    hidden: int = 12
    dense_gradient: bool = True


def tower(config: Config, name: str) -> keras.Model:
    """A vector to a vector."""
    x = keras.Input((config.width,))
    up = keras.layers.Dense(config.hidden, activation="relu", name=f"{name}_up")
    down = keras.layers.Dense(config.width, name=f"{name}_down")
    return keras.Model(x, down(up(x)), name=name)


def build(config: Config) -> keras.Model:
    """Scores of each query of a batch for each of its candidates; with Keras's own initial weights."""
    history = keras.Input((None,), dtype="int64", name="history")  # (B, L)
    item = keras.Input((), dtype="int64", name="item")  # (B,)
    log_frequency = keras.Input((), name="log_frequency")  # (B,), of the item
    kind = Embedding if config.dense_gradient else keras.layers.Embedding
    items = kind(config.items, config.width, name="items")
    query = tower(config, "query")(keras.ops.mean(items(history), axis=1))  # (B, D)
    candidate = tower(config, "candidate")(items(item))  # (B, D)
    scores = keras.ops.matmul(query, keras.ops.transpose(candidate)) - log_frequency  # (B, B)
    return keras.Model([history, item, log_frequency], scores)
