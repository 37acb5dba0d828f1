"""Embeddings: a factor, another row for each number, a row that is always zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...records.trace import Array
from .activation import fewest_digits
from .forms import Form, Problem, Setting
from .one_computation import Seen


def _read(seen: Seen) -> Problem | None:
    table = next((a for a in seen.parameters.values() if a.ndim == 2), None)
    ids = next((a for a in (*seen.given.values(), *seen.constants.values()) if a.dtype.kind in "iu"), None)
    if table is None or ids is None or seen.value.size != ids.size * table.shape[1]:
        return None

    def rows(array: Array) -> Array:
        return array.reshape(*ids.shape, table.shape[1])

    settings = {"factor": 1.0, "shift": 0, "zero": None}
    return Problem(seen.side, {"x": ids, "table": table}, settings, rows(seen.value), rows)


def _compute(problem: Problem) -> Array | None:
    s, table = problem.settings, problem.arrays["table"]
    ids = problem.arrays["x"] + s["shift"]
    if ids.min() < 0 or ids.max() >= len(table):
        return None
    out = table[ids] * s["factor"]
    return np.where((problem.arrays["x"] == s["zero"])[..., None], 0.0, out) if s["zero"] is not None else out


def _factor(problem: Problem, value: Array) -> Any:
    ids, table = problem.arrays["x"] + problem.settings["shift"], problem.arrays["table"]
    if ids.min() < 0 or ids.max() >= len(table):
        return None
    rows = table[ids]
    used = np.abs(rows) > np.abs(rows).max(initial=0.0) * 1e-3
    return fewest_digits(float(np.median(value[used] / rows[used]))) if used.any() else None


def _shifts(problem: Problem) -> Sequence[Any]:
    return (-2, -1, 0, 1, 2)


def _zeros(problem: Problem) -> Sequence[Any]:
    blank = ~problem.value.any(axis=-1)
    return [None, *np.unique(problem.arrays["x"][blank]).tolist()[:4], 0]


EMBEDDING = Form(
    "embedding",
    _read,
    _compute,
    (
        Setting("factor", "constant_factor", "the factor", "times {}", "times {}", fit=_factor),
        Setting("shift", "shifted_positions", "the offset added to the ids", others=_shifts),
        Setting("zero", "padding_row", "the id whose row is zero", "padding_idx={}", "", _zeros),
    ),
)
"""Rows of a table."""
