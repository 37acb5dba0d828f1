"""Several dense layers that are given the weights of the first, in Keras, and one layer used several times.

`set_weights` copies numbers. Right after it the layers compute the same, and that is all: each keeps its own variables,
gets the gradient of its own use alone, and has moments of its own in the optimizer, so that the next step parts them.
Copying again after every step does not help, since the first layer then learns from its own use only. A weight that is
shared learns from the sum of all uses; for that, call one layer several times.

Shapes: B batch, D inputs and units, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `sharing` says whether the uses are copies of the first layer, or the layer itself."""

    units: int = 64
    uses: int = 3
    classes: int = 10
    sharing: Literal["transferred", "one_layer"] = "one_layer"


def transfer(model: keras.Model) -> None:
    """Give every layer called dense_1, dense_2, ... the weights of dense_0, as one does after training it."""
    trained = model.get_layer("dense_0").get_weights()
    for layer in model.layers:
        if layer.name.startswith("dense_"):
            layer.set_weights(trained)


def build(config: Config) -> keras.Model:
    """The model, with Keras's own initial weights: dense layers with a relu, and a softmax."""
    x = image = keras.Input((config.units,), name="image")  # (B, D)
    number = config.uses if config.sharing == "transferred" else 1
    layers = [keras.layers.Dense(config.units, activation="relu", name=f"dense_{i}") for i in range(number)]
    for i in range(config.uses):
        x = layers[i % number](x)  # (B, D)
    model = keras.Model(image, keras.layers.Dense(config.classes, activation="softmax", name="head")(x))  # (B, C)
    transfer(model)
    return model
