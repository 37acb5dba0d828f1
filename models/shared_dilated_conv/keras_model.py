"""One 3x3 kernel seen at three dilations, in Keras.

A `Conv2D` fixes its dilation when it is made, so three of them are three kernels; and putting one layer's
variables into another by hand breaks when the model is saved. What works is one layer that owns the kernel and
takes the dilation as an argument of its call: Keras then sees a single layer used three times, which is the way it
shares weights, through training, saving and loading alike.

Shapes: B batch, C channels, H height, W width, F filters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model."""

    image_size: int = 10
    filters: int = 4
    classes: int = 10
    dilations: tuple[int, ...] = (1, 2, 3)
    head: Literal["flat", "per_pixel"] = "flat"


@keras.saving.register_keras_serializable("shared_dilated_conv")
class DilatedConv(keras.layers.Layer):
    """A 3x3 convolution whose dilation is chosen at each call."""

    def __init__(self, filters: int, **options) -> None:
        super().__init__(**options)
        self.filters = filters

    def build(self, input_shape) -> None:
        self.kernel = self.add_weight(shape=(3, 3, input_shape[-1], self.filters), name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, image, dilation: int = 1):
        # image: (B, H, W, C)
        x = keras.ops.conv(image, self.kernel, padding="same", dilation_rate=dilation)
        return keras.ops.relu(x + self.bias)  # (B, H, W, F)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


def build(config: Config) -> keras.Model:
    """The model, with Keras's own initial weights."""
    image = keras.Input((config.image_size, config.image_size, 1), name="image")
    shared = DilatedConv(config.filters, name="shared_conv")
    maps = [shared(image, dilation=d) for d in config.dilations]  # each (B, H, W, F)
    x = keras.layers.Concatenate()(maps)  # (B, H, W, 3F)
    if config.head == "flat":
        x = keras.layers.Flatten()(x)  # (B, H * W * 3F)
    return keras.Model(image, keras.layers.Dense(config.classes, activation="softmax", name="head")(x))
