"""One dense layer used several times, in Keras.

This is the way Keras shares weights: make a layer once, call it as often as it is needed. The graph then has several
nodes of one layer, the layer one kernel and one bias, and the gradient is the sum over the nodes. A `.keras` file
stores the layer once, with all its nodes, so that the tie is there again after loading.

Shapes: B batch, D inputs and units, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model."""

    inputs: int = 64
    units: int = 64
    uses: int = 2
    classes: int = 10


def build(config: Config) -> keras.Model:
    """The model, with Keras's own initial weights: the layer with a relu, several times over, and a softmax."""
    x = image = keras.Input((config.inputs,), name="image")  # (B, D)
    shared = keras.layers.Dense(config.units, activation="relu", name="shared")
    for _ in range(config.uses):
        x = shared(x)  # (B, D)
    return keras.Model(image, keras.layers.Dense(config.classes, activation="softmax", name="head")(x))  # (B, C)
