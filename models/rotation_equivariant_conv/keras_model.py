"""One filter used at four rotations, in Keras.

Cohen and Welling 2016, "Group Equivariant Convolutional Networks": each filter is applied as it is and turned by a
quarter, a half and three quarters. What a turned image excites is what the image excites, turned, with the four
rotations moved on by one.

One layer owns the kernel and turns it in its call, so there is one variable, and the gradients of the four uses add up
in it. Which axes are height and width depends on the layout: a Keras kernel is (height, width, in, out), a PyTorch one
(out, in, height, width). Axes carried over from PyTorch turn the filters into one another. With as many inputs as
outputs every shape still fits, and the rotation that is none is even right.

Shapes: B batch, H height and width, F filters, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model; (2, 3) and (1, 0) as `axes` are the usual mistakes: PyTorch's axes, the other direction."""

    filters: int = 6
    classes: int = 10
    axes: tuple[int, int] = (0, 1)


@keras.saving.register_keras_serializable("rotation_equivariant_conv")
class RotatedConv(keras.layers.Layer):
    """A 3x3 convolution at four rotations: (B, H, H, F) -> (B, H, H, 4F), rotation by rotation."""

    def __init__(self, filters: int, axes: tuple[int, int] = (0, 1), **options) -> None:
        super().__init__(**options)
        self.filters, self.axes = filters, tuple(axes)

    def build(self, input_shape) -> None:
        shape = (3, 3, input_shape[-1], self.filters)
        self.kernel = self.add_weight(shape=shape, initializer="he_uniform", name="kernel")
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, x):
        kernel = keras.ops.convert_to_tensor(self.kernel)  # on JAX Keras 3.15 turns no variable
        turned = [keras.ops.rot90(kernel, k, axes=self.axes) for k in range(4)]
        x = keras.ops.conv(x, keras.ops.concatenate(turned, axis=-1), padding="same")
        return x + keras.ops.tile(self.bias, 4)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "axes": self.axes}


def build(config: Config) -> keras.Model:
    """An ordinary stem and a rotated convolution; the head sees which rotation found what."""
    image = keras.Input((None, None, 1), name="image")  # (B, H, H, 1)
    x = keras.layers.Conv2D(config.filters, 1, activation="relu", name="stem")(image)
    x = keras.ops.relu(RotatedConv(config.filters, config.axes, name="rotated")(x))  # (B, H, H, 4F)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(config.classes, name="head")(x))  # (B, K)
