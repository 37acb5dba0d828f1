"""When a recomputation is what was observed: one bound for all causes that compute something again."""

from __future__ import annotations

import math

import numpy as np

from ..numerics.compare import measure, structure
from ..numerics.tolerance import KAPPA, epsilon
from ..records.trace import Array

LOST = 1e4
"""How much larger the error of a recomputation may be than one rounding: 1 - beta^t is known to eps / (1 - beta), and
a beta of 0.9999 is the largest in use."""

ROUNDING = KAPPA * epsilon("float64") * LOST
"""What rounding does to a recomputation at most, about 4e-11."""

FLOAT32 = epsilon("float32") / 2
"""The least difference that a setting can make in a framework that keeps it as float32, about 6e-8."""

REPRODUCED = math.sqrt(ROUNDING * FLOAT32)
"""Largest relative difference of what is made again from what was observed, about 1.5e-9: as many times above what
rounding does to a recomputation as it is below what the smallest other setting does."""


def gap(observed: Array, again: Array, read_off: float = 0.0) -> float:
    """The largest difference relative to the scale of what was observed; infinite where they cannot be compared.

    Args:
        observed: by a side.
        again: made in NumPy.
        read_off: the largest of the numbers that the observed one is a difference of, which one rounding each is taken
            off for; 0 where it is none.
    """
    if structure(observed, again) is not None or not (np.isfinite(observed).all() and np.isfinite(again).all()):
        return math.inf
    return measure(observed, again, floor=KAPPA * epsilon("float64") * read_off / REPRODUCED).element


def reproduces(observed: Array, again: Array, read_off: float = 0.0) -> bool:
    """Whether what was made again is what was observed; the arguments are those of `gap`."""
    return gap(observed, again, read_off) <= REPRODUCED
