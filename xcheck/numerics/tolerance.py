"""How far two runs of the same computation may be apart: the noise model.

A quantity q (an output, a loss term, a gradient, an update, a slot, a buffer) computed by both sides as T and K
is measured by three rulers, each relative to the scale of q (see `compare.py`): the Frobenius norm, the worst
row and the worst element. For each ruler M the difference M(T, K) is allowed to be

    max(kappa * max(eps * sqrt(n), eps * h, p, a * g), eps * m)

where

- eps is the unit roundoff spacing of the precision (2^-52 for float64);
- n is the number of terms of the longest sum that can end in q. A sum of n terms in any order is off by about
  sqrt(n) roundings (Higham and Mary 2019, "A new approach to probabilistic rounding error analysis", SIAM
  J. Sci. Comput. 41(5): error <= lambda * sqrt(n) * u with probability at least 1 - 2 exp(-lambda^2 / 2) per
  element, up to terms in u);
- h is how much larger the numbers are that q was read off from: an update is the difference of two weights,
  each known to eps of its own size, so h = |W| / |dW|; for everything else h = 1;
- p is the measured condition: the largest M(T, T') over reference twins T', runs in stochastic arithmetic (Parker 1997,
  "Monte Carlo arithmetic"; Denis, de Oliveira Castro and Petit 2016, "Verificarlo"). They start from weights and inputs
  that are each off by one relative rounding error, and where the reference is PyTorch the result of every operation
  that rounds is off by one more, up or down at random: forward, on the way back, and in the optimizer
  (`torch_rounding.py`). It carries what the formula knows of neither n nor h: the amplification of a rounding error by
  the computation itself (an Adam step of a tiny gradient, a saturated tanh, whose derivative is a matter of its last
  digit, a cancellation that is behind no weight). A perturbed weight stands for the rounding of the terms within a
  sum. Outputs are perturbed once more for the loss alone: where a probability is next to 1, the logarithm of what is
  left to 1 is known to eps over that rest, even where it cancels in the reference's own way back. A number that is
  exactly zero is not perturbed: what is computed from it is exact on both sides;
- a is the amplification of what an optimizer makes of a gradient, and 0 for everything else: how far the twins moved
  each element of the update, beyond the rounding of the weights and its own, per distance that they moved the same
  element of the gradient, but no less than eps; measured by the same rulers. The gradient itself may be off by more
  than in the twins, by g = max(eps * sqrt(n), eps * m / kappa) of its own sum, in any element, and the update by a
  times that. It is taken per element, since Adam amplifies most where a gradient is almost zero;
- m is the number of terms of the sums over the examples and positions of the batch. Their terms may be alike, as
  those of equal pixels are; then they round alike, and no square root holds. The classical bound does: a sum of m
  terms in any order is off by at most m * eps / 2 times the sum of their sizes (Higham 2002, "Accuracy and
  Stability of Numerical Algorithms", 2nd ed., section 4.2), which is the size of their sum where they are alike.
  Both sides may err: m * eps. It is a bound, so there is no kappa to it.

These rulers take the size of a whole tensor, or of others of its kind where that is zero, and what is huge among the
numbers hides what is small: beside a logit masked with -1e30 a missing prior of 0.3 is nothing. So each element is
measured once more, by what went into it alone: in float64 and against PyTorch it may be off by no more than

    kappa * C * d

where d is how far the twins moved that very element, and C = `CONTRAST` what the movement may fall short of the noise
by, by chance, in all of them. Where nothing else is larger than C times the element this allows more than the rulers
do. An element that no twin moves has no ruler of its own: it is exact, or zero by construction.

kappa, derived and not tuned: both sides err, hence 2 lambda; and lambda is chosen so that a run which compares
N = 2^30 elements fails by chance with probability below delta = 1e-6: lambda = sqrt(2 ln(2 N / delta)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

ELEMENTS_PER_RUN = 2**30
"""Elements compared in a very large run; N in the derivation of `KAPPA`."""

CHANCE_OF_FALSE_ALARM = 1e-6
"""Allowed over all elements of such a run; delta in the derivation of `KAPPA`."""

KAPPA = 2 * math.sqrt(2 * math.log(2 * ELEMENTS_PER_RUN / CHANCE_OF_FALSE_ALARM))
"""Allowance per unit of noise, about 17; see the head of this file."""

TWINS = 2
"""Perturbed reference runs per step. One sees a direction of the noise, a second guards against a lucky one."""


LUCK = math.sqrt(2 / math.pi) * CHANCE_OF_FALSE_ALARM ** (-1 / TWINS)
"""How much smaller than its noise one number may be in every twin, by chance, about 800: `CONTRAST` of one element."""

WIDE = 1e-6
"""An allowance above this is said in the report: real differences of ports start near it."""

CONTRAST = math.sqrt(2 / math.pi) * (ELEMENTS_PER_RUN / CHANCE_OF_FALSE_ALARM) ** (1 / TWINS)
"""How much smaller than its noise the movement of an element may be in every twin, by chance, about 3e7.

A normal deviate is below 1/C with probability sqrt(2/pi)/C, and below it in every twin with that to the power of
`TWINS`; times the elements of a run this is the chance of a false alarm."""


@dataclass(frozen=True, slots=True)
class Noise:
    """What rounding is expected to do to one quantity under one ruler.

    Attributes:
        terms: n, the length of the longest sum behind the quantity.
        cancellation: h, see the head of this file.
        condition: p, measured; 0 where no twin was run.
        alike: m, the terms of a sum that may be alike.
        amplification: a, where the quantity is what an optimizer makes of a gradient; 0 for everything else.
    """

    terms: int
    cancellation: float = 1.0
    condition: float = 0.0
    alike: int = 1
    amplification: float = 0.0

    def unit(self, eps: float) -> float:
        """The noise that `KAPPA` is an allowance per unit of, in units of the ruler."""
        root = math.sqrt(max(self.terms, 1))
        carried = self.amplification * eps * max(root, self.alike / KAPPA)
        return max(eps * root, eps * self.cancellation, self.condition, carried)

    def allowed(self, eps: float) -> float:
        """The largest difference that rounding can explain, in units of the ruler."""
        return max(KAPPA * self.unit(eps), eps * self.alike)


def epsilon(precision: str) -> float:
    """Spacing of the floating-point numbers at 1 in a precision, such as 2^-52 for "float64"."""
    return float(np.finfo(np.dtype(precision)).eps)
