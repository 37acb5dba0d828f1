"""The distributions that initializers promise, with their cumulative functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..records.trace import Array

Kind = Literal["uniform", "normal", "truncated_normal", "constant"]


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution of independent numbers.

    Attributes:
        kind: of distribution; "truncated_normal" is cut at two standard deviations.
        location: lower end of a uniform distribution, mean of a normal one, or the constant.
        width: length of a uniform distribution, standard deviation of a normal one before any cut.
        name: the framework's name of the initializer.
    """

    kind: Kind
    location: float
    width: float = 0.0
    name: str = ""

    def cumulative(self, x: Array) -> Array:
        """P(X <= x), elementwise; shape of x."""
        if self.kind == "constant":
            return (x >= self.location).astype(np.float64)
        z = (x - self.location) / self.width
        if self.kind == "uniform":
            return np.clip(z, 0.0, 1.0)
        if self.kind == "normal":
            return _normal(z)
        low, high = _normal(np.array([-2.0, 2.0]))
        return np.clip((_normal(z) - low) / (high - low), 0.0, 1.0)

    def distance(self, values: Array) -> float:
        """Kolmogorov-Smirnov statistic: the largest gap between the empirical and the promised distribution.

        Args:
            values: any shape, at least one element.
        """
        x = np.sort(values.reshape(-1).astype(np.float64))
        if self.kind == "constant":
            return float(np.mean(np.abs(x - self.location) > np.finfo(np.float32).eps * max(abs(self.location), 1.0)))
        n = x.size
        promised = self.cumulative(x)
        above = np.arange(1, n + 1) / n - promised
        below = promised - np.arange(n) / n
        return float(max(above.max(), below.max()))


def distance_bound(n: int, chance: float) -> float:
    """The bound that `Distribution.distance` of n draws exceeds with less than the given probability.

    The inequality of Dvoretzky, Kiefer and Wolfowitz with Massart's constant (1990, Annals of Probability 18(3)):
    P(sup |F_n - F| > e) <= 2 exp(-2 n e^2).
    """
    return math.sqrt(math.log(2 / chance) / (2 * n))


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _normal(z: Array) -> Array:
    return 0.5 * (1 + _erf(z / math.sqrt(2)))
