"""Three dense layers that start from He's normal distribution, in Keras.

An initializer object shares no weights: each layer makes variables of its own. But it holds one seed, drawn when the
object is made, and every call starts from that seed again. So layers that are given one object start from the same
numbers, each scaled to its own size, also where their shapes differ. They are correlated at the start, and they train
apart. The remedy is an object for each layer: `HeNormal()` in each, or the name "he_normal", which makes a new one.

Shapes: B batch, D inputs, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `initializer` says whether all layers are given one object or each one of its own."""

    inputs: int = 784
    hidden: tuple[int, ...] = (64, 128)
    classes: int = 10
    initializer: Literal["one", "one_each"] = "one"


def build(config: Config) -> keras.Model:
    """The model, with its initial weights: relu, relu, softmax."""
    make: Any = keras.initializers.HeNormal
    one = make()
    x = image = keras.Input((config.inputs,), name="image")  # (B, D)
    for i, units in enumerate([*config.hidden, config.classes]):
        x = keras.layers.Dense(
            units,
            activation="relu" if i < len(config.hidden) else "softmax",
            kernel_initializer=one if config.initializer == "one" else make(),
            name=f"dense_{i}",
        )(x)
    return keras.Model(image, x)  # (B, C)
