"""NumPy in float64 throughout, while a side prepares a batch.

Ports cast their inputs to float32 before scaling. In a float64 run that rounds all results, only on that side. The
arrays passed to `prepare` use float64 instead of any narrow float dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from ..pairs.pair import Batch
from ..records.islands import Islands

NARROW = (np.dtype(np.float16), np.dtype(np.float32))
_MAKERS = ("array", "asarray", "asanyarray", "ascontiguousarray", "zeros", "ones", "empty", "full")
_LIKE = ("zeros_like", "ones_like", "empty_like", "full_like")
"""Functions that create arrays of numbers; functions that read bytes need the exact dtype."""


def _widened(dtype: Any) -> Any:
    """float64 for a narrow float, else the given dtype."""
    if not isinstance(dtype, str | type | np.dtype):
        return dtype
    try:
        return np.dtype(np.float64) if np.dtype(dtype) in NARROW else dtype
    except TypeError:
        return dtype


class WideArray(np.ndarray[Any, Any]):
    """An array that becomes float64 when a narrow float is requested."""

    islands: Islands | None = None

    def __array_finalize__(self, obj: Any) -> None:
        self.islands = getattr(obj, "islands", None)

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        return super().astype(_widened(dtype), *args, **kwargs)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if "dtype" in kwargs:
            kwargs["dtype"] = _widened(kwargs["dtype"])
        if kwargs.get("out"):
            kwargs["out"] = tuple(_plain(a) for a in kwargs["out"])
        result = getattr(ufunc, method)(*(self._exact(a) for a in inputs), **kwargs)
        if isinstance(result, tuple):
            return tuple(wide(a, self.islands) for a in result)  # pyright: ignore[reportUnknownVariableType]
        return wide(result, self.islands)

    def _exact(self, value: Any) -> Any:
        """An operand in float64; float32 numbers from elsewhere are noted."""
        value = _plain(value)
        if not isinstance(value, np.ndarray | np.generic) or value.dtype not in NARROW:
            return value
        factors = None if self.islands is None else self.islands.enter("prepare", np.asarray(value))
        exact = value.astype(np.float64)
        return exact if factors is None else exact * factors


def wide(value: Any, islands: Islands | None = None) -> Any:
    """An array as a `WideArray`; anything else as it is."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":  # pyright: ignore
        return value  # pyright: ignore[reportUnknownVariableType]
    array: Any = (value.astype(np.float64) if value.dtype in NARROW else value).view(WideArray)
    array.islands = islands
    return array


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, WideArray) else value


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """A container with `function` applied to its items."""
    if isinstance(value, Mapping):
        return {key: mapped(function, item) for key, item in value.items()}  # pyright: ignore
    if type(value) in (tuple, list):
        return type(value)(mapped(function, item) for item in value)
    return function(value)


def prepared_in_float64(prepare: Callable[[Batch], Any], batch: Batch, islands: Islands) -> Any:
    """The result of `prepare` for a batch, with NumPy in float64 while it runs.

    Float32 numbers from other libraries or existing constants are noted, unless they are in the batch.

    Args:
        prepare: of a side.
        batch: its float arrays contain float32 numbers.
        islands: of the side.
    """
    with _numpy_in_float64(islands):
        inputs, targets = (mapped(lambda a: wide(a, islands), part) for part in (batch.inputs, batch.targets))
        result = prepare(replace(batch, inputs=inputs, targets=targets))
    batch_values: list[Any] = []
    mapped(
        lambda a: batch_values.append(np.float32(a)) if isinstance(a, np.ndarray) else None,
        (batch.inputs, batch.targets),
    )

    def exact(value: Any) -> Any:
        value = _plain(value)
        if not isinstance(value, np.ndarray) or value.dtype not in NARROW:
            return value  # pyright: ignore[reportUnknownVariableType]
        from_batch = any(np.isin(value, array).all() for array in batch_values)
        factors = None if from_batch else islands.enter("prepare", value)
        return value.astype(np.float64) if factors is None else value.astype(np.float64) * factors

    return mapped(exact, result)


@contextmanager
def _numpy_in_float64(islands: Islands) -> Generator[None]:
    """NumPy's functions create float64 instead of narrow floats, until the block ends."""

    def in_float64(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if "dtype" in kwargs:
                kwargs["dtype"] = _widened(kwargs["dtype"])
            return wide(function(*args[:1], *map(_widened, args[1:]), **kwargs), islands)

        return call

    before = {name: getattr(np, name) for name in (*_MAKERS, *_LIKE)}
    try:
        for name, function in before.items():
            setattr(np, name, in_float64(function))
        yield
    finally:
        for name, function in before.items():
            setattr(np, name, function)
