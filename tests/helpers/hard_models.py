"""One net of thirty layers in both frameworks, an image and a text in, with a place for each fault that is hard to see.

The names are scrambled and say nothing, and there is no weight map. Without a fault the two are one computation. Each
keyword of `torch_net` and `keras_net` plants a fault that is in somebody's port; its usual value is the right one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import xcheck

WORDS, LENGTH, CLASSES, BATCH = 11, 4, 7, 3


def torch_net(
    align_corners: bool = False, antialias: bool = False, ddof: int = 0, last_step: bool = False, slope: float = 0.1
) -> Any:
    import torch
    from torch import nn
    from torch.nn import functional as f

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.m12 = nn.Conv2d(3, 6, 3, padding=1)
            self.m3 = nn.BatchNorm2d(6)
            self.m27 = nn.LeakyReLU(slope)
            self.m8 = nn.Conv2d(6, 8, 3, stride=2, padding=1)
            self.m1 = nn.BatchNorm2d(8)
            self.m19 = nn.GELU()
            self.m5 = nn.AvgPool2d(3, 1, 1)
            self.m14 = nn.Conv2d(8, 16, 3, padding=1, groups=8)
            self.m9 = nn.Conv2d(16, 4, 1)
            self.m22 = nn.MaxPool2d(2)
            self.m31 = nn.Linear(16, 8)
            self.m30 = nn.Embedding(WORDS, 8, padding_idx=0)
            self.m25 = nn.LayerNorm(8)
            self.m6 = nn.MultiheadAttention(8, 2, batch_first=True)
            self.m11 = nn.LayerNorm(8, eps=1e-6)
            self.m18 = nn.Linear(8, 16)
            self.m4 = nn.GELU("tanh")
            self.m16 = nn.Linear(16, 8)
            self.m21 = nn.GRU(8, 6, batch_first=True)
            self.m7 = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
            for second in (self.m7.bias_hh_l0, self.m7.bias_hh_l0_reverse):
                nn.init.zeros_(second.requires_grad_(False))  # Keras has one bias, which two would move twice as far
            self.m15 = nn.Linear(10, 10)
            self.m20 = nn.Softmax(1)
            self.m10 = nn.Dropout(0.25)
            self.m13 = nn.Linear(18, 12)
            self.m2 = nn.SiLU()
            self.m17 = nn.Linear(12, CLASSES)

        def forward(self, image: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
            x = self.m27(self.m3(self.m12(image)))  # (B, 6, 8, 8)
            x = f.interpolate(
                x, size=(12, 12), mode="bilinear", align_corners=align_corners, antialias=antialias
            )  # (B, 6, 12, 12)
            x = self.m19(self.m1(self.m8(x)))  # (B, 8, 6, 6)
            x = self.m9(self.m14(self.m5(x)))  # (B, 4, 6, 6)
            x = self.m22(f.interpolate(x, size=(4, 4), mode="nearest-exact"))  # (B, 4, 2, 2)
            x = self.m31(x.flatten(1))
            padding = words == 0
            y = self.m25(self.m30(words) * 8**0.5)  # (B, T, 8)
            y = y + self.m6(y, y, y, key_padding_mask=padding, need_weights=False)[0]
            y = y + self.m16(self.m4(self.m18(self.m11(y))))
            y = self.m7(self.m21(y)[0])[0]  # (B, T, 10)
            y = (y * self.m20(self.m15(y))).sum(1)
            z = self.m10(torch.cat([x, y], 1))
            return self.m17(self.m2(self.m13(z)))

    return Net()


def keras_net(
    momentum: float = 0.9,
    slope: float = 0.1,
    strided: str = "valid",
    border: str = "counted",
    gelu: str = "exact",
    flatten: str = "channels first",
    factor: float = 8**0.5,
    row: str = "frozen",
    epsilon: float = 1e-6,
    mask: str = "attend",
    softmax_axis: int = 1,
    rate: float = 0.25,
    reset_after: bool = True,
    variance: str = "unbiased",
) -> Any:
    import keras
    from keras import layers, ops

    from models.keras_layers import BatchNorm, Embedding

    norm = BatchNorm if variance == "unbiased" else layers.BatchNormalization
    image = keras.Input((8, 8, 3), name="image")
    words = keras.Input((LENGTH,), dtype="int32", name="words")
    x = layers.Conv2D(6, 3, padding="same", name="layer_9")(image)
    x = norm(momentum=momentum, epsilon=1e-5, name="layer_30")(x)
    x = layers.LeakyReLU(slope, name="layer_2")(x)
    x = layers.Resizing(12, 12, name="layer_21")(x)
    if strided == "valid":
        x = layers.ZeroPadding2D(1, name="layer_28")(x)
    x = layers.Conv2D(8, 3, strides=2, padding=strided, name="layer_17")(x)
    x = norm(momentum=0.9, epsilon=1e-5, name="layer_5")(x)
    x = layers.Activation(lambda v: keras.activations.gelu(v, approximate=gelu == "tanh"), name="layer_14")(x)
    if border == "counted":
        x = layers.ZeroPadding2D(1, name="layer_33")(x)
    x = layers.AveragePooling2D(3, 1, padding="valid" if border == "counted" else "same", name="layer_1")(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="layer_12")(x)
    x = layers.Conv2D(4, 1, name="layer_25")(x)
    x = layers.Resizing(4, 4, interpolation="nearest", name="layer_6")(x)
    x = layers.MaxPooling2D(2, name="layer_23")(x)
    if flatten == "channels first":
        x = layers.Permute((3, 1, 2), name="layer_18")(x)
    x = layers.Dense(8, name="layer_10")(layers.Flatten(name="layer_27")(x))
    known = ops.not_equal(words, 0)
    y = Embedding(WORDS, 8, name="layer_4")(words)
    if row == "frozen":
        y = ops.where(known[..., None], y, ops.stop_gradient(y))
    y = layers.LayerNormalization(epsilon=1e-5, name="layer_20")(y * factor)
    told = known[:, None, :] if mask == "attend" else ops.equal(words, 0)[:, None, :]
    y = y + layers.MultiHeadAttention(2, 4, name="layer_31")(y, y, attention_mask=told)
    h = layers.LayerNormalization(epsilon=epsilon, name="layer_8")(y)
    h = layers.Dense(16, name="layer_15")(h)
    h = layers.Activation(lambda v: keras.activations.gelu(v, approximate=True), name="layer_22")(h)
    y = y + layers.Dense(8, name="layer_3")(h)
    y = layers.GRU(6, return_sequences=True, reset_after=reset_after, name="layer_26")(y)
    y = layers.Bidirectional(layers.LSTM(5, return_sequences=True, name="layer_11"), name="layer_29")(y)
    shares = layers.Softmax(softmax_axis, name="layer_7")(layers.Dense(10, name="layer_19")(y))
    y = ops.sum(y * shares, axis=1)
    z = layers.Dropout(rate, name="layer_24")(layers.Concatenate(name="layer_32")([x, y]))
    z = layers.Dense(12, name="layer_13")(z)
    z = layers.Activation("silu", name="layer_16")(z)
    return keras.Model([image, words], layers.Dense(CLASSES, name="layer_0")(z))


def torch_loss(logits: Any, wanted: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(logits, wanted, label_smoothing=0.1)


def keras_loss(smoothing: float = 0.1, from_logits: bool = True) -> Any:
    import keras

    return keras.losses.CategoricalCrossentropy(from_logits=from_logits, label_smoothing=smoothing)


def batches(seed: int) -> Iterator[xcheck.Batch]:
    """Images (B, 8, 8, 3) and words (B, T), of which the last few are padding, and a class each."""
    rng = np.random.default_rng(seed)
    while True:
        words = rng.integers(1, WORDS, (BATCH, LENGTH)).astype(np.int32)
        for row, many in enumerate(rng.integers(0, 3, BATCH)):
            words[row, LENGTH - many :] = 0
        words[0, -2:], words[-1] = 0, rng.integers(1, WORDS, LENGTH)
        images = rng.standard_normal((BATCH, 8, 8, 3)) * 0.5
        yield xcheck.Batch({"image": images, "words": words}, np.eye(CLASSES)[rng.integers(0, CLASSES, BATCH)])


def hard(
    torch: dict[str, Any] | None = None,
    keras: dict[str, Any] | None = None,
    loss: dict[str, Any] | None = None,
    adam: str = "pytorch",
) -> xcheck.Pair:
    """The pair, with faults of `torch_net`, `keras_net` and `keras_loss`; `adam`: whose formula Keras follows."""

    def torch_optimizer(parameters: Any) -> Any:
        import torch

        return torch.optim.Adam(parameters, lr=1e-3, eps=1e-7)

    def keras_optimizer() -> Any:
        import keras

        from xcheck.optim.keras.optimizers import TorchAdam

        return TorchAdam(1e-3, eps=1e-7) if adam == "pytorch" else keras.optimizers.Adam(1e-3, epsilon=1e-7)

    def to_torch(batch: xcheck.Batch) -> Any:
        inputs: Any = batch.inputs
        return {"image": inputs["image"].transpose(0, 3, 1, 2), "words": inputs["words"]}, batch.targets

    def to_keras(batch: xcheck.Batch) -> Any:
        inputs: Any = batch.inputs
        return [inputs["image"], inputs["words"]], batch.targets

    return xcheck.Pair(
        name="hard",
        torch=xcheck.TorchSide(lambda: torch_net(**(torch or {})), torch_loss, torch_optimizer, prepare=to_torch),
        keras=xcheck.KerasSide(
            lambda: keras_net(**(keras or {})), keras_loss(**(loss or {})), keras_optimizer, prepare=to_keras
        ),
        batches=batches,
    )
