"""Random weights and inputs to prove a plan, similar to the existing ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..numerics.ordinary_weights import ordinary_weights
from ..pairs.pair import Batch
from ..records.trace import Array, State
from .matchable import Matchable

NEAR = 0.1
"""Relative size of the change of a weight that stays near its value."""


def drawn_weights(runner: Matchable, held: Collection[str], seed: int, *, bold: bool) -> State:
    """New values for the parameters and buffers of a plan, none of them zero, one or tiny.

    Args:
        runner: of the side.
        held: paths of the parameters and buffers to draw.
        seed: of the draws.
        bold: draw independent values; otherwise stay near the current ones.
    """
    state = runner.read()
    entries = [entry for entry in runner.inventory().canonical() if entry.path in held]
    if bold:
        made = ordinary_weights(entries, state.values(), runner.side, seed)
        return State(
            {path: array for path, array in made.items() if path in state.parameters},
            {path: array for path, array in made.items() if path in state.buffers},
        )
    rng = np.random.default_rng([seed, 11])
    floats = [e.path for e in entries if not e.buffer and state.value(e.path).dtype.kind == "f"]
    return State({path: _near(state.value(path), rng) for path in floats})


def _near(array: Array, rng: np.random.Generator) -> Array:
    size = float(np.sqrt(np.mean(array.astype(np.float64) ** 2))) if array.size else 0.0
    return np.asarray(array + NEAR * (size or 1.0) * rng.uniform(0.2, 1.0, array.shape), array.dtype)


def drawn_batch(batch: Batch, seed: Sequence[int]) -> Batch:
    """A batch like the given one: floats of the same mean, spread and range, integers in a different order.

    With a mask on outputs, and for booleans or numbers used as such, the values stay: they select the valid elements of
    other inputs.

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
        made = np.asarray(rng.normal(float(finite.mean()), float(finite.std()), array.shape), np.float64)
        return np.asarray(made.clip(float(finite.min()), float(finite.max())), np.float32).astype(array.dtype)

    return replace(batch, inputs=each_input(batch.inputs, other))


def each_input(inputs: Any, change: Callable[[Array], Array]) -> Any:
    """The inputs of a batch with each of their arrays changed."""
    if isinstance(inputs, Mapping):
        return {name: change(array) for name, array in inputs.items()}  # pyright: ignore
    if isinstance(inputs, tuple):
        return tuple(change(array) for array in inputs)  # pyright: ignore
    return change(inputs)
