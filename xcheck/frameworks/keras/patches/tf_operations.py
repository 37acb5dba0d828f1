"""TensorFlow in float64, operation by operation: tensors of float32, and operations without a kernel in float64.

Layers that are written with `tf.*` hold tensors of TensorFlow's own default, float32: `tf.constant(0.5)`,
`tf.ones(3)`, `tf.random.normal(...)`, `tf.cast(mask, tf.float32)`. Every operation passes one of three places of
TensorFlow's Python code, eager or while a graph is made. There, inputs of float32 are widened, and an operation that
TensorFlow does not have in float64 on this device is run in float32, for itself alone. What that rounds is noted, and
moved while that is asked for, so that a comparison knows what it does.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import keras
import numpy as np

from ....records.islands import NO_FLOAT64, Islands

_KEPT = re.compile("Cast|Bitcast|Fill|.*Variable.*|Assign.*|Save.*|Restore.*|Print.*")
"""Operations whose type is asked for, or that of what they write to."""

DREW = set[str]()
"""Operations of this process with a random state of their own; their kernels are shared by all models."""

_FLOAT, _DOUBLE = 1, 2
"""The numbers of float32 and float64 in the definitions of TensorFlow's operations."""


@contextmanager
def operations_in_float64(islands: Islands) -> Generator[None]:
    """Have every operation of TensorFlow that sees a float64 computed in float64, until the block ends.

    Args:
        islands: told of what float32 has rounded, and of each operation that was computed in float32.
    """
    from tensorflow.python import pywrap_tfe
    from tensorflow.python.eager import core, execute
    from tensorflow.python.framework import errors, op_def_library

    made = _Operations(islands)
    fast, slow, matching, symbolic = (
        pywrap_tfe.TFE_Py_FastPathExecute,
        execute.execute,
        execute.args_to_matching_eager,
        op_def_library._apply_op_helper,
    )

    def fast_exactly(ctx: Any, op: str, name: Any, *args: Any) -> Any:
        count = made.inputs(op)
        given, rest = list(args[:count]), made.drawing(op, args[count:])

        def run(inputs: Sequence[Any]) -> Any:
            return fast(ctx, op, name, *inputs, *rest)

        return made.run(op, given, run, core._NotOkStatusException)

    def slow_exactly(op_name: Any, num_outputs: int, inputs: Any, attrs: Any, ctx: Any, name: Any = None) -> Any:
        op = op_name.decode() if isinstance(op_name, bytes) else op_name

        def run(given: Sequence[Any], types: Any = attrs) -> Any:
            return slow(op_name, num_outputs, list(given), types, ctx, name)

        def narrow(given: Sequence[Any]) -> Any:
            types = tuple(_FLOAT if i % 2 and a == _DOUBLE else a for i, a in enumerate(attrs or ()))
            return run(given, types)

        return made.run(op, list(inputs), run, errors.OpError, narrow, flat=True)

    def matching_exactly(values: Any, *args: Any, **kwargs: Any) -> Any:
        found = {_dtype(v) for v in _flat(values)}
        return matching(made.widened(list(values)) if "float64" in found else values, *args, **kwargs)

    def symbolic_exactly(op_type_name: str, name: Any = None, **keywords: Any) -> Any:
        groups, fixed, draws = _signature(op_type_name)
        DREW.update(draws)
        by_name = _names(op_type_name)
        if not _KEPT.fullmatch(op_type_name):
            for group in groups:
                keys = [by_name[i] for i in group if by_name[i] in keywords]
                keywords |= zip(keys, made.widened([keywords[k] for k in keys]), strict=True)
            for key in (by_name[i] for i in fixed):
                if _dtype(keywords.get(key)) == "float64":
                    keywords[key] = made.narrowed(op_type_name, keywords[key])
            if _draws(op_type_name) and keywords.get("dtype") == _FLOAT:
                keywords["dtype"] = _DOUBLE
        return symbolic(op_type_name, name, **keywords)

    pywrap_tfe.TFE_Py_FastPathExecute = fast_exactly
    execute.execute, execute.args_to_matching_eager = slow_exactly, matching_exactly
    op_def_library._apply_op_helper = symbolic_exactly
    try:
        yield
    finally:
        pywrap_tfe.TFE_Py_FastPathExecute = fast
        execute.execute, execute.args_to_matching_eager = slow, matching
        op_def_library._apply_op_helper = symbolic


def seed_all(seed: int, precision: str) -> None:
    """`keras.utils.set_random_seed`, while TensorFlow keeps its kernels if none has a random state.

    It forgets all of them with each new seed, and creating them again takes a sixth of the time of an eager step.

    Args:
        seed: for all generators.
        precision: of the run; only in "float64" are all operations seen.
    """
    if keras.config.backend() != "tensorflow" or precision != "float64" or DREW:
        keras.utils.set_random_seed(seed)
        return
    from tensorflow.python import pywrap_tfe

    forget = pywrap_tfe.TFE_ContextClearCaches
    pywrap_tfe.TFE_ContextClearCaches = lambda context: None
    try:
        keras.utils.set_random_seed(seed)
    finally:
        pywrap_tfe.TFE_ContextClearCaches = forget


