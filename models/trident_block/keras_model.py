"""One block at three dilations, in Keras.

Li et al. 2019, "Scale-Aware Trident Networks for Object Detection": three branches of one bottleneck block share all
weights and differ in the dilation of their 3x3 convolution, so that each sees objects of another size alike. All are
trained; a trained model uses the middle one. Batch normalization is frozen, as in detectors.

A `Conv2D` fixes its dilation, and refuses a stride together with one. So a layer of our own owns the kernel, takes the
dilation as an argument of its call, and keeps every other pixel of what comes out: with a stride of 1 `padding="same"`
pads both sides alike, as PyTorch does. With a stride of 2 it pads an even map at its end only, and all that follows
is off by a pixel.

What a model does in training and what in use may differ in more than dropout: `call` asks for `training`. A functional
model has one graph for both.

Shapes: B batch, H height and width, F filters, M bottleneck, K classes, N branches.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import keras


@dataclass(frozen=True)
class Config:
    """Sizes of the model; `used` is the branch of a trained model.

    `all_used` (averaged) and `padded_at_end` are the usual mistakes.
    """

    filters: int = 8
    bottleneck: int = 4
    classes: int = 10
    dilations: tuple[int, ...] = (1, 2, 3)
    used: int = 1
    stride: int = 2
    all_used: bool = False
    padded_at_end: bool = False


@keras.saving.register_keras_serializable("trident_block")
class StridedDilatedConv(keras.layers.Layer):
    """A 3x3 convolution without bias that has a stride, and whose dilation is chosen at each call."""

    def __init__(self, filters: int, stride: int, first: int = 0, **options) -> None:
        super().__init__(**options)
        self.filters, self.stride, self.first = filters, stride, first

    def build(self, input_shape) -> None:
        shape = (3, 3, input_shape[-1], self.filters)
        self.kernel = self.add_weight(shape=shape, initializer="he_uniform", name="kernel")

    def call(self, x, dilation: int = 1):
        x = keras.ops.conv(x, self.kernel, padding="same", dilation_rate=dilation)
        return x[:, self.first :: self.stride, self.first :: self.stride]

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "stride": self.stride, "first": self.first}


def frozen_norm(name: str) -> keras.layers.Layer:
    """A batch normalization that keeps what it has: Keras runs a frozen one as in use, also in training."""
    return keras.layers.BatchNormalization(epsilon=1e-5, trainable=False, name=name)


@keras.saving.register_keras_serializable("trident_block")
class TridentNet(keras.Model):
    """Stem, one bottleneck block of several branches, and a head on each branch."""

    def __init__(self, config: Config | dict, **options) -> None:
        super().__init__(**options)
        self.config = config = config if isinstance(config, Config) else Config(**config)
        self.stem = keras.layers.Conv2D(config.filters, 3, padding="same", activation="relu", name="stem")
        self.reduce = keras.layers.Conv2D(config.bottleneck, 1, use_bias=False, name="reduce")
        self.reduce_norm = frozen_norm("reduce_norm")
        # To pad at the end only is to start one pixel later.
        first = 1 if config.padded_at_end else 0
        self.conv = StridedDilatedConv(config.bottleneck, config.stride, first, name="conv")
        self.conv_norm = frozen_norm("conv_norm")
        self.expand = keras.layers.Conv2D(config.filters, 1, use_bias=False, name="expand")
        self.expand_norm = frozen_norm("expand_norm")
        self.shortcut = keras.layers.Conv2D(config.filters, 1, strides=config.stride, use_bias=False, name="shortcut")
        self.shortcut_norm = frozen_norm("shortcut_norm")
        self.head = keras.layers.Dense(config.classes, name="head")

    def branch(self, x, dilation: int):
        # x: (B, H, H, F). The tie: the same layers are called, whatever the dilation.
        y = keras.ops.relu(self.reduce_norm(self.reduce(x)))  # (B, H, H, M)
        y = self.conv(y, dilation=dilation)
        y = keras.ops.relu(self.conv_norm(y))  # (B, H / stride, H / stride, M)
        y = self.expand_norm(self.expand(y)) + self.shortcut_norm(self.shortcut(x))
        return self.head(keras.ops.mean(keras.ops.relu(y), axis=(1, 2)))  # (B, K)

    def call(self, image, training=None):
        # image: (B, H, H, 1)
        x = self.stem(image)
        config = self.config
        dilations = config.dilations if training or config.all_used else [config.dilations[config.used]]
        y = keras.ops.stack([self.branch(x, d) for d in dilations], axis=1)  # (B, N, K), N = 1 in use
        return keras.ops.mean(y, axis=1, keepdims=True) if config.all_used and not training else y

    def get_config(self):
        return {**super().get_config(), "config": asdict(self.config)}


def loss(labels, logits):
    """Each branch is to find the label."""
    labels = keras.ops.broadcast_to(keras.ops.reshape(labels, (-1, 1)), keras.ops.shape(logits)[:2])
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def build(config: Config) -> keras.Model:
    """The model, with Keras's own initial weights."""
    return TridentNet(config)
