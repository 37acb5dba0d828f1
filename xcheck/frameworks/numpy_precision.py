"""NumPy in float64 throughout, while a side prepares a batch.

Ports cast their inputs to float32 before they scale them. In a float64 run that rounds every number that comes of it,
on the side that does so only. The arrays that `prepare` gets compute in float64 instead where a narrow float is named.
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
"""What makes arrays of numbers; not what reads bytes, whose format is what it is."""


def _widened(dtype: Any) -> Any:
    """float64 where a narrow float is named, else the dtype as it is named."""
    if not isinstance(dtype, str | type | np.dtype):
        return dtype
    try:
        return np.dtype(np.float64) if np.dtype(dtype) in NARROW else dtype
    except TypeError:
        return dtype


class WideArray(np.ndarray[Any, Any]):
    """An array that becomes float64 where a narrow float is asked for."""

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
        made = getattr(ufunc, method)(*(self._exact(a) for a in inputs), **kwargs)
        if isinstance(made, tuple):
            return tuple(wide(a, self.islands) for a in made)  # pyright: ignore[reportUnknownVariableType]
        return wide(made, self.islands)

    def _exact(self, value: Any) -> Any:
        """An operand in float64; numbers of float32 that were made elsewhere are noted as such."""
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
    made: Any = (value.astype(np.float64) if value.dtype in NARROW else value).view(WideArray)
    made.islands = islands
    return made


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, WideArray) else value


def mapped(of: Callable[[Any], Any], value: Any) -> Any:
    """A container of arrays with `of` applied to what it holds."""
    if isinstance(value, Mapping):
        return {key: mapped(of, item) for key, item in value.items()}  # pyright: ignore
    if type(value) in (tuple, list):
        return type(value)(mapped(of, item) for item in value)
    return of(value)


def prepared_in_float64(prepare: Callable[[Batch], Any], batch: Batch, islands: Islands) -> Any:
    """What `prepare` makes of a batch, with NumPy in float64 while it runs.

    Numbers of float32 that come in all the same, from other libraries or from constants that were made before, are
    noted, unless the batch itself holds them.

    Args:
        prepare: of a side.
        batch: whose float arrays hold numbers of float32.
        islands: of the side.
    """
    with _numpy_in_float64(islands):
        inputs, targets = (mapped(lambda a: wide(a, islands), part) for part in (batch.inputs, batch.targets))
        made = prepare(replace(batch, inputs=inputs, targets=targets))
    held: list[Any] = []
    mapped(lambda a: held.append(np.float32(a)) if isinstance(a, np.ndarray) else None, (batch.inputs, batch.targets))

    def exact(value: Any) -> Any:
        value = _plain(value)
        if not isinstance(value, np.ndarray) or value.dtype not in NARROW:
            return value  # pyright: ignore[reportUnknownVariableType]
        known = any(np.isin(value, array).all() for array in held)
        factors = None if known else islands.enter("prepare", value)
        return value.astype(np.float64) if factors is None else value.astype(np.float64) * factors

    return mapped(exact, made)


@contextmanager
def _numpy_in_float64(islands: Islands) -> Generator[None]:
    """Have NumPy's own functions make float64 where a narrow float is named, until the block ends."""

    def exactly(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if "dtype" in kwargs:
                kwargs["dtype"] = _widened(kwargs["dtype"])
            return wide(function(*args[:1], *map(_widened, args[1:]), **kwargs), islands)

        return call

    before = {name: getattr(np, name) for name in (*_MAKERS, *_LIKE)}
    try:
        for name, function in before.items():
            setattr(np, name, exactly(function))
        yield
    finally:
        for name, function in before.items():
            setattr(np, name, function)
