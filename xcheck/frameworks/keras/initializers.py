"""What the initializers of a Keras model promise."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras.src.initializers.random_initializers import compute_fans

from ...numerics.distributions import Distribution
from .variables import places

TRUNCATED_STD = 0.87962566103423978
"""Standard deviation of a unit normal cut at two standard deviations; Keras divides by it to keep the variance."""


def promises(model: keras.Model) -> dict[str, Distribution]:
    """Path -> distribution of every parameter whose layer names an initializer that is known here."""
    found: dict[str, Distribution] = {}
    for place in places(model):
        layer = place.layer
        initializer = getattr(layer, f"{place.variable.name}_initializer", None)
        if place.alias or initializer is None:
            continue
        if place.variable.name == "bias" and getattr(layer, "unit_forget_bias", False):
            continue  # an LSTM sets the forget gate's part to one, whatever its initializer says
        shape = tuple(place.variable.shape)
        promise = promised(initializer, shape, _fans(layer, initializer, shape))
        if promise is not None:
            found[place.path] = promise
    return found


def _fans(layer: Any, initializer: Any, shape: tuple[int, ...]) -> tuple[int, int]:
    """Inputs and outputs per unit: an einsum says which axes are which, else Keras takes a convolution's order."""
    if not isinstance(layer, keras.layers.EinsumDense) or not hasattr(initializer, "input_axes"):
        return compute_fans(shape)
    kernel, outputs = layer.equation.split(",")[1].split("->")
    summed = [i for i, letter in enumerate(kernel) if letter not in outputs]
    return compute_fans(shape, summed, [i for i in range(len(kernel)) if i not in summed])


def promised(initializer: Any, shape: tuple[int, ...], fans: tuple[int, int] | None = None) -> Distribution | None:
    """The distribution of an initializer for a shape; None for a kind that is not known here.

    The variance of the scaling family is scale / fan (Glorot and Bengio 2010, He et al. 2015); a uniform one reaches
    sqrt(3 * variance), a cut normal one is widened by 1 / TRUNCATED_STD.
    """
    name = type(initializer).__name__
    kinds = keras.initializers
    if isinstance(initializer, kinds.VarianceScaling):
        fan_in, fan_out = fans or compute_fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[initializer.mode]
        std = math.sqrt(initializer.scale / max(1.0, fan))
        if initializer.distribution == "uniform":
            limit = math.sqrt(3) * std
            return Distribution("uniform", -limit, 2 * limit, name)
        if initializer.distribution == "untruncated_normal":
            return Distribution("normal", 0.0, std, name)
        return Distribution("truncated_normal", 0.0, std / TRUNCATED_STD, name)
    if isinstance(initializer, kinds.RandomUniform):
        return Distribution("uniform", initializer.minval, initializer.maxval - initializer.minval, name)
    if isinstance(initializer, kinds.TruncatedNormal):
        return Distribution("truncated_normal", initializer.mean, initializer.stddev, name)
    if isinstance(initializer, kinds.RandomNormal):
        return Distribution("normal", initializer.mean, initializer.stddev, name)
    if isinstance(initializer, kinds.Zeros | kinds.Ones):
        return Distribution("constant", float(isinstance(initializer, kinds.Ones)), 0.0, name)
    if isinstance(initializer, kinds.Constant) and isinstance(initializer.value, int | float):
        return Distribution("constant", float(initializer.value), 0.0, name)
    return None
