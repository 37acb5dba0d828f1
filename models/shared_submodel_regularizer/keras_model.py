"""One penalized layer applied to several inputs, in Keras.

A sub-model that is called several times is one set of variables, and Keras 3 takes the penalty of a variable once,
in one loop over the variables without repetition. A frozen variable has no penalty at all.

Shapes: B batch, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model."""

    features: int = 5
    uses: int = 2
    trainable: bool = True


def build(config: Config) -> keras.Model:
    """The model; every weight starts at one."""
    shared = keras.Sequential(
        [
            keras.Input((config.features,)),
            keras.layers.Dense(
                1,
                use_bias=False,
                kernel_initializer="ones",
                kernel_regularizer=keras.regularizers.L1(1.0),
                name="dense",
            ),
        ],
        name="shared",
    )
    shared.trainable = config.trainable
    inputs = [keras.Input((config.features,), name=f"input_{i}") for i in range(config.uses)]
    x = keras.layers.Concatenate()([shared(part) for part in inputs])  # (B, uses)
    head = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", trainable=False, name="head")
    return keras.Model(inputs, head(x))  # (B, 1)
