"""Tensors of unlike sizes before a mean or a maximum: the setting that makes them, or the sizes and who makes them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from torch import nn

import xcheck

IMAGE = (2, 9, 8, 3)


def pair_of(torch_part: Any, keras_part: Any, *, largest: bool = False) -> xcheck.Pair:
    """Something that makes an image smaller, a tanh, a mean or a maximum over it, and a linear layer."""

    def build_torch() -> Any:
        pool = nn.AdaptiveMaxPool2d(1) if largest else nn.AdaptiveAvgPool2d(1)
        return nn.Sequential(torch_part(), nn.Tanh(), pool, nn.Flatten(), nn.LazyLinear(3))

    def build_keras() -> Any:
        inputs = keras.Input(IMAGE[1:])
        x = keras.ops.tanh(keras_part()(inputs))
        pool = layers.GlobalMaxPooling2D() if largest else layers.GlobalAveragePooling2D()
        return keras.Model(inputs, layers.Dense(3)(pool(x)))

    def made() -> Any:
        model = build_torch()
        model(torch.zeros(1, IMAGE[-1], *IMAGE[1:3]))
        return model

    def prepare(batch: Any) -> Any:
        return np.moveaxis(batch.inputs, -1, 1).copy(), None

    def batches(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        while True:
            yield xcheck.Batch(rng.standard_normal(IMAGE))

    return xcheck.Pair("sizes", xcheck.TorchSide(made, prepare=prepare), xcheck.KerasSide(build_keras), batches)


def causes_of(pair: xcheck.Pair) -> list[xcheck.Cause]:
    phases = ("inventory", "sync", "forward")
    return list(xcheck.check(pair, steps=1, precision=("float64",), free_steps=0, phases=phases).causes)


def conv(**options: Any) -> Any:
    return nn.Conv2d(3, 4, 3, **options)


def keras_conv(**options: Any) -> Any:
    return layers.Conv2D(4, 3, **options)


SETTINGS: dict[str, tuple[xcheck.Pair, str, str]] = {
    "padding of a convolution": (
        pair_of(conv, lambda: keras_conv(padding="same")),
        "padding",
        "0 before and 0 after in torch and 1 before and 1 after in keras",
    ),
    "stride of a convolution": (
        pair_of(lambda: conv(stride=2), keras_conv, largest=True),
        "stride",
        "(2, 2) in torch and (1, 1) in keras",
    ),
    "rounding up of a pool": (
        pair_of(lambda: nn.MaxPool2d(2, ceil_mode=True), lambda: layers.MaxPooling2D(2)),
        "padding",
        "in torch and 0 before and 0 after in keras",
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_makes_another_size(name: str) -> None:
    pair, expected, words = SETTINGS[name]
    (cause,) = causes_of(pair)
    assert (cause.id, cause.confirmed) == (expected, True)
    assert words in cause.summary


class Cropped(nn.Conv2d):
    """Leaves out the last row, and computes on the rest."""

    def forward(self, input: Any) -> Any:
        return super().forward(input[:, :, :-1])


CROPPED: dict[str, xcheck.Pair] = {
    "in keras": pair_of(
        lambda: conv(padding=1),
        lambda: keras.Sequential([layers.Cropping2D(((0, 1), (0, 0))), keras_conv(padding="same")]),
    ),
    "in torch": pair_of(lambda: Cropped(3, 4, 3, padding=1), lambda: keras_conv(padding="same")),
}


@pytest.mark.parametrize("side", CROPPED)
def test_a_size_without_a_setting_is_said_and_not_confirmed(side: str) -> None:
    (cause,) = causes_of(CROPPED[side])
    assert (cause.id, cause.confirmed) == ("other_size", False)
    assert ("9 entries in torch and 8" in cause.summary) == (side == "in keras")
    assert ("8 entries in torch and 9" in cause.summary) == (side == "in torch")


def test_tensors_of_one_size_have_no_other_size() -> None:
    pair = pair_of(lambda: conv(padding=1), lambda: keras_conv(padding="same", activation="relu"))
    assert [cause.id for cause in causes_of(pair)] != []
    assert not any(cause.id == "other_size" for cause in causes_of(pair))
