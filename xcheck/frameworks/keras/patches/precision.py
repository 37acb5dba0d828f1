"""Keras in float64 throughout: Python numbers keep their digits, and casts to float32 are kept in float64 and listed.

TensorFlow turns a Python float into float32 before it casts it on: `tf.cast(0.9, "float64")` is
0.8999999761581421. Keras casts its hyperparameters that way (Adam's betas, SGD's momentum, weight decay,
attention scales), so a model "in float64" computes with constants rounded at 6e-8, seven digits above the
arithmetic. While `float64_throughout` is active a Python float becomes a float64 tensor, as it does in PyTorch
once `torch.set_default_dtype(torch.float64)` is set; and where code asks for "float32" by name, it gets float64.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import dtypes, global_state

from ....records.islands import Islands
from ..tf_variables import variables_in_float64
from .jax_precision import jax_in_float64
from .resize import resizing_in_float64
from .tf_operations import operations_in_float64
from .torch_precision import torch_in_float64

NARROW = ("float32", "bfloat16", "float16")
_DEFAULT_POLICY = "dtype_policy"


def layer_of(owner: Any) -> str | None:
    """Path of a layer, for `Islands`; None for anything else."""
    return (owner.path or owner.name) if isinstance(owner, keras.layers.Layer) else None


@contextmanager
def float_type(precision: str) -> Generator[None]:
    """Set Keras's float type and the default policy of layers until the block ends.

    Keras keeps the policy of the first layer it makes as the default of all later ones, whatever the float type is
    by then; so both are set, and both are put back.

    Args:
        precision: such as "float32".
    """
    floatx, policy = keras.config.floatx(), global_state.get_global_attribute(_DEFAULT_POLICY)
    weak: Any = dtypes._resolve_weak_type

    def as_shipped(dtype: str, precision: str = "32") -> str:
        """A Python number's dtype; whole numbers take their width from the float type, and keep the one of float32."""
        return weak(dtype, precision if dtype.startswith(("f", "b")) else "32")

    dtypes._resolve_weak_type = as_shipped
    keras.config.set_floatx(precision)
    global_state.set_global_attribute(_DEFAULT_POLICY, keras.dtype_policies.DTypePolicy(precision))
    try:
        yield
    finally:
        dtypes._resolve_weak_type = weak
        keras.config.set_floatx(floatx)
        global_state.set_global_attribute(_DEFAULT_POLICY, policy)


@contextmanager
def float64_throughout(islands: Islands | None = None) -> Generator[None]:
    """Work in float64 and keep to it, until the block ends.

    Other backends than TensorFlow convert Python floats in the default float type themselves: there only what is
    asked for by name is intercepted.

    Args:
        islands: told of every cast that was kept in float64.
    """
    islands = islands if islands is not None else Islands(layer_of)
    of_backend = {"tensorflow": _tensorflow, "jax": jax_in_float64, "torch": torch_in_float64}
    with float_type("float64"), _names(islands), of_backend[keras.config.backend()](islands):
        yield


@contextmanager
def _names(islands: Islands) -> Generator[None]:
    """In the table through which Keras reads every name of a dtype, the narrow floats mean float64."""
    before, narrowed = dtypes.PYTHON_DTYPES_MAP, dtypes.BIT64_TO_BIT32_DTYPE

    class Table(dict[Any, Any]):
        def get(self, key: Any, default: Any = None) -> Any:
            # The table is also read for promotion and for what a tensor has; only a conversion is an island.
            caller = sys._getframe(2).f_code.co_name  # pyright: ignore[reportPrivateUsage]
            if isinstance(key, str) and key in NARROW and caller in ("cast", "convert_to_tensor"):
                islands.add(f"{caller} to {key}")
            return super().get(key, default)

    dtypes.PYTHON_DTYPES_MAP = Table(before | dict.fromkeys((*NARROW, float), "float64"))
    # On other backends than TensorFlow, Keras turns every float64 that a promotion gives into float32.
    dtypes.BIT64_TO_BIT32_DTYPE = narrowed | {"float64": "float64"}
    try:
        yield
    finally:
        dtypes.PYTHON_DTYPES_MAP, dtypes.BIT64_TO_BIT32_DTYPE = before, narrowed


