"""A state in which every parameter has its own values, so that each can be identified in a file."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..records.trace import Array, State

SHARE = 2.0**-3
"""Relative change of a value: enough to distinguish equal ones, and too small to change the model's behaviour."""


def probe(state: State, seed: int, paths: Iterable[str]) -> State:
    """Parameters and buffers of a state with every number changed at random, in float32.

    New zeros and ones are equal everywhere, and exporters store equal constants once. A number keeps its sign, since
    a variance must; zeros are drawn at random.

    Args:
        state: of a side.
        seed: of the draws.
        paths: of the values to change.
    """
    rng = np.random.default_rng([seed, 0x0E])
    return State({path: _moved(state.value(path), rng) for path in dict.fromkeys(paths)})


def _moved(value: Array, rng: np.random.Generator) -> Array:
    if value.dtype.kind != "f":
        return value
    draw = rng.uniform(-SHARE, SHARE, (2, *value.shape))
    moved = np.asarray(value * (1 + draw[1]), np.float32)
    moved[value == 0] = draw[0][value == 0]
    return moved
