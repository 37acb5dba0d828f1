"""A recurrent layer that loops over time by itself, in Keras.

Hochreiter and Schmidhuber 1997 (LSTM), Cho et al. 2014 (GRU): one cell is applied to each row of an image in turn,
and the last state names the digit.

The layer owns one cell and calls it for every row, so there is nothing to tie, and it is saved as any layer is. What
differs is inside the cell:

- An LSTM's gates are i, f, g, o in both. A GRU's are r, z, n in PyTorch and z, r, n in Keras; a weight that is merely
  transposed fits, and exchanges what is reset with what is updated.
- PyTorch's GRU resets the state after it is multiplied. So does Keras's with `reset_after=True`, its default: it
  then has two biases, the rows of one variable. With `reset_after=False` it has one, and is another cell.
- PyTorch's LSTM adds two biases, Keras's has one, their sum. One of the two has to stand still.

Shapes: B batch, T rows, D pixels of a row, H hidden, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `reset_after=False` is a usual mistake."""

    cell: Literal["lstm", "gru"] = "lstm"
    pixels: int = 8
    hidden: int = 6
    classes: int = 10
    reset_after: bool = True


def build(config: Config) -> keras.Model:
    """One cell, called once per row; with Keras's own initial weights."""
    rows = keras.Input((None, config.pixels), name="rows")  # (B, T, D)
    if config.cell == "lstm":
        layer = keras.layers.LSTM(config.hidden, name="recurrent")
    else:
        layer = keras.layers.GRU(config.hidden, reset_after=config.reset_after, name="recurrent")
    return keras.Model(rows, keras.layers.Dense(config.classes, name="head")(layer(rows)))  # (B, K)
