"""TensorFlow's bilinear and bicubic resizing in float64: its kernels compute in float32 whatever they are given."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ....records.islands import Islands
from ....records.trace import Array

TABLE = 1024
"""Steps between two positions at which TensorFlow's bicubic kernel knows its coefficients, without antialiasing:
`kTableSize` in tensorflow/core/kernels/image/resize_bicubic_op.cc."""


def _linear(d: Array) -> Array:
    return np.maximum(0.0, 1.0 - d)


def _cubic(d: Array) -> Array:
    """Keys' cubic with a coefficient of -0.5."""
    near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


KERNELS = {"bilinear": _linear, "bicubic": _cubic}
"""Method of `tf.image.resize` -> what a pixel weighs, by its distance."""


def resizing_weights(method: str, size: int, wanted: int, *, antialias: bool) -> Array:
    """(wanted, size) weights of half-pixel resizing along one axis, as TensorFlow documents it.

    Args:
        method: one of `KERNELS`.
        size: of what goes in.
        wanted: of what comes out.
        antialias: average over all that one position comes from, where it gets smaller.
    """
    scale = size / wanted
    reach = max(scale, 1.0) if antialias else 1.0
    at = (np.arange(wanted) + 0.5) * scale - 0.5
    if method == "bicubic" and not antialias:
        at = np.rint(at * TABLE) / TABLE
    weights = KERNELS[method](np.abs(np.arange(size) - at[:, None]) / reach)
    return weights / weights.sum(axis=1, keepdims=True)  # nothing is taken from outside


@contextmanager
def resizing_in_float64(islands: Islands) -> Generator[None]:
    """Have `tf.image.resize` interpolate float64 images in float64, until the block ends.

    Args:
        islands: told where.
    """
    import tensorflow as tf

    resize: Any = tf.image.resize

    def exactly(images: Any, size: Any, method: Any = "bilinear", *args: Any, **kwargs: Any) -> Any:
        extra = args[0] if args else kwargs.get("preserve_aspect_ratio", False)
        antialias = bool(args[1] if len(args) > 1 else kwargs.get("antialias", False))
        known = tf.is_tensor(images) and images.dtype == tf.float64 and images.shape[-3:].is_fully_defined()
        if not known or extra or method not in KERNELS:
            return resize(images, size, method, *args, **kwargs)
        islands.add("tf.image.resize")
        for axis, wanted in ((-3, size[0]), (-2, size[1])):
            weights = resizing_weights(method, int(images.shape[axis]), int(wanted), antialias=antialias)
            equation = "...ywc,zy->...zwc" if axis == -3 else "...hxc,zx->...hzc"
            images = tf.einsum(equation, images, tf.constant(weights, tf.float64))
        return images

    tf.image.resize = exactly
    try:
        yield
    finally:
        tf.image.resize = resize
