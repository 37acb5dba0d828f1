"""Pooling over windows: what of the border counts, padding, size and stride, the mean or the largest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...records.trace import Array
from .convolution import as_it_is, channels_last, first_of_many, other_pads, padded, read_pads, spatial, windows
from .forms import Form, Problem, Setting, either
from .one_computation import Seen


def _read(seen: Seen) -> Problem | None:
    call = seen.is_a("avgpool", "maxpool")
    if call is None or len(seen.given) != 1 or seen.x.ndim != seen.value.ndim or seen.x.ndim < 3:
        return None
    first = seen.side == "torch" or seen.setting("data_format") == "channels_first"
    last = channels_last if first else as_it_is
    x = last(seen.x)
    n = x.ndim - 2
    size = spatial(seen.setting("kernel_size", "pool_size", "1"), n)
    strides = spatial(seen.setting("stride", "strides", "2") or size, n)
    if not all(isinstance(k, int) and isinstance(s, int) for k, s in zip(size, strides, strict=True)):
        return None
    said = seen.setting("padding", "3")
    cost = x.size * int(np.prod(size))
    counted = seen.side == "torch" and seen.setting("count_include_pad", "5") is not False
    settings = {
        "kind": "the mean" if "avg" in call.kind.lower() or "average" in call.kind.lower() else "the largest",
        "counted": counted,
        "padding": read_pads(said, x.shape[1:-1], size, strides, (1,) * n),
        "size": size,
        "strides": strides,
    }

    def neutral(array: Array) -> Array:
        return first_of_many(last(array), cost)

    return Problem(seen.side, {"x": first_of_many(x, cost)}, settings, neutral(seen.value), neutral)


def _compute(problem: Problem) -> Array:
    x, s = problem.arrays["x"], problem.settings
    n = x.ndim - 2
    ones, axes, pads = (1,) * n, tuple(range(n + 2, 2 * n + 2)), s["padding"].pads
    if s["kind"] == "the largest":
        return windows(padded(x, pads, "zeros", -np.inf), s["size"], s["strides"], ones).max(axis=axes)
    total: Array = windows(padded(x, pads, "zeros"), s["size"], s["strides"], ones).sum(axis=axes)
    if s["counted"]:
        return total / math.prod(s["size"])
    inside = padded(np.ones_like(x[:1, ..., :1]), pads, "zeros")
    return total / windows(inside, s["size"], s["strides"], ones).sum(axis=axes)


def _pads(problem: Problem) -> Sequence[Any]:
    s, size = problem.settings, problem.arrays["x"].shape[1:-1]
    return other_pads(size, s["size"], s["strides"], (1,) * len(size))


def _sizes(problem: Problem) -> Sequence[Any]:
    return [(k,) * len(problem.settings["size"]) for k in (2, 3, 4, 5, 7)]


def _strides(problem: Problem) -> Sequence[Any]:
    return [(k,) * len(problem.settings["size"]) for k in (1, 2, 3, 4)]


def _kinds(problem: Problem) -> Sequence[Any]:
    return ("the mean", "the largest")


def _counts(counted: bool) -> str:
    return "counted" if counted else "left out"


POOLING = Form(
    "pooling",
    _read,
    _compute,
    (
        Setting(
            "counted",
            "pool_border",
            "the padding in the mean",
            "count_include_pad=False for left out",
            "pad with keras.layers.ZeroPadding and padding='valid' for counted",
            either,
            shown=_counts,
        ),
        Setting(
            "padding",
            "padding",
            "the padding",
            "pad by {} with torch.nn.functional.pad",
            "pad by {} with keras.layers.ZeroPadding",
            _pads,
            shown=str,
        ),
        Setting("size", "pool_size", "the window", "kernel_size={}", "pool_size={}", _sizes),
        Setting("strides", "stride", "the stride", "stride={}", "strides={}", _strides),
        Setting("kind", "reduction", "the value of a window", "{}", "{}", _kinds, shown=str),
    ),
)
"""Mean and maximum over windows of one to three axes."""
