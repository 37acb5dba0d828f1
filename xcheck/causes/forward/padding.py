"""Padding by itself: what the border is filled with, and how much of it is before."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ...records.trace import Array
from .forms import Form, Problem, Setting
from .one_computation import Seen

Mode = Literal["constant", "reflect", "symmetric", "edge", "wrap"]
MODES: dict[str, Mode] = {
    "zeros": "constant",
    "reflection without the edge": "reflect",
    "the edge": "edge",
    "reflection with the edge": "symmetric",
    "the other end": "wrap",
}
"""What a border is filled with -> what NumPy calls it."""

SAID = {**{mode: words for words, mode in MODES.items()}, "replicate": "the edge", "circular": "the other end"}
"""Name of a mode in either framework -> what a border is filled with."""

MOST = 4096
"""Ways to share a border between its two ends that are tried."""

Ends = tuple[int, ...]
"""What is added before the first place along each axis."""


def _read(seen: Seen) -> Problem | None:
    x, value = seen.x, seen.value
    if len(seen.given) != 1 or seen.constants or x.ndim != value.ndim or x.dtype.kind != "f" or x.shape == value.shape:
        return None
    if any(a > b for a, b in zip(x.shape, value.shape, strict=True)):
        return None
    before = _before(x, value)
    settings = {"fill": SAID.get(str(seen.setting("mode", "2")), "zeros"), "before": before}
    return None if before is None else Problem(seen.side, {"x": x}, settings, value, lambda array: array)


def _before(x: Array, value: Array) -> Ends | None:
    """Where what goes in lies in what comes out."""
    rooms = [range(b - a + 1) for a, b in zip(x.shape, value.shape, strict=True)]
    if np.prod([len(room) for room in rooms]) > MOST:
        return None
    for ends in itertools.product(*rooms):
        if np.array_equal(x, value[tuple(slice(e, e + n) for e, n in zip(ends, x.shape, strict=True))]):
            return ends
    return None


def _compute(problem: Problem) -> Array | None:
    x, ends = problem.arrays["x"], problem.settings["before"]
    if len(ends) != x.ndim:
        return None
    widths = [(e, m - n - e) for e, n, m in zip(ends, x.shape, problem.value.shape, strict=True)]
    return np.pad(x, widths, MODES[problem.settings["fill"]])


def _fills(problem: Problem) -> Sequence[Any]:
    return tuple(MODES)


def _shared(problem: Problem, value: Array) -> Any:
    return _before(problem.arrays["x"], value) if value.ndim == problem.arrays["x"].ndim else None


PADDING = Form(
    "padding",
    _read,
    _compute,
    (
        Setting(
            "fill",
            "padding_mode",
            "the filling of the border",
            "mode= of {}: reflect is without the edge, replicate is the edge, circular the other end",
            "mode= of {}: reflect is without the edge, symmetric with it",
            _fills,
            shown=str,
        ),
        Setting("before", "padding", "the padding before each axis", "add {}", "add {}", fit=_shared),
    ),
)
"""A tensor with a border around it."""
