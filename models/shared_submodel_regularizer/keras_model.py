"""One penalized layer applied to several inputs, in Keras.

A sub-model that is called several times is one set of variables, and so is a layer that sits in several models. Keras 3
takes the penalty of a variable once, in one loop over the variables without repetition, however often and by whichever
way the layer is reached. A frozen variable has no penalty at all.

Call the sub-model several times. A layer inside of two sub-models trains as one, but each sub-model is saved and cloned
by itself, so that its `.keras` file cannot be loaded and its clone has two kernels (Keras 3.15).

Shapes: B batch, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model; with `nested` the layer sits in one sub-model per input instead of one for all."""

    features: int = 5
    uses: int = 2
    trainable: bool = True
    nested: bool = False


def build(config: Config) -> keras.Model:
    """The model; every weight starts at one."""
    dense = keras.layers.Dense(
        1,
        use_bias=False,
        kernel_initializer="ones",
        kernel_regularizer=keras.regularizers.L1(1.0),
        trainable=config.trainable,
        name="dense",
    )
    models = [
        keras.Sequential([keras.Input((config.features,)), dense], name=f"shared_{i}")
        for i in range(config.uses if config.nested else 1)
    ]
    inputs = [keras.Input((config.features,), name=f"input_{i}") for i in range(config.uses)]
    parts = [models[i % len(models)](part) for i, part in enumerate(inputs)]  # each (B, 1)
    x = keras.layers.Concatenate()(parts)  # (B, uses)
    head = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", trainable=False, name="head")
    return keras.Model(inputs, head(x))  # (B, 1)
