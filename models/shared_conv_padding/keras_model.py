"""One 3x3 kernel, once with padding and once without, in Keras.

A `Conv2D` fixes its padding when it is made, so two of them are two kernels. Putting the variables of one into the
private lists of the other trains them as one, until the model is saved: the file then holds two layers, and what is
loaded has two kernels. What works is one layer that owns kernel and bias and takes the padding as an argument of its
call. The graph of the model keeps that argument with each call, so that the tie, and both paddings, are there again
after loading and cloning.

Shapes: B batch, H height, W width, F filters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `sharing` is by one layer, or by patching a second one, which a file does not keep."""

    image_size: int = 299
    filters: int = 64
    sharing: Literal["one_layer", "patched"] = "one_layer"


@keras.saving.register_keras_serializable("shared_conv_padding")
class PaddedConv(keras.layers.Layer):
    """A 3x3 convolution whose padding is chosen at each call."""

    def __init__(self, filters: int, **options) -> None:
        super().__init__(**options)
        self.filters = filters

    def build(self, input_shape) -> None:
        self.kernel = self.add_weight(shape=(3, 3, input_shape[-1], self.filters), name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, image, padding: str = "same"):
        # image: (B, H, W, 3)
        return keras.ops.conv(image, self.kernel, padding=padding) + self.bias  # (B, H, W, F) or (B, H-2, W-2, F)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


def patched(config: Config, image) -> list:
    """What not to do: two layers, of which the second is given the variables of the first behind Keras's back."""
    same: Any = keras.layers.Conv2D(config.filters, 3, padding="same", name="same")
    valid: Any = keras.layers.Conv2D(config.filters, 3, padding="valid", name="valid")
    made = same(image)
    valid.build(image.shape)
    valid._tracker.unlock()
    valid._kernel, valid.bias = same._kernel, same.bias
    valid._trainable_variables[:] = [same._kernel, same.bias]
    valid._tracker.lock()
    return [made, valid(image)]


def build(config: Config) -> keras.Model:
    """The model, with Keras's own initial weights."""
    image = keras.Input((config.image_size, config.image_size, 3), name="image")
    if config.sharing == "patched":
        maps = patched(config, image)
    else:
        shared = PaddedConv(config.filters, name="shared_conv")
        maps = [shared(image, padding="same"), shared(image, padding="valid")]
    same, valid = (keras.layers.GlobalAveragePooling2D()(x) for x in maps)  # each (B, F)
    x = keras.layers.Concatenate()([same, valid])  # (B, 2F)
    return keras.Model(image, keras.layers.Dense(1, name="head")(x))  # (B, 1), unbounded
