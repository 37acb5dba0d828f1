"""Two LSTM layers whose kernels are kept at unit norm, in Keras.

A constraint is a function without memory: Keras applies it to each variable by itself, after each step of the
optimizer. One `UnitNorm` object for four kernels ties nothing, and is the same as four of them.

`UnitNorm(axis=0)` divides by the norm over axis 0. A kernel is (inputs, 4 gates * units), so that each column, what
flows into one unit by one gate, gets norm 1; not the matrix, nor a gate of it.

Shapes: B batch, T time, U units of the first layer, V of the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `constraint` says whether the kernels are given one object or each one of its own.

    `trained_biases` is a matter of PyTorch alone: Keras has one bias per layer.
    """

    units: tuple[int, int] = (64, 32)
    constraint: Literal["one", "one_each"] = "one"
    trained_biases: Literal[1, 2] = 1


def build(config: Config) -> keras.Model:
    """The model, with Keras's own initial weights: two layers over time, and a number from the last step."""
    one = keras.constraints.UnitNorm()
    norms = [one if config.constraint == "one" else keras.constraints.UnitNorm() for _ in range(4)]
    series = keras.Input((None, 1), name="series")  # (B, T, 1)
    x = keras.layers.LSTM(
        config.units[0],
        return_sequences=True,
        kernel_constraint=norms[0],
        recurrent_constraint=norms[1],
        name="first",
    )(series)  # (B, T, U)
    x = keras.layers.LSTM(config.units[1], kernel_constraint=norms[2], recurrent_constraint=norms[3], name="second")(
        x
    )  # (B, V)
    return keras.Model(series, keras.layers.Dense(1, name="head")(x))  # (B, 1)
