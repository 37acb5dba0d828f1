"""A forecaster whose stacks repeat one block, in Keras.

Oreshkin et al. 2020, "N-BEATS": a block reads what is left of the series, explains a part of it (the backcast, which
is taken away) and adds its share to the forecast. In the interpretable configuration all blocks of a stack are one
block.

A block that is one layer, called several times, is all that sharing takes. Keras sees the layers in a list that is an
attribute, and those of a functional graph in any case; PyTorch needs an `nn.ModuleList`.

Shapes: B batch, T past values, H future values, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model.

    `cloned` has the usual mistake: a block for each repeat.
    """

    past: int = 10
    future: int = 3
    width: int = 8
    stacks: int = 2
    repeats: int = 3
    cloned: bool = False


@keras.saving.register_keras_serializable("shared_stack_forecaster")
class Block(keras.layers.Layer):
    """Two layers, and a linear head each for the backcast and the forecast."""

    def __init__(self, past: int, future: int, width: int, **options) -> None:
        super().__init__(**options)
        self.sizes = {"past": past, "future": future, "width": width}
        self.hidden_0 = keras.layers.Dense(width, activation="relu", name="hidden_0")
        self.hidden_1 = keras.layers.Dense(width, activation="relu", name="hidden_1")
        self.backcast = keras.layers.Dense(past, use_bias=False, name="backcast")
        self.forecast = keras.layers.Dense(future, use_bias=False, name="forecast")

    def build(self, input_shape) -> None:
        self.hidden_0.build(input_shape)
        for layer in (self.hidden_1, self.backcast, self.forecast):
            layer.build((input_shape[0], self.sizes["width"]))

    def call(self, x):
        # x: (B, T)
        h = self.hidden_1(self.hidden_0(x))  # (B, W)
        return self.backcast(h), self.forecast(h)  # (B, T), (B, H)

    def get_config(self):
        return {**super().get_config(), **self.sizes}


@keras.saving.register_keras_serializable("shared_stack_forecaster")
class Scale(keras.layers.Layer):
    """One number that multiplies the forecast."""

    def build(self, input_shape) -> None:
        self.scale = self.add_weight(shape=(1,), initializer="ones", name="scale")

    def call(self, forecast):
        return self.scale * forecast


def build(config: Config) -> keras.Model:
    """Each stack applies its one block several times; with Keras's own initial weights."""
    series = keras.Input((config.past,), name="series")  # (B, T)
    x = series
    forecasts = []
    for i in range(config.stacks):
        block = Block(config.past, config.future, config.width, name=f"stack_{i}")
        for k in range(config.repeats):
            if config.cloned and k:
                block = Block(config.past, config.future, config.width, name=f"stack_{i}_{k}")
            backcast, forecast = block(x)
            x = x - backcast
            forecasts.append(forecast)
    return keras.Model(series, Scale(name="scale")(keras.layers.add(forecasts)))  # (B, H)
