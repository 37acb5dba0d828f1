"""The gradient of a table as the list of rows that looking up makes of it, one for each lookup."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...numerics.align.families import family_of
from ...records.calls import Call, Calls
from ...records.trace import Array
from ..recomputed import reproduces


def squares_of_lookups(calls: Calls, gradients: Mapping[str, Array | None]) -> dict[str, Array]:
    """Path of a table -> sum of the squares of the gradients of its lookups, row by row.

    Only of tables whose gradient is the sum of their lookups: what else uses a table makes its gradient dense.

    Args:
        calls: of a training step, with gradients.
        gradients: of that step.
    """
    found: dict[str, Array] = {}
    for path, whole in gradients.items():
        lookups = [c for c in calls if path in c.parameters and family_of(c.kind) == "embedding" and not c.function]
        if whole is None or whole.ndim != 2 or not lookups or not all(_rows(c, whole) for c in lookups):
            continue
        total, squares = np.zeros_like(whole), np.zeros_like(whole)
        for call in lookups:
            indexes, rows = _indexes(call).reshape(-1), call.gradients["output"].reshape(-1, whole.shape[1])
            np.add.at(total, indexes, rows)
            np.add.at(squares, indexes, rows**2)
        if reproduces(whole, total) and not reproduces(whole**2, squares):
            found[path] = squares
    return found


def _indexes(call: Call) -> Array:
    return next(iter(call.inputs.values()))


def _rows(call: Call, table: Array) -> bool:
    """Whether a call tells which rows it looked up, and what the loss wants of them."""
    gradient = call.gradients.get("output")
    if gradient is None or not call.inputs:
        return False
    indexes = _indexes(call)
    return indexes.dtype.kind in "iu" and gradient.shape == (*indexes.shape, table.shape[1])
