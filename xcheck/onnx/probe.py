"""A state in which every parameter has values of its own, so that each can be recognised in a file."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..records.trace import Array, State

SHARE = 2.0**-3
"""How far a value is moved, as a part of itself: enough to tell equal ones apart, and the model stays what it is."""


def probe(state: State, seed: int, paths: Iterable[str]) -> State:
    """Parameters and buffers of a state with every number moved, at random and in float32.

    Fresh zeros and ones are equal wherever they are, and exporters store equal constants once. A number keeps its
    sign, since a variance must; what was all zero is drawn anew.

    Args:
        state: of a side.
        seed: of the draws.
        paths: of what is moved.
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
