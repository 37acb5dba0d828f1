"""The noise model: the largest difference of two runs of the same computation.

A quantity q (an output, a loss term, a gradient, an update, a slot, a buffer) computed by both sides as T and K
is measured by three metrics, each relative to the scale of q (see `compare.py`): the Frobenius norm, the worst
row and the worst element. For each metric M the difference M(T, K) is allowed to be

    max(kappa * max(eps * sqrt(n), eps * h, p, a * g), eps * m)

where

- eps is the unit roundoff spacing of the precision (2^-52 for float64);
- n is the number of terms of the longest sum that can end in q. A sum of n terms in any order is off by about
  sqrt(n) roundings (Higham and Mary 2019, "A new approach to probabilistic rounding error analysis", SIAM
  J. Sci. Comput. 41(5): error <= lambda * sqrt(n) * u with probability at least 1 - 2 exp(-lambda^2 / 2) per
  element, up to terms in u);
- h is the relative size of the numbers whose difference q is: an update is the difference of two weights,
  each known to eps of its own size, so h = |W| / |dW|; for everything else h = 1;
- p is the measured condition: the largest M(T, T') over reference twins T', runs in stochastic arithmetic (Parker 1997,
  "Monte Carlo arithmetic"; Denis, de Oliveira Castro and Petit 2016, "Verificarlo"). They start from weights and inputs
  that are each off by one relative rounding error, and where the reference is PyTorch the result of every operation
  that rounds is off by one more, up or down at random: forward, on the way back, and in the optimizer
  (`torch_rounding.py`). It measures what n and h do not cover: the amplification of a rounding error by the
  computation itself (an Adam step of a tiny gradient, a saturated tanh, whose derivative depends on its last digit,
  a cancellation that involves no weight). A perturbed weight represents the rounding of the terms within a sum.
  Outputs are perturbed once more only for the loss: where a probability is close to 1, the logarithm of its distance
  to 1 is known to eps over that distance, even where it cancels in the reference's own backward pass. A number that
  is exactly zero is not perturbed: values computed from it are exact on both sides;
- a is the amplification of a gradient by an optimizer, and 0 for everything else: the movement of each element of
  the update in the twins, beyond the rounding of the weights and its own, divided by the movement of the same element
  of the gradient, but at least eps; measured by the same metrics. The error of the gradient itself may be larger than
  in the twins, g = max(eps * sqrt(n), eps * m / kappa) of its own sum, in any element, and that of the update a times
  that. It is computed per element, since Adam amplifies most where a gradient is almost zero;
- m is the number of terms of the sums over the examples and positions of the batch. Their terms may be equal, as
  those of equal pixels; then they round equally, and the square root does not hold. The classical bound does: a sum
  of m terms in any order has an error of at most m * eps / 2 times the sum of their sizes (Higham 2002, "Accuracy and
  Stability of Numerical Algorithms", 2nd ed., section 4.2), which is the size of their sum where they are equal.
  Both sides may err: m * eps. It is a bound, so it has no factor kappa.

These metrics use the size of a whole tensor, or of others of its kind where that is zero, so huge numbers hide small
ones: beside a logit masked with -1e30 a missing prior of 0.3 is invisible. So each element is measured once more by its
own noise: in float64 and against PyTorch its difference may be at most

    kappa * C * d

where d is the movement of that element in the twins, and C = `CONTRAST` the factor by which all twins may underestimate
the noise by chance. Where no other number is larger than C times the element this allows more than the metrics do. An
element that no twin moves has no noise of its own: it is exact, or zero by construction.

kappa, derived and not tuned: both sides err, hence 2 lambda; and lambda is chosen so that a run which compares
N = 2^30 elements fails by chance with probability below delta = 1e-6: lambda = sqrt(2 ln(2 N / delta)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

ELEMENTS_PER_RUN = 2**30
"""Number of elements compared in a very large run; N in the derivation of `KAPPA`."""

CHANCE_OF_FALSE_ALARM = 1e-6
"""Probability over all elements of such a run; delta in the derivation of `KAPPA`."""

KAPPA = 2 * math.sqrt(2 * math.log(2 * ELEMENTS_PER_RUN / CHANCE_OF_FALSE_ALARM))
"""Allowance per unit of noise, about 17; see the head of this file."""

TWINS = 2
"""Perturbed reference runs per step. One shows a direction of the noise, a second guards against a lucky one."""

LUCK = math.sqrt(2 / math.pi) * CHANCE_OF_FALSE_ALARM ** (-1 / TWINS)
"""Factor by which one number may be smaller than its noise in every twin, by chance, about 800: `CONTRAST` for one
element."""

WIDE = 1e-6
"""A larger allowance is mentioned in the report: real differences of ports start near it."""

CONTRAST = math.sqrt(2 / math.pi) * (ELEMENTS_PER_RUN / CHANCE_OF_FALSE_ALARM) ** (1 / TWINS)
"""Factor by which the movement of an element may be smaller than its noise in every twin, by chance, about 3e7.

A normal deviate is below 1/C with probability sqrt(2/pi)/C, and below it in every twin with that to the power of
`TWINS`; times the elements of a run this is the chance of a false alarm."""


@dataclass(frozen=True, slots=True)
class Noise:
    """The expected effect of rounding on one quantity by one metric.

    Attributes:
        terms: n, the length of the longest sum behind the quantity.
        cancellation: h, see the head of this file.
        condition: p, measured; 0 without a twin.
        batch_terms: m, the number of terms of the sum over the batch.
        amplification: a, where an optimizer computes the quantity from a gradient; 0 for everything else.
    """

    terms: int
    cancellation: float = 1.0
    condition: float = 0.0
    batch_terms: int = 1
    amplification: float = 0.0

    def unit(self, eps: float) -> float:
        """The noise that `KAPPA` multiplies, in units of the metric."""
        root = math.sqrt(max(self.terms, 1))
        carried = self.amplification * eps * max(root, self.batch_terms / KAPPA)
        return max(eps * root, eps * self.cancellation, self.condition, carried)

    def allowed(self, eps: float) -> float:
        """The largest difference that rounding can explain, in units of the metric."""
        return max(KAPPA * self.unit(eps), eps * self.batch_terms)


def epsilon(precision: str) -> float:
    """Spacing of the floating-point numbers at 1 in a precision, such as 2^-52 for "float64"."""
    return float(np.finfo(np.dtype(precision)).eps)
