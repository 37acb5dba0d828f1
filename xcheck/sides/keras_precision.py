"""Keras in float64 throughout: Python numbers keep their digits.

TensorFlow turns a Python float into float32 before it casts it on: `tf.cast(0.9, "float64")` is
0.8999999761581421. Keras casts its hyperparameters that way (Adam's betas, SGD's momentum, weight decay,
attention scales), so a model "in float64" computes with constants rounded at 6e-8, seven digits above the
arithmetic. While `float64_throughout` is active a Python float becomes a float64 tensor, as it does in PyTorch
once `torch.set_default_dtype(torch.float64)` is set.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np


def _is_python_float(x: Any) -> bool:
    return isinstance(x, float) and not isinstance(x, np.generic)


@contextmanager
def float64_throughout() -> Generator[None]:
    """Set Keras's float type to float64 and keep Python floats in it, until the block ends.

    Other backends than TensorFlow convert Python floats in the default float type themselves, so for them
    only the float type is set (JAX needs `JAX_ENABLE_X64=1` in the environment besides).
    """
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        if keras.config.backend() == "tensorflow":
            with _tensorflow_floats():
                yield
        else:
            yield
    finally:
        keras.config.set_floatx(before)


@contextmanager
def _tensorflow_floats() -> Generator[None]:
    import tensorflow as tf

    cast, convert = tf.cast, tf.convert_to_tensor

    def cast_exactly(x: Any, dtype: Any, name: str | None = None) -> Any:
        if _is_python_float(x) and tf.as_dtype(dtype) == tf.float64:
            return tf.constant(x, dtype=tf.float64, name=name)
        return cast(x, dtype, name=name)

    def convert_exactly(value: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if dtype is None and _is_python_float(value):
            dtype = tf.float64
        return convert(value, dtype, *args, **kwargs)

    tf.cast, tf.convert_to_tensor = cast_exactly, convert_exactly
    try:
        yield
    finally:
        tf.cast, tf.convert_to_tensor = cast, convert
