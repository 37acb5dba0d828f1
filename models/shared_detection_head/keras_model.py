"""One detection head for all levels of a pyramid, in Keras.

Lin et al. 2017, "Focal Loss for Dense Object Detection" (RetinaNet): a pyramid of feature maps of several scales, and
one head that is slid over each of them.

A head is a model of its own whose input has no fixed height and width, called for every level: convolutions do not
ask how large a map is. Keras stores it once. A head that is built inside the loop over levels is several heads.

What the head gives is flattened so that the numbers of an anchor stay together and anchors follow each other by place:
Keras's channels-last order does that by itself, PyTorch has to permute first. A port that mimics PyTorch's channels
first order and then reshapes has the right shape and the wrong anchors.

A strided convolution pads on both sides in PyTorch; `padding="same"` pads an even map at its end only. So the padding
is a layer of its own here.

Shapes: B batch, H, W height and width of a level, F filters, A anchors per place, K classes, N anchors of all levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `depth` is how many convolutions a head has before its last, `prior` how probable it finds
    each class before it has learned anything.

    `head_per_level` and `channels_first` are the two usual mistakes.
    """

    filters: int = 8
    levels: int = 3
    anchors: int = 2
    classes: int = 10
    depth: int = 1
    prior: float = 0.01
    head_per_level: bool = False
    channels_first: bool = False


def head(config: Config, name: str, size: int, bias: float = 0.0) -> keras.Model:
    """Convolutions that end in `size` numbers for each anchor."""
    level = keras.Input((None, None, config.filters))  # (B, H, W, F)
    x = level
    for i in range(config.depth):
        x = keras.layers.Conv2D(config.filters, 3, padding="same", activation="relu", name=f"{name}_tower_{i}")(x)
    initial: Any = keras.initializers.Constant(bias)
    last = keras.layers.Conv2D(config.anchors * size, 3, padding="same", bias_initializer=initial, name=f"{name}_last")
    x = last(x)  # (B, H, W, A * size)
    if config.channels_first:
        x = keras.layers.Permute((3, 1, 2))(x)
    return keras.Model(level, keras.layers.Reshape((-1, size))(x), name=name)  # (B, H * W * A, size)


def halved(x, filters: int, name: str):
    """A 3x3 convolution of stride 2, padded on both sides as in PyTorch."""
    conv = keras.layers.Conv2D(filters, 3, strides=2, activation="relu", name=name)
    return conv(keras.layers.ZeroPadding2D(1)(x))


def build(config: Config) -> keras.Model:
    """Backbone, pyramid, and two heads that every level shares; with Keras's own initial weights."""
    image = keras.Input((None, None, 1), name="image")  # (B, H, W, 1)
    x = halved(image, config.filters, "stem")
    maps = []
    for i in range(config.levels):
        x = halved(x, config.filters, f"stage_{i}")
        maps.append(keras.layers.Conv2D(config.filters, 1, name=f"lateral_{i}")(x))  # (B, H, W, F)
    for i in reversed(range(config.levels - 1)):
        maps[i] = maps[i] + keras.layers.UpSampling2D(2)(maps[i + 1])
    prior = -math.log((1 - config.prior) / config.prior)
    outputs = {}
    for name, size, bias in (("classes", config.classes, prior), ("boxes", 4, 0.0)):
        if config.head_per_level:
            heads = [head(config, f"{name}_{i}", size, bias) for i in range(config.levels)]
        else:
            heads = [head(config, name, size, bias)] * config.levels
        parts = [of_level(level) for of_level, level in zip(heads, maps, strict=True)]
        outputs[name] = keras.layers.Concatenate(axis=1)(parts)  # (B, N, K), (B, N, 4)
    return keras.Model(image, outputs)


def focal_loss(labels, logits, alpha: float = 0.25, gamma: float = 2.0):
    """Cross-entropy that looks away from what is easy, per object; labels are 1, 0, or -1 for what does not count."""
    ops = keras.ops
    there = ops.cast(labels == 1, logits.dtype)
    p = ops.sigmoid(logits)
    right = ops.where(labels == 1, p, 1 - p)
    weight = ops.where(labels == 1, alpha, 1 - alpha) * (1 - right) ** gamma * ops.cast(labels >= 0, logits.dtype)
    entropy = ops.binary_crossentropy(there, logits, from_logits=True)
    return ops.sum(weight * entropy) / ops.maximum(ops.sum(there), 1)


def box_loss(wanted, boxes):
    """Absolute error, squared near zero, per object; `wanted` (B, N, 5) ends in whether there is an object."""
    ops = keras.ops
    there = wanted[..., 4:]
    error = ops.abs(boxes - wanted[..., :4])
    error = ops.where(error < 1, error**2 / 2, error - 0.5)
    return ops.sum(error * there) / ops.maximum(ops.sum(there), 1)


# The losses by output, as `compile` takes them.
LOSSES = {"classes": focal_loss, "boxes": box_loss}
