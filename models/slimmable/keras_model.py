"""One network at several widths: each width uses the first channels of the same kernels, in Keras.

Yu et al. 2018, "Slimmable Neural Networks": every width sees each batch and their losses are added up, so a kernel
collects the gradient of all widths it takes part in. Normalization is not shared: each width has its own statistics.

A layer per width, with a slice of another layer's kernel put into it, is a copy: a slice of a variable is a tensor and
does not train it. What works is a layer that owns the whole kernel and slices it in its call. The axes are Keras's:
inputs and outputs are the last two, and outputs come last.

Shapes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import keras

from ..keras_layers import BatchNorm


@dataclass(frozen=True)
class Config:
    """Sizes of the model: `channels` of the widest network, and how many of them each network uses.

    `slices` has the usual mistake: the last channels in place of the first.
    """

    channels: int = 8
    widths: tuple[int, ...] = (4, 8)
    classes: int = 10
    slices: Literal["first", "last"] = "first"


@keras.saving.register_keras_serializable("slimmable")
class SlimmableConv(keras.layers.Layer):
    """A 3x3 convolution that can be used with fewer channels than it has."""

    def __init__(self, inputs: int, outputs: int, slices: str = "first", **options) -> None:
        super().__init__(**options)
        self.inputs, self.outputs = inputs, outputs
        self.slices = slices

    def build(self, input_shape) -> None:
        self.kernel = self.add_weight(shape=(3, 3, self.inputs, self.outputs), name="kernel")

    def call(self, x, outputs: int):
        # x: (B, H, W, C), of the first C input channels; kernel: (3, 3, inputs, outputs)
        if self.slices == "first":
            kernel = self.kernel[:, :, : x.shape[-1], :outputs]
        else:
            kernel = self.kernel[:, :, -x.shape[-1] :, -outputs:]
        return keras.ops.conv(x, kernel, padding="same")

    def get_config(self):
        return {**super().get_config(), "inputs": self.inputs, "outputs": self.outputs, "slices": self.slices}


@keras.saving.register_keras_serializable("slimmable")
class SlimmableDense(keras.layers.Layer):
    """A dense layer that can be used with fewer inputs than it has."""

    def __init__(self, inputs: int, units: int, **options) -> None:
        super().__init__(**options)
        self.inputs, self.units = inputs, units

    def build(self, input_shape) -> None:
        self.kernel = self.add_weight(shape=(self.inputs, self.units), name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(self, x):
        # x: (B, C); kernel: (inputs, K)
        return x @ self.kernel[: x.shape[-1]] + self.bias

    def get_config(self):
        return {**super().get_config(), "inputs": self.inputs, "units": self.units}


def build(config: Config) -> keras.Model:
    """Two convolutions and a classifier, run once per width; with Keras's own initial weights."""
    image = keras.Input((None, None, 1), name="image")  # (B, H, W, 1)
    conv_0 = SlimmableConv(1, config.channels, config.slices, name="conv_0")
    conv_1 = SlimmableConv(config.channels, config.channels, config.slices, name="conv_1")
    head = SlimmableDense(config.channels, config.classes, name="head")
    logits = []
    for i, width in enumerate(config.widths):
        x = keras.ops.relu(BatchNorm(name=f"norms_0_{i}")(conv_0(image, outputs=width)))  # (B, H, W, width)
        x = keras.ops.relu(BatchNorm(name=f"norms_1_{i}")(conv_1(x, outputs=width)))  # (B, H, W, width)
        logits.append(head(keras.ops.mean(x, (1, 2))))  # (B, K)
    return keras.Model(image, keras.ops.stack(logits, 1))  # (B, widths, K)