def policy_islands(model: Any, islands: Islands) -> None:
    """Note the layers that name a narrow float as their own dtype."""
    for layer in model._flatten_layers():
        if layer.dtype_policy.name in NARROW:
            islands.casts[layer_of(layer) or layer.name, f"dtype={layer.dtype_policy.name!r}"] = 1


def exact_factors(model: Any, islands: Islands) -> None:
    """Give regularizers that were made before the run their factors in float64.

    Keras holds a factor as a tensor of the float type of its making. The number that was meant is taken to be the
    shortest decimal that rounds to the one that is held.
    """
    for variable in model.variables:
        regularizer = variable.regularizer
        for name in ("l1", "l2", "factor"):
            held: Any = getattr(regularizer, name, None)
            if keras.ops.is_tensor(held) and keras.backend.standardize_dtype(held.dtype) == "float32":
                meant = float(str(np.asarray(held, np.float32)))
                variable.regularizer = regularizer = copy.copy(regularizer)
                setattr(regularizer, name, keras.ops.convert_to_tensor(meant, "float64"))
                islands.casts[variable.path, f"{name} of a regularizer made before the run"] = 1


@contextmanager
def _tensorflow(islands: Islands) -> Generator[None]:
    """TensorFlow's own conversions, for its callers outside (`tf.cast`) and inside (`math_ops.cast`)."""
    import tensorflow as tf
    from keras.src.backend.tensorflow import numpy as keras_numpy
    from tensorflow.python.framework import constant_op
    from tensorflow.python.framework import override_binary_operator as operators
    from tensorflow.python.framework import tensor_conversion_registry as registry
    from tensorflow.python.ops import math_ops

    cast, convert, registered, promoted, constant = (
        tf.cast,
        tf.convert_to_tensor,
        registry.convert,
        operators.maybe_promote_tensors,
        constant_op._constant_impl,
    )

    def entered(operation: str, x: Any, wide: Any) -> Any:
        """`wide`, which numbers of float32 have become; moved while that is asked for."""
        if not isinstance(x, np.ndarray | np.generic) and not hasattr(x, "numpy"):
            return wide  # within a graph, where nothing has a value
        factors = islands.enter(operation, np.asarray(x))
        return wide if factors is None else wide * tf.constant(factors, tf.float64)

    asked: list[Any] = []  # dtypes that TensorFlow itself asks for while it converts: it refuses any other

    def of_float32(value: Any) -> bool:
        return isinstance(value, np.ndarray | np.generic) and value.dtype == np.float32

    def registered_exactly(value: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if dtype is not None and tf.is_tensor(value) and tf.as_dtype(dtype) != value.dtype:
            to = tf.as_dtype(dtype).base_dtype
            if {to.name, value.dtype.base_dtype.name} == {"float32", "float64"}:
                return cast_exactly(value, to)
        if dtype == tf.float32 and isinstance(value, list | tuple) and any(map(tf.is_tensor, tf.nest.flatten(value))):
            dtype = tf.float64  # they are packed by an operation, which makes float64
        asked.append(dtype)
        try:
            made = registered(value, dtype, *args, **kwargs)
        finally:
            asked.pop()
        widened = of_float32(value) and made.dtype == tf.float64
        return entered("conversion of an array", value, made) if widened else made

    def promoted_exactly(*tensors: Any, **kwargs: Any) -> Any:
        if any(getattr(t, "dtype", None) == tf.float64 for t in tensors):  # operators convert within their kernel
            tensors = tuple(registered_exactly(t, tf.float64) if of_float32(t) else t for t in tensors)
        return promoted(*tensors, **kwargs)

    def cast_exactly(x: Any, dtype: Any, name: str | None = None) -> Any:
        target = tf.as_dtype(getattr(dtype, "base_dtype", dtype))
        if _is_python_float(x) and target == tf.float64:
            return tf.constant(x, dtype=tf.float64, name=name)
        if sys._getframe(1).f_code.co_name == "_CastGrad":  # pyright: ignore[reportPrivateUsage]
            return cast(x, dtype, name=name)  # back through a cast that was made, to a kernel of float32
        if target == tf.float64 and getattr(x, "dtype", None) == tf.float32:
            return entered("cast", x, cast(x, dtype, name=name))
        if target.name in NARROW and getattr(x, "dtype", None) == tf.float64:
            islands.add(f"cast to {target.name}")
            return x if tf.is_tensor(x) else convert(x)
        if target == tf.float32 and tf.is_tensor(x) and (x.dtype.is_integer or x.dtype.is_bool):
            return cast(x, tf.float64, name=name)
        return cast(x, dtype, name=name)

    def constant_exactly(value: Any, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        if dtype is None and _holds_python_floats(value):
            dtype = tf.float64
        elif dtype is not None and not any(asked) and tf.as_dtype(dtype).name in NARROW and _rounded(value):
            islands.add(f"constant of {tf.as_dtype(dtype).name}")
            dtype = tf.float64
        return constant(value, dtype, *args, **kwargs)

    def convert_exactly(value: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if (
            dtype is not None
            and tf.as_dtype(dtype).name in NARROW
            and not tf.is_tensor(value)
            and not _held_in(value, NARROW)
        ):
            islands.add(f"conversion to {tf.as_dtype(dtype).name}")
            dtype = tf.float64
        return convert(value, dtype, *args, **kwargs)

    leaky_relu = tf.nn.leaky_relu

    def leaky_relu_exactly(features: Any, alpha: float = 0.2, name: str | None = None) -> Any:
        x = convert(features)
        if x.dtype != tf.float64:
            return leaky_relu(features, alpha=alpha, name=name)
        if float(np.float32(alpha)) != alpha:  # TensorFlow's operation keeps its slope as a float32
            islands.add("slope of tf.nn.leaky_relu")
        return tf.where(x > 0, x, x * tf.constant(alpha, tf.float64))

    signbit = keras_numpy.signbit

    def signbit_of_any_width(x: Any) -> Any:
        x = convert_exactly(x)
        if x.dtype != tf.float64:
            return signbit(x)
        return (x < 0) | ((x == 0) & (1 / x < 0))  # Keras reads the bits of a float32, and argmax asks for them

    tf.cast, tf.convert_to_tensor, math_ops.cast = cast_exactly, convert_exactly, cast_exactly
    keras_numpy.signbit, constant_op._constant_impl = signbit_of_any_width, constant_exactly
    tf.nn.leaky_relu = leaky_relu_exactly
    registry.convert, operators.maybe_promote_tensors = registered_exactly, promoted_exactly
    try:
        with (
            resizing_in_float64(islands),
            operations_in_float64(islands),
            tf.variable_creator_scope(variables_in_float64(islands)),
        ):
            yield
    finally:
        tf.cast, tf.convert_to_tensor, math_ops.cast = cast, convert, cast
        tf.nn.leaky_relu = leaky_relu
        keras_numpy.signbit, constant_op._constant_impl = signbit, constant
        registry.convert, operators.maybe_promote_tensors = registered, promoted


def _is_python_float(x: Any) -> bool:
    return isinstance(x, float) and not isinstance(x, np.generic)


def _holds_python_floats(value: Any) -> bool:
    """Whether a number or nested lists of numbers hold a Python float, which TensorFlow makes float32 of."""
    if isinstance(value, list | tuple):
        return any(map(_holds_python_floats, value))  # pyright: ignore[reportUnknownArgumentType]
    return _is_python_float(value)


def _held_in(value: Any, names: tuple[str, ...]) -> bool:
    dtype = getattr(value, "dtype", None)
    return getattr(dtype, "name", dtype) in names


def _rounded(value: Any) -> bool:
    """Whether a narrow float would not hold these numbers; TensorFlow's own zeros and ones it does hold."""
    if _held_in(value, NARROW):
        return False
    numbers = np.asarray(value)
    with np.errstate(over="ignore"):
        return numbers.dtype.kind == "f" and not np.array_equal(numbers, numbers.astype(np.float32), equal_nan=True)
