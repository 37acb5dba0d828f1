"""Activations: which one it is, and its variant and numbers, read off from what went in and what came out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...records.sides import SideName
from ...records.trace import Array
from .forms import Form, Problem, Setting
from .one_computation import Seen

Function = Callable[[Array], Array]


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def _softplus(x: Array) -> Array:
    return np.logaddexp(x, 0.0)


def _below(x: Array, y: Array) -> Array:
    """The identity above zero, and `y` below it."""
    return np.where(x > 0, x, y)


_SELU = 1.0507009873554805, 1.6732632423543772
PLAIN: dict[str, Function] = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "gelu (exact)": lambda x: x * 0.5 * (1.0 + _erf(x / math.sqrt(2.0))),
    "gelu (tanh)": lambda x: 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))),
    "gelu (sigmoid, 1.702)": lambda x: x * sigmoid(1.702 * x),
    "silu": lambda x: x * sigmoid(x),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "hard_sigmoid (x / 6 + 0.5)": lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "hard_sigmoid (0.2 x + 0.5)": lambda x: np.clip(0.2 * x + 0.5, 0.0, 1.0),
    "hard_silu (x / 6 + 0.5)": lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "hard_silu (0.2 x + 0.5)": lambda x: x * np.clip(0.2 * x + 0.5, 0.0, 1.0),
    "hard_tanh": lambda x: np.clip(x, -1.0, 1.0),
    "selu": lambda x: _SELU[0] * _below(x, _SELU[1] * np.expm1(np.minimum(x, 0.0))),
    "softplus": _softplus,
    "logsigmoid": lambda x: -_softplus(-x),
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "tanh_shrink": lambda x: x - np.tanh(x),
    "exponential": np.exp,
    "squareplus": lambda x: (x + np.sqrt(x**2 + 4.0)) / 2.0,
    "square": np.square,
    "squared relu": lambda x: np.maximum(x, 0.0) ** 2,
    "absolute": np.abs,
    "negative": np.negative,
    "square root": np.sqrt,
    "one over square root": lambda x: 1.0 / np.sqrt(x),
    "one over": lambda x: 1.0 / x,
    "logarithm": np.log,
    "sine": np.sin,
    "cosine": np.cos,
}
"""Without a number to choose; of two that are the same above zero the plainer one first."""


def _two_sided(x: Array, y: Array, below: Function) -> float | None:
    """The factor of a function below zero that is the identity above it."""
    negative = x < 0
    if not negative.any() or not np.allclose(y[~negative], x[~negative], rtol=1e-9, atol=0):
        return None
    return _ratio(below(x[negative]), y[negative])


def _ratio(x: Array, y: Array) -> float | None:
    """The one factor between two arrays, in the fewest digits that give it."""
    used = np.abs(x) > np.abs(x).max(initial=0.0) * 1e-3
    if not used.any():
        return None
    return fewest_digits(float(np.median(y[used] / x[used])))


def fewest_digits(number: float, within: float = 1e-13) -> float:
    """The short decimal that a measured number must have been, where there is one within a relative error."""
    shorter = (float(f"{number:.{digits}g}") for digits in range(1, 10))
    return next((short for short in shorter if abs(short - number) <= within * abs(number)), number)


def _inverse_softplus(x: Array, y: Array) -> float | None:
    """beta in log(1 + exp(beta x)) / beta, from the value nearest to x = 0."""
    at = int(np.abs(x).argmin())
    return fewest_digits(math.log(2.0) / float(y[at])) if y[at] > 0 and abs(x[at]) < 1e-6 else None


def _swish_beta(x: Array, y: Array) -> float | None:
    """beta in x * sigmoid(beta x)."""
    used = (np.abs(x) > 0.1) & (y / np.where(x == 0, 1, x) > 1e-6) & (y / np.where(x == 0, 1, x) < 1 - 1e-6)
    if not used.any():
        return None
    share = y[used] / x[used]
    beta = fewest_digits(float(np.median(np.log(share / (1 - share)) / x[used])))
    return beta if abs(beta) > 1e-6 else None  # half of x is a factor, and no function


def _in_tanh(x: Array, c: float) -> Array:
    """gelu (tanh) with another number in the place of the root of 2 / pi."""
    return 0.5 * x * (1.0 + np.tanh(c * (x + 0.044715 * x**3)))


def _number_in_tanh(x: Array, y: Array) -> float | None:
    used = np.abs(np.abs(x) - np.median(np.abs(x))) <= 0.5 * np.median(np.abs(x))
    x, y = x[used], y[used]
    with np.errstate(all="ignore"):
        found = np.arctanh(2.0 * y / x - 1.0) / (x + 0.044715 * x**3)
    found = found[np.isfinite(found)]
    number = fewest_digits(float(np.median(found))) if found.size else 0.0
    return number if abs(number) > 1e-6 else None  # half of x is a factor, and no function


MEASURED: dict[str, tuple[Callable[[Array, Array], float | None], Callable[[float], Function]]] = {
    "leaky_relu, slope": (
        lambda x, y: _two_sided(x, y, lambda v: v),
        lambda a: lambda x: _below(x, a * x),
    ),
    "elu, alpha": (
        lambda x, y: _two_sided(x, y, np.expm1),
        lambda a: lambda x: _below(x, a * np.expm1(np.minimum(x, 0.0))),
    ),
    "relu, at most": (
        lambda x, y: fewest_digits(float(y.max())) if y.max() > 0 else None,
        lambda a: lambda x: np.clip(x, 0.0, a),
    ),
    "swish, beta": (_swish_beta, lambda a: lambda x: x * sigmoid(a * x)),
    "gelu (tanh), with the root of 2 / pi taken as": (_number_in_tanh, lambda a: lambda x: _in_tanh(x, a)),
    "softplus, beta": (_inverse_softplus, lambda a: lambda x: np.logaddexp(a * x, 0.0) / a),
    "logarithm of x plus": (
        lambda x, y: fewest_digits(float(np.median(np.exp(y) - x)), 1e-9),
        lambda a: lambda x: np.log(x + a),
    ),
    "power": (
        lambda x, y: (
            fewest_digits(float(np.median(np.log(y) / np.log(x)))) if (x > 0).all() and (y > 0).all() else None
        ),
        lambda a: lambda x: x**a,
    ),
}
"""With one number, which is solved for: name -> (from what went in and came out, to the function)."""


def _read(seen: Seen) -> Problem | None:
    x = seen.x
    if len(seen.given) != 1 or seen.constants or x.shape != seen.value.shape or x.dtype.kind != "f":
        return None
    return Problem(seen.side, {"x": x}, {"function": ("none", None)}, seen.value, lambda array: array)


def _functions(problem: Problem, value: Array) -> list[Any]:
    x, y = problem.arrays["x"].reshape(-1), value.reshape(-1)
    if x.shape != y.shape or not np.isfinite(y).all():
        return []
    return list(_candidates(x, y))


def _candidates(x: Array, y: Array) -> Iterator[tuple[str, float | None]]:
    few = np.linspace(0, x.size - 1, min(x.size, 512)).astype(int)
    some, there = x[few], y[few]
    scale = float(np.sqrt(np.mean(there**2))) or 1.0
    with np.errstate(all="ignore"):
        for name, function in PLAIN.items():
            if np.abs(function(some) - there).max() <= 1e-6 * scale:
                yield name, None
        for name, (fit, function) in MEASURED.items():
            number = fit(x, y)
            if number is not None and np.abs(function(number)(some) - there).max() <= 1e-6 * scale:
                yield name, number


def _compute(problem: Problem) -> Array | None:
    name, number = problem.settings["function"]
    x = problem.arrays["x"]
    return PLAIN[name](x) if number is None else MEASURED[name][1](number)(x)


_CODE: dict[str, tuple[str, str]] = {
    "leaky_relu, slope": ("LeakyReLU(negative_slope={})", "LeakyReLU(negative_slope={})"),
    "elu, alpha": ("ELU(alpha={})", "ELU(alpha={})"),
    "relu, at most": ("ReLU(max_value={})", "Hardtanh(min_val=0.0, max_val={})"),
    "gelu (exact)": ("gelu(x, approximate=False)", "GELU(approximate='none')"),
    "gelu (tanh)": ("gelu(x, approximate=True)", "GELU(approximate='tanh')"),
}
"""How Keras and PyTorch write some of them."""


def _code(side: SideName, function: tuple[str, float | None]) -> str:
    name, number = function
    written = _CODE.get(name, ("", ""))[0 if side == "keras" else 1]
    return written.format("" if number is None else f"{number:.12g}")


def _shown(function: tuple[str, float | None]) -> str:
    name, number = function
    return name if number is None else f"{name} {number:.12g}"


ACTIVATION = Form(
    "activation",
    _read,
    _compute,
    (
        Setting(
            "function",
            "activation",
            "the function",
            "{}",
            "{}",
            fit=_functions,
            shown=_shown,
            code=_code,
        ),
    ),
)
"""Any function of one number, the same for each element."""
