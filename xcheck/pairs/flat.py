"""Conversion between a batch and named arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..numerics.made_batches import Flat
from ..records.trace import Array, Arrays
from .batches import in_float32
from .pair import Batch


def flat_of(batch: Batch) -> Flat:
    """The arrays of a batch by name."""
    return Flat(_named(batch.inputs), _named(batch.targets), dict(batch.compare or {}))


def like(batch: Batch, flat: Flat) -> Batch:
    """A batch of these arrays in the containers of an existing batch, rounded to float32.

    Args:
        batch: with the containers.
        flat: arrays with the same names.
    """
    inputs, targets = _in_containers(batch.inputs, flat.inputs), _in_containers(batch.targets, flat.targets)
    return Batch(in_float32(inputs), in_float32(targets), dict(flat.compare) or None)


def _named(value: Any) -> dict[str, Array]:
    if isinstance(value, Mapping):
        return {str(key): array for key, array in value.items()}  # pyright: ignore
    if isinstance(value, tuple):
        return {str(at): array for at, array in enumerate(value)}  # pyright: ignore
    return {} if value is None else {"": value}


def _in_containers(value: Any, arrays: Arrays) -> Any:
    if isinstance(value, Mapping):
        return {key: arrays[str(key)] for key in value}  # pyright: ignore
    if isinstance(value, tuple):
        return tuple(arrays[str(at)] for at in range(len(value)))  # pyright: ignore
    return None if value is None else arrays[""]
