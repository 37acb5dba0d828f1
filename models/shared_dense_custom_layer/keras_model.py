"""A layer of one's own that is called several times, in Keras.

A layer makes its variables once, in `build`, which Keras calls before the first call; every further call uses them
again. That is all it takes to share: one object, called several times. What makes it last is `get_config`, which says
how to make the layer anew, and the registration, by which a `.keras` file finds the class.

Shapes: B batch, D inputs, U units, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model; a layer that is called on what it gave needs as many inputs as units."""

    inputs: int = 64
    units: int = 64
    uses: int = 2
    classes: int = 10


@keras.saving.register_keras_serializable("shared_dense_custom_layer")
class SharedDense(keras.layers.Layer):
    """relu(x @ kernel + bias)."""

    def __init__(self, units: int, **options) -> None:
        super().__init__(**options)
        self.units = units

    def build(self, input_shape) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(self, x):
        # x: (B, D)
        if x.shape[-1] != self.kernel.shape[0]:
            raise ValueError(
                f"this layer's kernel is {tuple(self.kernel.shape)} and takes inputs (..., {self.kernel.shape[0]}), "
                f"but it was called on {tuple(x.shape)}: a layer can be called on what it gave only if it has as many "
                "inputs as units"
            )
        return keras.ops.relu(keras.ops.matmul(x, self.kernel) + self.bias)  # (B, U)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def build(config: Config) -> keras.Model:
    """The model, with its initial weights: the layer, several times over, and a softmax."""
    x = image = keras.Input((config.inputs,), name="image")  # (B, D)
    shared = SharedDense(config.units, name="shared")
    for _ in range(config.uses):
        x = shared(x)  # (B, U)
    return keras.Model(image, keras.layers.Dense(config.classes, activation="softmax", name="head")(x))  # (B, C)
