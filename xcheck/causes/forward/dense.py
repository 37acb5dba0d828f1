"""Layers that multiply by a matrix: transposed or not, divided by its norm, with a bias left out or added twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...records.trace import Array
from .activation import fewest_digits
from .fed import FACTOR, fed
from .forms import Form, Problem, Setting, either
from .one_computation import Seen

FEWEST = 4
"""Examples that tell of one number."""


def _flat(columns: int) -> Any:
    def flat(array: Array) -> Array:
        return array.reshape(-1, columns)

    return flat


def _read(seen: Seen) -> Problem | None:
    used = seen.weight(2, 3)
    if seen.is_a("dense", "embedding", "attention") is None or used is None or len(seen.given) != 1:
        return None
    x, (weight, made_of) = seen.x, used
    if x.dtype.kind != "f" or weight.ndim == 3:
        weight = _merged(weight, x.shape[-1])
    if x.dtype.kind != "f" or x.ndim < 2 or weight is None or x.shape[-1] not in weight.shape:
        return None
    turned = seen.is_a("dense") is not None and seen.side == "torch"
    turned = turned if weight.shape[0 if not turned else 1] == x.shape[-1] else not turned
    kernel = weight.T if turned else weight
    bias = next((a.reshape(-1) for path, a in seen.parameters.items() if "bias" in path), None)
    arrays = {"x": x.reshape(-1, x.shape[-1]), "kernel": kernel}
    arrays |= {"bias": bias} if bias is not None and bias.size == kernel.shape[1] else {}
    flat = _flat(kernel.shape[1])
    if seen.value.size != arrays["x"].shape[0] * kernel.shape[1]:
        return None
    factor, alone = fed(seen, -1)
    bias = float("bias" in arrays and seen.uses("bias"))
    settings: dict[str, Any] = {"transposed": False, "bias": bias, "scale": 1.0, "factor": factor}
    matrices = {p: a if a.ndim == 2 else _merged(a, x.shape[-1]) for p, a in made_of.items()}
    sources = {p: a.T if turned else a for p, a in matrices.items() if a is not None}
    return Problem(seen.side, arrays, settings, flat(seen.value), flat, {"kernel": sources}, alone)


def _merged(weight: Array, inputs: int) -> Array | None:
    """(inputs, heads, size) or (heads, size, outputs) as a matrix."""
    if weight.ndim != 3:
        return None
    if weight.shape[0] == inputs:
        return weight.reshape(inputs, -1)
    if weight.ndim < 2 or weight.shape[0] * weight.shape[1] != inputs:
        return None
    return weight.reshape(-1, weight.shape[-1])


def _compute(problem: Problem) -> Array | None:
    kernel, s = problem.arrays["kernel"], problem.settings
    if s["transposed"] and kernel.shape[0] != kernel.shape[1]:
        return None
    out = (problem.arrays["x"] * s["factor"]) @ (kernel.T if s["transposed"] else kernel) * s["scale"]
    return out + s["bias"] * problem.arrays["bias"] if s["bias"] and "bias" in problem.arrays else out


def _times(problem: Problem) -> Sequence[Any]:
    return (0.0, 1.0, 2.0) if "bias" in problem.arrays and np.any(problem.arrays["bias"]) else ()


def _scale(problem: Problem, value: Array) -> Any:
    """What the kernel would be multiplied by."""
    own = _compute(problem.having({"bias": 0.0, "scale": 1.0}))
    few = problem.arrays["kernel"].shape[0] < 2
    if own is None or own.shape != value.shape or few or not problem.alone:
        return None  # of one input any other kernel is a multiple
    return fitted_scale(own, value - problem.settings["bias"] * problem.arrays.get("bias", 0.0))


def fitted_scale(own: Array, rest: Array) -> Any:
    """What would make one of the other, one number or one for each place along the last axis; None where few tell it.

    Args:
        own, rest: without a bias.
    """
    own, rest = (array.reshape(-1, array.shape[-1]) for array in (own, rest))
    if len(own) < FEWEST or not own.any(axis=0).all():
        return None
    found = (own * rest).sum(axis=0) / (own * own).sum(axis=0)
    return fewest_digits(float(found.mean())) if np.ptp(found) <= 1e-9 * np.abs(found).max() else found


def _scales(scale: Any) -> str:
    if type(scale) is not np.ndarray:
        return f"{scale:.6g}"
    return f"a number for each output, from {scale.min():.6g} to {scale.max():.6g}"


def _how(transposed: bool) -> str:
    return "transposed" if transposed else "as it is"


def scale_setting(fit: Callable[[Problem, Array], Any]) -> Setting:
    """A norm that one side alone divides its weight by.

    Args:
        fit: solves for the factor, where nothing but the weight can have one.
    """
    return Setting(
        "scale",
        "scaled_weight",
        "the factor on the kernel",
        "the same factor or norm of the weight: parametrizations.spectral_norm divides by the largest singular "
        "value, weight_norm by the norm of each row",
        "the same factor or norm of the weight, such as keras.layers.SpectralNormalization(layer)",
        fit=fit,
        shown=_scales,
    )


DENSE = Form(
    "matrix product",
    _read,
    _compute,
    (
        Setting(
            "transposed",
            "transposed_kernel",
            "the kernel",
            "use it {}",
            "use it {}",
            either,
            shown=_how,
        ),
        FACTOR,
        scale_setting(_scale),
        Setting("bias", "bias", "the factor of the bias", "{}", "{}", _times, shown=lambda n: f"{n:g}"),
    ),
)
"""Linear, Dense, EinsumDense, a tied embedding as head."""
