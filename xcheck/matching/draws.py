"""Weights and inputs that are drawn to prove a plan: other numbers in the manner of those that are there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..pairs.pair import Batch
from ..records.trace import Array, State

NEAR = 0.1
"""Size of what is added to a weight that is to stay near its own, relative to its size."""


def drawn_weights(state: State, held: Collection[str], seed: Sequence[int], *, bold: bool) -> State:
    """Other values for what a plan holds, none of them zero, one or tiny.

    Args:
        state: of a side.
        held: paths of the parameters and buffers that are drawn.
        seed: of the draws.
        bold: draw them afresh; else they stay near what they are.
    """
    rng = np.random.default_rng([*seed, 11])
    draw = _ordinary if bold else _near

    def drawn(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {path: draw(array, rng) for path, array in arrays.items() if path in held and array.dtype.kind == "f"}

    return State(drawn(state.parameters), drawn(state.buffers))


def _ordinary(array: Array, rng: np.random.Generator) -> Array:
    """Numbers between a half and one and a half times a usual size; of one sign where the array is of one sign."""
    size = float(np.sqrt(np.mean(array.astype(np.float64) ** 2))) if array.size else 0.0
    usual = 1.0 / np.sqrt(max(array.shape[:-1])) if array.ndim > 1 else 0.2
    size = size if np.isfinite(size) and size > 0.05 * usual else usual
    made = size * rng.uniform(0.5, 1.5, array.shape)
    one_sign = array.size and bool((array >= 0).all() and (array > 0).any())
    return np.asarray(made if one_sign else made * rng.choice([-1.0, 1.0], array.shape), array.dtype)


def _near(array: Array, rng: np.random.Generator) -> Array:
    size = float(np.sqrt(np.mean(array.astype(np.float64) ** 2))) if array.size else 0.0
    return np.asarray(array + NEAR * (size or 1.0) * rng.uniform(0.2, 1.0, array.shape), array.dtype)


def drawn_batch(batch: Batch, seed: Sequence[int]) -> Batch:
    """A batch like another: floats of the same mean and spread and in the same range, whole numbers in another order.

    Where a part of the outputs is left out, and where there are truth values or numbers that stand for such, they stay:
    they say of other inputs which of their elements count.

    Args:
        batch: in the neutral layout.
        seed: of the draws.
    """
    rng = np.random.default_rng([*seed, 12])

    def other(array: Array) -> Array:
        whole = array.dtype.kind in "iu" or bool((array == np.round(array)).all())
        if array.dtype.kind == "b" or (whole and (batch.compare is not None or len(np.unique(array)) <= 2)):
            return array
        if whole:
            return rng.permutation(array.reshape(-1)).reshape(array.shape)
        finite = array[np.isfinite(array)]
        if finite.size < array.size:
            return array
        made = rng.normal(float(finite.mean()), float(finite.std()), array.shape)
        return np.asarray(np.clip(made, float(finite.min()), float(finite.max())), np.float32).astype(array.dtype)

    return replace(batch, inputs=_each(batch.inputs, other))


def _each(inputs: Any, change: Any) -> Any:
    if isinstance(inputs, Mapping):
        return {name: change(array) for name, array in inputs.items()}  # pyright: ignore
    if isinstance(inputs, tuple):
        return tuple(change(array) for array in inputs)  # pyright: ignore
    return change(inputs)
