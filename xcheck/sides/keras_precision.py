"""Keras in float64 throughout: Python numbers keep their digits.

TensorFlow turns a Python float into float32 before it casts it on: `tf.cast(0.9, "float64")` is
0.8999999761581421. Keras casts its hyperparameters that way (Adam's betas, SGD's momentum, weight decay,
attention scales), so a model "in float64" computes with constants rounded at 6e-8, seven digits above the
arithmetic. While `float64_throughout` is active a Python float becomes a float64 tensor, as it does in PyTorch
once `torch.set_default_dtype(torch.float64)` is set.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state

_DEFAULT_POLICY = "dtype_policy"


def _is_python_float(x: Any) -> bool:
    return isinstance(x, float) and not isinstance(x, np.generic)


@contextmanager
def float_type(precision: str) -> Generator[None]:
    """Set Keras's float type and the default policy of layers until the block ends.

    Keras keeps the policy of the first layer it makes as the default of all later ones, whatever the float type is
    by then; so both are set, and both are put back.

    Args:
        precision: such as "float32".
    """
    floatx, policy = keras.config.floatx(), global_state.get_global_attribute(_DEFAULT_POLICY)
    keras.config.set_floatx(precision)
    global_state.set_global_attribute(_DEFAULT_POLICY, keras.dtype_policies.DTypePolicy(precision))
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        global_state.set_global_attribute(_DEFAULT_POLICY, policy)


@contextmanager
def float64_throughout() -> Generator[None]:
    """Work in float64 and keep Python floats in it, until the block ends.

    Other backends than TensorFlow convert Python floats in the default float type themselves, so for them the
    float type alone is set (JAX needs `JAX_ENABLE_X64=1` in the environment besides).
    """
    with float_type("float64"), _tensorflow_floats() if keras.config.backend() == "tensorflow" else nullcontext():
        yield


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
