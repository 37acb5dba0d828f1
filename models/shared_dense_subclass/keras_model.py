"""One dense layer used twice, in a subclassed Keras model, and two layers that share an initializer object.

An initializer object makes numbers, and every layer that is given it makes a variable of its own from them. Since an
object repeats its numbers at every call, two kernels of one shape even start equal, which is why this passes for
sharing. They are two variables: the first training step parts them. What shares is the layer itself, called twice.

Shapes: B batch, D inputs and units, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `second` says what the second layer is."""

    units: int = 64
    classes: int = 10
    second: Literal["same_layer", "same_initializer"] = "same_layer"


@keras.saving.register_keras_serializable("shared_dense_subclass")
class Net(keras.Model):
    """Two relus and a softmax."""

    def __init__(self, units: int, classes: int, second: str, **options) -> None:
        super().__init__(**options)
        self.units, self.classes, self.second = units, classes, second
        self.dense = keras.layers.Dense(units, activation="relu", name="dense")
        if second == "same_initializer":  # two layers, equal at the start
            initializer: Any = self.dense.kernel_initializer
            self.other = keras.layers.Dense(units, activation="relu", kernel_initializer=initializer, name="other")
        else:
            self.other = self.dense
        self.head = keras.layers.Dense(classes, activation="softmax", name="head")

    def call(self, x):
        # x: (B, D)
        x = self.dense(x)  # (B, D)
        x = self.other(x)  # (B, D)
        return self.head(x)  # (B, C)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "classes": self.classes, "second": self.second}


def build(config: Config) -> keras.Model:
    """The model, with Keras's own initial weights."""
    return Net(config.units, config.classes, config.second, name="net")
