"""Values of ordinary size for the parameters, statistics and optimizer slots of a model: none is 0, 1 or tiny.

Initial values hide differences: a gamma of 0 hides its whole branch, a running variance of 1 hides the epsilon beside
it, a layer scale of 1e-6 hides an activation. Two equal models agree at any weights. These weights are drawn so that
every part has an effect and activations stay in range: a matrix by the number of its inputs, a gamma around 1, a bias
away from 0. Values that may encode a structure stay: integers, buffers that do not belong to a normalization, zeros
among other numbers, frozen tables of integers.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import numpy as np

from ..records.inventory import Entry
from ..records.sides import SideName
from ..records.trace import Array, Arrays

TINY = 0.01
"""A size that is negligible beside numbers around 1."""

AWAY = (0.05, 0.3)
"""Distance of a drawn number from its centre, relative to the centre: smallest and largest."""

MEANS = ("running_mean", "moving_mean")
VARIANCES = ("running_var", "moving_variance")
GAMMAS = ("gamma", "scale")
AFFINE = ("weight", "bias", "gamma", "beta")
"""Roles of buffers of a normalization that is not trained."""


def ordinary_weights(
    entries: Iterable[Entry], values: Arrays, side: SideName, seed: int, scale: float = 1.0
) -> dict[str, Array]:
    """Draw values of ordinary size for the parameters and buffers of a side.

    Args:
        entries: of the side's inventory.
        values: path -> current value; its shape, and partly its sign and size, are kept.
        side: determines the input axis of a matrix.
        seed: of the draws; each path has its own draws, independent of other paths.
        scale: of matrices and biases; a smaller one keeps activations smaller.

    Returns:
        Path -> new value, with the shape and dtype of the current one; unchanged values are left out.
    """
    drawn: dict[str, Array] = {}
    for entry in entries:
        if entry.path in values:
            rng = np.random.default_rng([seed, zlib.crc32(entry.path.encode())])
            value = values[entry.path]
            new = _drawn(entry, np.asarray(value, np.float64), side, scale, rng) if _may_draw(entry, value) else None
            if new is not None:
                drawn[entry.path] = np.asarray(new, value.dtype)
    return drawn


def ordinary_slots(slots: Mapping[str, Arrays], parameters: Arrays, seed: int) -> dict[str, dict[str, Array]]:
    """Draw optimizer slots of ordinary size; a mean of squares stays above the square of the mean.

    Args:
        slots: path -> role (see `records.slots`) -> current value, whose size is kept.
        parameters: path -> value; an average of the weights is drawn near it.
        seed: of the draws.

    Returns:
        Path -> role -> new value; scalars, and roles that are all zero, stay.
    """
    drawn: dict[str, dict[str, Array]] = {}
    for path, roles in slots.items():
        rng = np.random.default_rng([seed, 1, zlib.crc32(path.encode())])
        drawn[path] = {role: np.asarray(value) for role, value in _slots(roles, parameters.get(path), rng).items()}
    return drawn


def _may_draw(entry: Entry, value: Array) -> bool:
    """Whether values may be drawn: the current ones do not encode a known structure."""
    if value.dtype.kind != "f" or not value.size or not np.isfinite(value).all():
        return False
    if entry.buffer:
        return entry.role in MEANS + VARIANCES + AFFINE
    table = not entry.trainable and value.size > 1 and value.min() != value.max()
    return not (table and np.array_equal(value, np.round(value)))


def _drawn(entry: Entry, value: Array, side: SideName, scale: float, rng: np.random.Generator) -> Array | None:
    if entry.role in VARIANCES:
        return rng.uniform(0.5, 2.0, entry.shape)
    if entry.role in MEANS:
        return scale * _away_from_zero(entry.shape, rng)
    low, high = float(value.min()), float(value.max())
    if low == high:
        return _of_constant(entry, low, side, scale, rng)
    if low >= 0 or high <= 0:  # one sign, which may matter; zeros stay zero
        return np.asarray(value * _factors(entry.shape, rng) * max(1.0, TINY / (_rms(value) or TINY)))
    if value.ndim < 2:
        return max(_rms(value), AWAY[0]) * scale * _both_signs(entry.shape, rng)
    size = max(_rms(value), float(_inputs(entry, side)) ** -0.5)
    return np.where(value == 0, np.zeros(1), scale * size * rng.standard_normal(entry.shape))


def _of_constant(entry: Entry, constant: float, side: SideName, scale: float, rng: np.random.Generator) -> Array:
    """Draw values instead of a single number, or of many equal ones."""
    shape = entry.shape
    if abs(constant) >= TINY:
        return constant * _factors(shape, rng)
    gamma = entry.role in GAMMAS or ("norm" in entry.kind.lower() and entry.role == "weight")
    if gamma or constant:  # a scale that starts by removing its branch
        return np.copysign(1.0, constant) * _factors(shape, rng)
    if sum(n > 1 for n in shape) < 2:
        return scale * _away_from_zero(shape, rng)
    return scale / np.sqrt(_inputs(entry, side)) * rng.standard_normal(shape)


def _inputs(entry: Entry, side: SideName) -> int:
    """The number of inputs per output of a matrix; for an embedding table, its width."""
    shape = entry.shape
    if "embed" in entry.kind.lower() or shape[0] == 1:
        return max(shape[-1], 1)
    return max(entry.size // (shape[0] if side == "torch" else shape[-1]), 1)


def _factors(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Numbers around 1, none of which is 1."""
    return 1.0 + _away_from_zero(shape, rng)


def _away_from_zero(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    return rng.choice(np.array([-1.0, 1.0]), size=shape) * rng.uniform(*AWAY, size=shape)


def _both_signs(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Numbers of both signs with a mean square of about 1, none of which is tiny."""
    return rng.choice(np.array([-1.0, 1.0]), size=shape) * rng.uniform(0.5, 1.4, size=shape)


def _rms(value: Array) -> float:
    """Root mean square of the nonzero elements; 0 if there are none."""
    nonzero = value[value != 0]
    return float(np.sqrt(np.mean(nonzero**2))) if nonzero.size else 0.0


def _slots(roles: Arrays, parameter: Array | None, rng: np.random.Generator) -> dict[str, Array]:
    values: dict[str, Array] = dict(roles)
    drawable = [
        role for role, v in roles.items() if v.dtype.kind == "f" and v.ndim and v.any() and np.isfinite(v).all()
    ]
    for role in ("first_moment", "gradient_mean", "momentum"):
        if role in drawable:
            values[role] = _rms(roles[role]) * _both_signs(roles[role].shape, rng)
    if "average" in drawable and parameter is not None and parameter.shape == roles["average"].shape:
        values["average"] = parameter * _factors(parameter.shape, rng)
    mean = np.maximum(*(np.abs(values[r]) if r in drawable else np.zeros(1) for r in ("first_moment", "gradient_mean")))
    for role in ("second_moment", "infinity_norm", "accumulator", "delta_accumulator"):
        if role in drawable:
            least = {"second_moment": mean**2, "infinity_norm": mean}.get(role, np.zeros(1))
            values[role] = least + _rms(roles[role]) * rng.uniform(0.5, 1.5, roles[role].shape)
    if "second_moment_max" in drawable and "second_moment" in values:
        values["second_moment_max"] = values["second_moment"] * rng.uniform(1.0, 2.0, roles["second_moment_max"].shape)
    return {role: np.asarray(value, roles[role].dtype) for role, value in values.items()}
