"""Three dense layers, two of them penalized, each in its own way, in Keras.

A regularizer belongs to the variable that it is given for. Keras adds it to the loss, once per variable: L2(a) is
a * sum(w^2), L1(a) is a * sum(|w|). Neither reaches another layer, and neither is a weight decay of the optimizer.

Shapes: B batch, D inputs, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model, and the factors of its penalties."""

    inputs: int = 784
    hidden: tuple[int, int] = (64, 128)
    classes: int = 10
    l2: float = 0.01
    l1: float = 0.005


def build(config: Config) -> keras.Model:
    """The model, with its initial weights: relu, relu, softmax."""
    image = keras.Input((config.inputs,), name="image")  # (B, D)
    x = keras.layers.Dense(
        config.hidden[0],
        activation="relu",
        kernel_initializer="glorot_uniform",
        kernel_regularizer=keras.regularizers.L2(config.l2),
        name="first",
    )(image)
    x = keras.layers.Dense(
        config.hidden[1],
        activation="relu",
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L1(config.l1),
        name="second",
    )(x)
    x = keras.layers.Dense(config.classes, activation="softmax", name="last")(x)
    return keras.Model(image, x)  # (B, C)
