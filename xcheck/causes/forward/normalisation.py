"""Normalisation layers: epsilon, the axes, the variance, batch or running statistics, the axis of the channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...numerics.align.families import family_of
from ...records.trace import Array
from .forms import MASKED, Form, Problem, Setting, either, one_of
from .masks import ALL, fitting, mask_of
from .one_computation import Seen

KINDS = ("batchnorm", "layernorm", "groupnorm", "rmsnorm")
ROLES = {
    "scale": ("weight", "gamma", "scale"),
    "shift": ("bias", "beta"),
    "mean": ("running_mean", "moving_mean"),
    "var": ("running_var", "moving_variance"),
}
BESIDE_A_MASK = 1e-7
"""`keras.config.epsilon()`, which Keras adds to the number of positions that count."""

EPSILONS = (1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-12, 0.0)
"""Those that frameworks and published models use."""


@dataclass(frozen=True, slots=True)
class Channels:
    """The axis whose entries are normalised each by itself.

    Attributes:
        axis: in the neutral layout, where it is the last unless the other side has another.
        words: in the layout of the side.
    """

    axis: int
    words: str = field(compare=False)


def _last(array: Array) -> Array:
    """Channels first to channels last."""
    return np.moveaxis(array, 1, -1) if array.ndim > 2 else array


def _same(array: Array) -> Array:
    return array


def _read(seen: Seen) -> Problem | None:
    call = seen.is_a(*KINDS)
    kind = family_of(call.kind) if call is not None else ""
    x = seen.x
    if len(seen.given) != 1 or x.shape != seen.value.shape or x.ndim < 2 or x.dtype.kind != "f":
        return None
    last = _last if seen.side == "torch" and kind in ("batchnorm", "groupnorm") else _same
    if seen.side == "keras" and kind in ("batchnorm", "groupnorm") and seen.setting("axis") in (1, (1,)) and x.ndim > 2:
        last = _last
    arrays = {"x": last(x)}
    for name, roles in ROLES.items():
        held = seen.parameter(*roles)
        if held is not None:
            arrays[name] = held
    found = _settings(seen, kind, arrays["x"])
    axes = _channels(x, last is _last)
    found |= {"channels": axes[-1], "others": axes[:-1], "mask": ALL}
    arrays |= fitting(seen.masks, arrays["x"].shape) if kind == "batchnorm" else {}
    return Problem(seen.side, arrays, found, last(seen.value), last)


def _channels(x: Array, first: bool) -> list[Channels]:
    """The axes behind that of the examples, as the neutral layout has them; `first`: it had the channels there."""
    order = [*range(2, x.ndim), 1] if first and x.ndim > 2 else [*range(1, x.ndim)]
    return [Channels(neutral, f"axis {own} of {x.shape}") for neutral, own in enumerate(order, 1)]


def _settings(seen: Seen, kind: str, x: Array) -> dict[str, Any]:
    epsilon = seen.setting("eps", "epsilon")
    found: dict[str, Any] = {
        "epsilon": float(epsilon) if isinstance(epsilon, int | float) else 1e-5,
        "axes": (x.ndim - 1,),
        "groups": 1,
        "centred": kind != "rmsnorm",
        "running": False,
        "ddof": 0,
        "inside": True,
        "offset": 0.0,
    }
    if kind == "batchnorm":
        found |= {"axes": tuple(range(x.ndim - 1)), "running": seen.setting("training") is False}
    elif kind == "groupnorm":
        groups = seen.setting("num_groups", "groups", "1") or 1
        groups = x.shape[-1] if groups == -1 or "InstanceNorm" in seen.owner.kind else groups
        found |= {"groups": int(groups), "axes": tuple(range(1, x.ndim))}
    elif seen.side == "torch":
        shape: int | tuple[int, ...] = seen.setting("normalized_shape", "1")
        many = len(shape) if isinstance(shape, tuple) else 1
        found["axes"] = tuple(range(x.ndim - many, x.ndim))
    else:
        axis: int | tuple[int, ...] | None = seen.setting("axis")
        axes = axis if isinstance(axis, tuple) else (-1 if axis is None else axis,)
        found["axes"] = tuple(sorted(a % x.ndim for a in axes))
    return found


def _moments(problem: Problem) -> tuple[Array, Array] | None:
    x, s = problem.arrays["x"], problem.settings
    if s["running"]:
        if "mean" not in problem.arrays or "var" not in problem.arrays:
            return None
        return problem.arrays["mean"], problem.arrays["var"]
    groups, kept = s["groups"], mask_of(problem.arrays, s)
    if x.shape[-1] % groups:
        return None
    if kept is not None and s["axes"] == tuple(range(x.ndim - 1)):
        x, many = x[kept], kept.sum() + BESIDE_A_MASK
        mean = x.sum(axis=0) / many
        return mean, ((x - mean) ** 2).sum(axis=0) / many
    split = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups) if groups > 1 else x
    axes = s["axes"]
    if groups > 1:  # the channels of a group, not the groups
        axes = tuple(a if a < x.ndim - 1 else x.ndim for a in axes)
    if max(axes, default=0) >= split.ndim:  # the other side's axes, of an input of another shape
        return None
    many = int(np.prod([split.shape[a] for a in axes]))
    if many <= s["ddof"]:
        return None
    mean = split.mean(axis=axes, keepdims=True) * s["centred"]
    var = ((split - mean) ** 2).sum(axis=axes, keepdims=True) / (many - s["ddof"])
    if groups > 1:
        wide = (*split.shape[:-2], groups, x.shape[-1] // groups)
        return tuple(np.broadcast_to(m, wide).reshape(x.shape) for m in (mean, var))  # pyright: ignore
    return mean, var


def _compute(problem: Problem) -> Array | None:
    axis = problem.settings["channels"].axis
    turned = np.moveaxis(problem.arrays["x"], axis, -1)
    out = _normalised(replace(problem, arrays={**problem.arrays, "x": turned}))
    return None if out is None else np.moveaxis(out, -1, axis)


def _normalised(problem: Problem) -> Array | None:
    moments = _moments(problem)
    if moments is None:
        return None
    x, s = problem.arrays["x"], problem.settings
    mean, var = moments
    root = np.sqrt(var + s["epsilon"]) if s["inside"] else np.sqrt(var) + s["epsilon"]
    out = (x - mean) / root
    if "scale" in problem.arrays:
        out = out * (problem.arrays["scale"] + s["offset"])
    return out + problem.arrays["shift"] if "shift" in problem.arrays else out


def _fitted_epsilon(problem: Problem, value: Array) -> Any:
    """The epsilon that would give a value, from the ratio of what is normalised to what came out."""
    moments = _moments(problem)
    if moments is None or value.shape != problem.arrays["x"].shape:
        return None
    mean, var = moments
    with np.errstate(all="ignore"):
        try:
            out = (value - problem.arrays.get("shift", 0.0)) / (
                problem.arrays.get("scale", 1.0) + problem.settings["offset"]
            )
        except ValueError:
            return None
        ratio = (problem.arrays["x"] - mean) / out
        found = ratio**2 - var if problem.settings["inside"] else ratio - np.sqrt(var)
    found = np.where(np.isfinite(found), found, np.nan)
    if np.isnan(found).all():
        return None
    exact = float(np.nanmedian(found))
    rounded = [float(f"{exact:.{digits}g}") for digits in (1, 2, 3, 6)] if exact > 0 else []
    return [*rounded, exact]


def _epsilons(problem: Problem) -> Sequence[Any]:
    return EPSILONS


def _axes(problem: Problem) -> Sequence[Any]:
    n = problem.arrays["x"].ndim
    return [(n - 1,), *((a,) for a in range(1, n - 1)), tuple(range(1, n)), tuple(range(n - 1))]


def _other_channels(problem: Problem) -> Sequence[Any]:
    """Where each channel has statistics of its own."""
    batch = problem.settings["axes"] == tuple(range(problem.arrays["x"].ndim - 1))
    return problem.settings["others"] if batch else ()


def _groups(problem: Problem) -> Sequence[Any]:
    n = problem.arrays["x"].shape[-1]
    return [g for g in range(1, min(n, 64) + 1) if n % g == 0]


def _statistics(running: bool) -> str:
    return "the running statistics" if running else "those of the batch"


NORM = Form(
    "normalisation",
    _read,
    _compute,
    (
        Setting("epsilon", "epsilon", "epsilon", "eps={}", "epsilon={}", _epsilons, _fitted_epsilon),
        Setting(
            "running",
            "frozen_mode",
            "the mean and variance used",
            "module.eval() or .train() as keras has it",
            "trainable=..., or training=... as torch has it",
            either,
            shown=_statistics,
        ),
        MASKED,
        Setting(
            "ddof", "biased_variance", "the variance is divided by n minus a number that", "{}", "{}", one_of(0, 1)
        ),
        Setting("axes", "normalised_axis", "the axes normalised over", "{}", "axis={}", _axes),
        Setting(
            "channels",
            "channel_axis",
            "the axis of the channels",
            "a permutation before and after it",
            "axis=..., so that it is {}",
            _other_channels,
            shown=lambda channels: channels.words,
        ),
        Setting("groups", "groups", "the number of groups", "num_groups={}", "groups={}", _groups),
        Setting("centred", "mean_not_subtracted", "whether the mean is subtracted", "{}", "{}", either),
        Setting("offset", "offset_of_the_scale", "the offset of the scale", "{}", "{}", one_of(0.0, 1.0)),
        Setting("inside", "epsilon_place", "whether epsilon is under the root", "{}", "{}", either),
    ),
)
"""Any layer that subtracts a mean, divides by a deviation, and applies a scale and a shift."""
