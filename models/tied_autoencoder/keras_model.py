"""An autoencoder whose decoder is its encoder transposed, in Keras.

Vincent et al. 2010, "Stacked Denoising Autoencoders": each decoding layer uses the weight of its encoding layer,
transposed, and a bias of its own.

The widespread recipe is a decoding layer that is handed the encoding layer and takes its kernel (`BorrowingDense`
below). It trains as it should, and forgets whom it borrowed from as soon as it is saved: a loaded model has two kernels
of equal values, and nothing says so. What works is one layer that owns the kernel and both biases and is told at each
call which way to go: a layer that is called twice is stored once, with both calls.

Shapes: B batch, D pixels; layer i goes from width i to width i + 1, and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model: the pixels, then the width after each layer. The first layer is square.

    `decoder` has the two usual mistakes: a square kernel that is not transposed, and a borrowed one.
    """

    widths: tuple[int, ...] = (64, 64, 16)
    decoder: Literal["reversed", "untransposed", "borrowed"] = "reversed"


@keras.saving.register_keras_serializable("tied_autoencoder")
class ReversibleDense(keras.layers.Layer):
    """A dense layer that can be used backwards."""

    def __init__(self, units: int, transposed: bool = True, **options) -> None:
        super().__init__(**options)
        self.units = units
        self.transposed = transposed

    def build(self, input_shape) -> None:
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.reverse_bias = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="reverse_bias")

    def call(self, x, reverse: bool = False):
        if not reverse:
            return x @ self.kernel + self.bias
        # Where inputs and units are equal, the shapes fit without the transpose too.
        kernel = keras.ops.transpose(self.kernel) if self.transposed else self.kernel
        return x @ kernel + self.reverse_bias

    def get_config(self):
        return {**super().get_config(), "units": self.units, "transposed": self.transposed}


@keras.saving.register_keras_serializable("tied_autoencoder")
class BorrowingDense(keras.layers.Layer):
    """The recipe that loses its tie when it is saved: another layer's kernel, transposed, and a bias of its own."""

    def __init__(self, units: int, donor=None, **options) -> None:
        super().__init__(**options)
        self.units = units
        self.donor = donor

    def build(self, input_shape) -> None:
        if self.donor is None:  # as it is after loading
            self.kernel = self.add_weight(shape=(self.units, input_shape[-1]), name="kernel")
        else:
            self.kernel = self.donor.kernel
        self.reverse_bias = self.add_weight(shape=(self.units,), initializer="zeros", name="reverse_bias")

    def call(self, x):
        return x @ keras.ops.transpose(self.kernel) + self.reverse_bias

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def build(config: Config) -> keras.Model:
    """Each layer forwards, then each backwards; with Keras's own initial weights."""
    image = keras.Input((config.widths[0],), name="image")  # (B, D)
    layers = []
    for i, (inputs, units) in enumerate(zip(config.widths[:-1], config.widths[1:], strict=True)):
        if config.decoder == "borrowed":
            layers.append(keras.layers.Dense(units, name=f"layer_{i}"))
        else:
            transposed = config.decoder == "reversed" or inputs != units
            layers.append(ReversibleDense(units, transposed, name=f"layer_{i}"))
    x = image
    for layer in layers:
        x = keras.ops.sigmoid(layer(x))  # (B, width i + 1)
    for i in reversed(range(len(layers))):
        if config.decoder == "borrowed":
            x = BorrowingDense(config.widths[i], layers[i], name=f"decoder_{i}")(x)
        else:
            x = layers[i](x, reverse=True)  # (B, width i)
        x = keras.ops.sigmoid(x) if i else x
    return keras.Model(image, x)  # (B, D), logits