class _Operations:
    """What is done to the inputs and outputs of an operation."""

    def __init__(self, islands: Islands) -> None:
        self._islands = islands

    def inputs(self, op: str) -> int:
        return len(_names(op))

    def drawing(self, op: str, attrs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The attributes of an operation; of one that draws at random, in float64."""
        if not _draws(op):
            return attrs
        return tuple(_DOUBLE if i and attrs[i - 1] == "dtype" and a == _FLOAT else a for i, a in enumerate(attrs))

    def run(
        self,
        op: str,
        given: list[Any],
        run: Callable[[Sequence[Any]], Any],
        failure: type[Exception],
        narrow: Callable[[Sequence[Any]], Any] | None = None,
        flat: bool = False,
    ) -> Any:
        """Run an operation in float64, or in float32 where there is no other way.

        Args:
            op: its name.
            given: its inputs; lists among them, unless they are `flat`.
            run: runs it on inputs.
            failure: raised where there is no kernel.
            narrow: runs it on inputs of float32, where that is not the same.
            flat: one tensor after the other, already of matching types.
        """
        groups, fixed, draws = _signature(op)
        DREW.update(draws)
        if _KEPT.fullmatch(op):
            return run(given)
        if not flat:
            for group in groups:
                for i, value in zip(group, self.widened([given[i] for i in group]), strict=True):
                    given[i] = value
            if any(_dtype(given[i]) == "float64" for i in fixed):
                return self._in_float32(op, given, run)
        try:
            return run(given)
        except failure:
            if not any(_dtype(v) == "float64" for v in _flat(given)):
                raise
            with suppress(failure):  # the first failure is the one to be raised
                return self._in_float32(op, given, narrow or run)
            raise

    def widened(self, values: list[Any]) -> list[Any]:
        """Inputs of one type, in float64 where they are of float32."""
        flat = _flat(values)
        alone = any(type(v) is float for v in flat) and not any(hasattr(v, "dtype") for v in flat)
        if not alone and not any(_dtype(v) == "float32" for v in flat):
            return values
        import tensorflow as tf

        def wide(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return list(map(wide, value))  # pyright: ignore[reportUnknownArgumentType]
            if alone and type(value) is float:  # the kernel would make a float32 of it
                return tf.constant(value, tf.float64)
            if _dtype(value) != "float32":
                return value
            return tf.cast(tf.convert_to_tensor(value), tf.float64)  # which notes the numbers that it rounds

        return list(map(wide, values))

    def narrowed(self, op: str, value: Any) -> Any:
        """An input in float32, with what that rounds noted."""
        if isinstance(value, list | tuple):
            return [self.narrowed(op, v) for v in value]
        if _dtype(value) != "float64":
            return value
        narrow = _cast(value, _FLOAT)
        return self._noted(op, narrow, 2.0)  # half a rounding to either side would be rounded away

    def _in_float32(self, op: str, given: Sequence[Any], run: Callable[[Sequence[Any]], Any]) -> Any:
        made = run([self.narrowed(op, v) for v in given])
        terms = max((math.prod(v.shape) for v in _flat(given) if _dtype(v) == "float64"), default=1)

        def back(value: Any) -> Any:
            if isinstance(value, list | tuple):
                kept = [back(v) for v in value]
                return type(value)(*kept) if hasattr(value, "_fields") else type(value)(kept)
            if _dtype(value) != "float32":
                return value
            return self._noted(op, _cast(value, _DOUBLE), math.sqrt(terms))

        return back(made)

    def _noted(self, op: str, value: Any, size: float) -> Any:
        """A number of float32, moved by `size` of its roundings while that is asked for."""
        if not hasattr(value, "numpy"):
            return value  # within a graph, where nothing has a value
        factors = self._islands.enter(f"{op}, {NO_FLOAT64}", np.asarray(value))
        if factors is None:
            return value
        import tensorflow as tf

        moved = _cast(value, _DOUBLE) * tf.constant(1.0 + size * (factors - 1.0), tf.float64)
        return _cast(moved, _DOUBLE if _dtype(value) == "float64" else _FLOAT)


def _cast(value: Any, to: int) -> Any:
    import tensorflow as tf
    from tensorflow.python.ops import gen_math_ops

    return gen_math_ops.cast(value, tf.dtypes.as_dtype(to))


def _dtype(value: Any) -> str | None:
    """ "float32" or "float64" where a tensor or a variable is of that type, else None."""
    dtype = getattr(value, "dtype", None)
    name = getattr(dtype, "name", dtype)
    return name if name in ("float32", "float64") else None


def _flat(values: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        found += value if isinstance(value, list | tuple) else [value]
    return found


def _draws(op: str) -> bool:
    return "Random" in op or "TruncatedNormal" in op


@functools.cache
def _names(op: str) -> tuple[str, ...]:
    """The names of the inputs of an operation."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(op)
    return () if definition is None else tuple(arg.name for arg in definition.input_arg)


@functools.cache
def _signature(op: str) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...], tuple[str, ...]]:
    """The positions of inputs of one type, of those that are always float32, and its name if it has a random state."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(op)
    args = () if definition is None else tuple(definition.input_arg)
    by_type: dict[str, list[int]] = {}
    for i, arg in enumerate(args):
        if arg.type_attr:
            by_type.setdefault(arg.type_attr, []).append(i)
    of_float32 = tuple(i for i, arg in enumerate(args) if arg.type == _FLOAT)
    attributes = () if definition is None else (attribute.name for attribute in definition.attr)
    draws = (op,) if definition is not None and definition.is_stateful and "seed" in attributes else ()
    return tuple(map(tuple, by_type.values())), of_float32, draws
