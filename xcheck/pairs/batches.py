"""The batches of a pair, counted and checked one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import BatchError
from .pair import Batch, Pair
from .user_code import calling


def batches_of(pair: Pair, seed: int, steps: int, *, option: str = "--steps", fewer: bool = False) -> Iterator[Batch]:
    """The pair's first `steps` batches.

    Args:
        pair: with the batches.
        seed: argument of its `batches`.
        steps: number of batches.
        option: command-line option that sets this number.
        fewer: accept fewer batches.

    Raises:
        UserCodeError: `batches` raised.
        BatchError: there are too few, an item is not a `Batch`, or the names of its arrays change.
    """
    keys: Any = None
    with calling("batches"):
        batches: Any = pair.batches(seed)
        if batches is None:
            raise BatchError(
                "Pair.batches returned no batches.",
                where=f"Pair({pair.name!r}).batches",
                cause="the function returns None: a `return` or `yield` is missing",
                todo="yield xcheck.Batch(inputs, targets), or return a list of them",
            )
        iterator = iter(batches)
    for number in range(1, steps + 1):
        with calling("batches"):
            batch: Any = next(iterator, None)
        if batch is None and fewer:
            return
        if batch is None:
            raise BatchError(
                "Pair.batches yields too few batches.",
                where=f"Pair({pair.name!r}).batches",
                numbers=f"{number - 1} batches for {steps} steps",
                todo=f"yield at least {steps} batches, or run with {option} {number - 1}",
            )
        if not isinstance(batch, Batch):
            raise BatchError(
                "Pair.batches yielded something that is not an xcheck.Batch.",
                where=f"batch {number}",
                numbers=f"got {type(batch).__name__}",
                todo="yield xcheck.Batch(inputs, targets)",
            )
        if keys is not None and _keys(batch) != keys:
            raise BatchError(
                "The arrays of a batch differ from those of the first batch.",
                where=f"batch {number}",
                numbers=f"{_keys(batch)}; first batch: {keys}",
            )
        keys = _keys(batch)
        yield replace(batch, inputs=in_float32(batch.inputs), targets=in_float32(batch.targets))


def in_float32(value: Any) -> Any:
    """Arrays in containers, each number rounded to the nearest float32 number, with unchanged dtypes.

    A side that prepares its inputs in float32 then gets the same numbers as one that does not. Numbers outside the
    range of float32 are not changed.
    """
    if isinstance(value, Mapping):
        return {key: in_float32(item) for key, item in value.items()}  # pyright: ignore
    if isinstance(value, tuple):
        return tuple(map(in_float32, value))  # pyright: ignore
    if value is None or value.dtype.kind != "f" or value.dtype.itemsize <= 4:
        return value
    smallest, largest = np.finfo(np.float32).tiny, np.finfo(np.float32).max
    in_range = (np.abs(value) >= smallest) & (np.abs(value) <= largest)
    return np.where(in_range, np.where(in_range, value, 0).astype(np.float32), value).astype(value.dtype)


def _keys(batch: Batch) -> tuple[Any, ...]:
    def names(value: Any) -> Any:
        if isinstance(value, Mapping):
            return sorted(str(key) for key in value)  # pyright: ignore
        if isinstance(value, tuple):
            return len(value)  # pyright: ignore[reportUnknownArgumentType]
        return None if value is None else "array"

    return names(batch.inputs), names(batch.targets)
