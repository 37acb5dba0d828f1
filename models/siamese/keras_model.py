"""One encoder that sees two images, in Keras.

Hadsell, Chopra and LeCun 2006, "Dimensionality Reduction by Learning an Invariant Mapping": both images go through
the same encoder, and a contrastive loss pulls equal pairs together and pushes others apart.

The encoder is a model of its own that is called twice. Keras stores a model inside a model once, with a list of its
calls, so the two uses are one set of weights before and after saving; a second encoder, or `clone_model`, is not.

One call for both images, concatenated along the batch, looks like the same thing and is faster. With batch
normalization it is another computation: the images are normalized by the statistics of both halves together, and the
running statistics move once in place of twice.

Shapes: B batch, H height and width, F filters, E embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras

from ..keras_layers import BatchNorm


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `concatenated` makes one call of two, which is the usual mistake."""

    image_size: int = 8
    filters: int = 6
    embedding: int = 5
    concatenated: bool = False


def encoder(config: Config) -> keras.Model:
    """An image to a point."""
    image = keras.Input((config.image_size, config.image_size, 1), name="image")  # (B, H, H, 1)
    x = keras.layers.Conv2D(config.filters, 3, padding="same", name="conv")(image)
    x = keras.ops.relu(BatchNorm(name="norm")(x))  # (B, H, H, F)
    x = keras.layers.AveragePooling2D(2)(x)  # (B, H / 2, H / 2, F)
    head = keras.layers.Dense(config.embedding, use_bias=False, name="head")  # a bias would cancel in the distance
    return keras.Model(image, head(keras.layers.Flatten()(x)), name="encoder")  # (B, E)


def build(config: Config) -> keras.Model:
    """The distance between what one encoder makes of two images; with Keras's own initial weights."""
    size = (config.image_size, config.image_size, 1)
    left, right = keras.Input(size, name="left"), keras.Input(size, name="right")  # each (B, H, H, 1)
    shared = encoder(config)
    if config.concatenated:
        a, b = keras.ops.split(shared(keras.layers.Concatenate(axis=0)([left, right])), 2)
    else:
        a, b = shared(left), shared(right)  # each (B, E)
    # PyTorch's pairwise_distance adds 1e-6 to each difference, which keeps the root differentiable.
    distance = keras.ops.sqrt(keras.ops.sum((a - b + 1e-6) ** 2, axis=-1, keepdims=True))  # (B, 1)
    return keras.Model([left, right], distance)


def contrastive_loss(same, distance, margin: float = 1.0):
    """Half the squared distance of equal pairs, half the squared shortfall to the margin of others."""
    return (same * distance**2 + (1 - same) * keras.ops.relu(margin - distance) ** 2) / 2
