"""Resizing along spatial axes: where the positions lie, what is taken of the neighbours, the border, antialiasing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...records.trace import Array
from .convolution import as_it_is, channels_last
from .forms import Form, Problem, Setting, either
from .one_computation import Seen

MODES = {
    "nearest": "nearest",
    "nearest-exact": "nearest",
    "linear": "linear",
    "bilinear": "linear",
    "trilinear": "linear",
    "bicubic": "cubic",
}
COORDINATES = ("half pixel", "corners aligned", "asymmetric")
TABLE = 1024
"""Steps between two positions at which TensorFlow knows the cubic."""

TORCH_CUBIC, OTHER_CUBIC = -0.75, -0.5


def _read(seen: Seen) -> Problem | None:
    call = seen.is_a("resize")
    if call is None or len(seen.given) != 1 or seen.x.ndim != seen.value.ndim or seen.x.ndim < 3:
        return None
    first = seen.side == "torch" or seen.setting("data_format") == "channels_first"
    last = channels_last if first else as_it_is
    said = seen.setting("mode", "3") if seen.side == "torch" else seen.setting("interpolation", "2")
    said = said if said in MODES else "nearest"
    corners = bool(seen.setting("align_corners", "4")) and seen.side == "torch"
    asymmetric = seen.side == "torch" and said == "nearest"
    antialias = seen.setting("antialias", "6") is True
    return Problem(
        seen.side,
        {"x": last(seen.x)},
        {
            "mode": MODES[said],
            "coordinates": COORDINATES[1] if corners else COORDINATES[2] if asymmetric else COORDINATES[0],
            "antialias": antialias,
            "cubic": TORCH_CUBIC if seen.side == "torch" and not antialias else OTHER_CUBIC,
            "outside": "the nearest" if seen.side == "torch" else "left out",
            "factor": _factor(seen, last(seen.x)),
            "rounded": seen.side == "keras" and MODES[said] == "cubic" and not antialias,
        },
        last(seen.value),
        last,
    )


def _factor(seen: Seen, x: Array) -> float | None:
    """PyTorch's scale_factor, where the sizes are not in that ratio: it takes the factor for the positions."""
    factor = seen.setting("scale_factor", "2") if seen.side == "torch" else None
    if not isinstance(factor, int | float) or seen.setting("recompute_scale_factor", "5"):
        return None
    return float(factor) if any(n * factor != round(n * factor) for n in x.shape[1:-1]) else None


def _positions(size: int, wanted: int, coordinates: str, factor: float | None) -> tuple[Array, float]:
    """Where each position of what comes out lies in what goes in, and how far apart they are there."""
    at = np.arange(wanted)
    if coordinates == COORDINATES[1]:
        step = (size - 1) / (wanted - 1) if wanted > 1 else 0.0
        return at * step, step
    step = 1 / factor if factor else size / wanted
    return (at * step if coordinates == COORDINATES[2] else (at + 0.5) * step - 0.5), step


def _kernel(distance: Array, settings: Any) -> Array:
    """Weight of a neighbour by its distance."""
    if settings["mode"] == "linear":
        return np.maximum(0.0, 1.0 - distance)
    a, d = settings["cubic"], distance
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def axis_weights(size: int, wanted: int, settings: Any) -> Array:
    """(wanted, size): what of each position along an axis is in each that comes out.

    Args:
        size, wanted: of the axis, before and after.
        settings: mode, coordinates, antialias, cubic, outside, rounded and factor.
    """
    at, step = _positions(size, wanted, settings["coordinates"], settings["factor"])
    if settings["rounded"]:
        at = np.rint(at * TABLE) / TABLE
    if settings["mode"] == "nearest":
        exact = settings["coordinates"] == COORDINATES[0]
        nearest = np.clip(np.floor(at + 0.5 if exact else at), 0, size - 1).astype(int)
        return np.eye(size)[nearest]
    reach = max(step, 1.0) if settings["antialias"] else 1.0
    room = int(np.ceil(2 * reach)) + 1
    all_around = np.arange(-room, size + room)
    weights = _kernel(np.abs(all_around - at[:, None]) / reach, settings)
    inside = weights[:, room : room + size].copy()
    if settings["outside"] == "the nearest" and not settings["antialias"]:
        inside[:, 0] += weights[:, :room].sum(axis=1)
        inside[:, -1] += weights[:, room + size :].sum(axis=1)
    return inside / inside.sum(axis=1, keepdims=True)


def _compute(problem: Problem) -> Array:
    out, wanted = problem.arrays["x"], problem.value.shape
    for axis in range(1, out.ndim - 1):
        weights = axis_weights(out.shape[axis], wanted[axis], problem.settings)
        out = np.moveaxis(np.tensordot(weights, out, axes=(1, axis)), 0, axis)
    return out


def _coordinates(problem: Problem) -> Sequence[Any]:
    return COORDINATES


def _modes(problem: Problem) -> Sequence[Any]:
    return ("nearest", "linear", "cubic")


def _cubics(problem: Problem) -> Sequence[Any]:
    return (TORCH_CUBIC, OTHER_CUBIC) if problem.settings["mode"] == "cubic" else ()


def _tables(problem: Problem) -> Sequence[Any]:
    return (False, True) if problem.settings["mode"] == "cubic" else ()


def _outside(problem: Problem) -> Sequence[Any]:
    return ("the nearest", "left out")


RESIZE = Form(
    "resizing",
    _read,
    _compute,
    (
        Setting(
            "coordinates",
            "resize_coordinates",
            "the positions of the samples",
            "{} (align_corners=True for corners aligned, mode='nearest-exact' for a half pixel)",
            "{} (Keras resizes with half pixels: for other positions use keras.ops.map_coordinates or a matrix "
            "product)",
            _coordinates,
            shown=str,
        ),
        Setting("mode", "interpolation", "the interpolation", "mode: {}", "interpolation: {}", _modes, shown=str),
        Setting("outside", "resize_border", "the values beyond the border", "take {}", "take {}", _outside, shown=str),
        Setting(
            "antialias",
            "antialias",
            "whether downscaling is antialiased",
            "antialias={}",
            "keras.ops.image.resize(..., antialias={})",
            either,
        ),
        Setting(
            "factor",
            "resize_factor",
            "the scale factor",
            "{} (recompute_scale_factor=True, or size=, takes the ratio of the sizes)",
            "",
            shown=lambda factor: "the ratio of the sizes" if factor is None else f"{factor:g}",
        ),
        Setting(
            "rounded",
            "rounded_positions",
            f"whether positions are rounded to 1 / {TABLE}",
            "{}",
            "{} (TensorFlow's bicubic kernel has a table)",
            _tables,
        ),
        Setting("cubic", "cubic_coefficient", "the coefficient of the cubic", "{}", "{}", _cubics),
    ),
)
"""Nearest, linear and cubic interpolation of one to three axes; each is a matrix product along an axis."""
