"""Values of ordinary size for the parameters, statistics and optimizer slots of a model: nothing 0, 1 or tiny.

Models start from values that hide things: a gamma of 0 hides its whole branch, a running variance of 1 hides the
epsilon beside it, a layer scale of 1e-6 hides an activation. That two models are one function of their weights can be
asked at any weights. These are drawn so that everything is of use and activations stay in range: a matrix by the number
of its inputs, a gamma around 1, a bias away from 0. What may stand for a structure rather than for a number stays as
it is: integers, buffers that are not of a normalization, zeros among other numbers, frozen tables of whole numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import numpy as np

from ..records.inventory import Entry
from ..records.sides import SideName
from ..records.trace import Array, Arrays

TINY = 0.01
"""A size that is next to nothing beside numbers around 1."""

AWAY = (0.05, 0.3)
"""How far a number is moved away from what it is around, relative to it."""

MEANS = ("running_mean", "moving_mean")
VARIANCES = ("running_var", "moving_variance")
GAMMAS = ("gamma", "scale")
AFFINE = ("weight", "bias", "gamma", "beta")
"""What a normalization that is not trained may keep as buffers."""


def ordinary_weights(
    entries: Iterable[Entry], values: Arrays, side: SideName, seed: int, scale: float = 1.0
) -> dict[str, Array]:
    """Draw values of ordinary size for what a side holds.

    Args:
        entries: of the side's inventory.
        values: path -> present value; of its shape, sign and size something is kept.
        side: says which axis of a matrix its inputs are on.
        seed: of the draws; each path has draws of its own, whatever else there is.
        scale: of matrices and biases; a smaller one keeps activations smaller.

    Returns:
        Path -> new value, of the shape and dtype of the present one; what stays as it is, is left out.
    """
    drawn: dict[str, Array] = {}
    for entry in entries:
        if entry.path in values:
            rng = np.random.default_rng([seed, zlib.crc32(entry.path.encode())])
            value = values[entry.path]
            made = _drawn(entry, np.asarray(value, np.float64), side, scale, rng) if _free(entry, value) else None
            if made is not None:
                drawn[entry.path] = np.asarray(made, value.dtype)
    return drawn


def ordinary_slots(slots: Mapping[str, Arrays], parameters: Arrays, seed: int) -> dict[str, dict[str, Array]]:
    """Draw an optimizer's memory of ordinary size; what is a mean of squares stays above the square of the mean.

    Args:
        slots: path -> role (see `records.slots`) -> present value, whose size is kept.
        parameters: path -> value, which an average of the weights is near.
        seed: of the draws.

    Returns:
        Path -> role -> new value; single numbers, and roles that are all zero, stay as they are.
    """
    made: dict[str, dict[str, Array]] = {}
    for path, roles in slots.items():
        rng = np.random.default_rng([seed, 1, zlib.crc32(path.encode())])
        made[path] = {role: np.asarray(value) for role, value in _memory(roles, parameters.get(path), rng).items()}
    return made


def _free(entry: Entry, value: Array) -> bool:
    """Whether values may be drawn at all: no structure is known to lie in the present ones."""
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
    if low >= 0 or high <= 0:  # of one sign, which may be needed; zeros stay zero
        return np.asarray(value * _factors(entry.shape, rng) * max(1.0, TINY / (_rms(value) or TINY)))
    if value.ndim < 2:
        return max(_rms(value), AWAY[0]) * scale * _both_signs(entry.shape, rng)
    size = max(_rms(value), float(_inputs(entry, side)) ** -0.5)
    return np.where(value == 0, np.zeros(1), scale * size * rng.standard_normal(entry.shape))


def _of_constant(entry: Entry, constant: float, side: SideName, scale: float, rng: np.random.Generator) -> Array:
    """Draw in place of a single number, or of many equal ones."""
    shape = entry.shape
    if abs(constant) >= TINY:
        return constant * _factors(shape, rng)
    gamma = entry.role in GAMMAS or ("norm" in entry.kind.lower() and entry.role == "weight")
    if gamma or constant:  # a number that scales something, and starts by taking it away
        return np.copysign(1.0, constant) * _factors(shape, rng)
    if sum(n > 1 for n in shape) < 2:
        return scale * _away_from_zero(shape, rng)
    return scale / np.sqrt(_inputs(entry, side)) * rng.standard_normal(shape)


def _inputs(entry: Entry, side: SideName) -> int:
    """How many numbers a number that comes out of a matrix is summed from; of a table, its width."""
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
    """Numbers of both signs whose squares are 1 in the mean, none of which is tiny."""
    return rng.choice(np.array([-1.0, 1.0]), size=shape) * rng.uniform(0.5, 1.4, size=shape)


def _rms(value: Array) -> float:
    """Root mean square of what is not zero; 0 where all is."""
    kept = value[value != 0]
    return float(np.sqrt(np.mean(kept**2))) if kept.size else 0.0


def _memory(roles: Arrays, parameter: Array | None, rng: np.random.Generator) -> dict[str, Array]:
    made: dict[str, Array] = dict(roles)
    drawn = [role for role, v in roles.items() if v.dtype.kind == "f" and v.ndim and v.any() and np.isfinite(v).all()]
    for role in ("first_moment", "gradient_mean", "momentum"):
        if role in drawn:
            made[role] = _rms(roles[role]) * _both_signs(roles[role].shape, rng)
    if "average" in drawn and parameter is not None and parameter.shape == roles["average"].shape:
        made["average"] = parameter * _factors(parameter.shape, rng)
    mean = np.maximum(*(np.abs(made[r]) if r in drawn else np.zeros(1) for r in ("first_moment", "gradient_mean")))
    for role in ("second_moment", "infinity_norm", "accumulator", "delta_accumulator"):
        if role in drawn:
            least = {"second_moment": mean**2, "infinity_norm": mean}.get(role, np.zeros(1))
            made[role] = least + _rms(roles[role]) * rng.uniform(0.5, 1.5, roles[role].shape)
    if "second_moment_max" in drawn and "second_moment" in made:
        made["second_moment_max"] = made["second_moment"] * rng.uniform(1.0, 2.0, roles["second_moment_max"].shape)
    return {role: np.asarray(value, roles[role].dtype) for role, value in made.items()}
