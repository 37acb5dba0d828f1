"""The noise model: its constants are what they claim to be, and rounding stays below it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from xcheck.numerics.compare import METRICS, measure
from xcheck.numerics.tolerance import CHANCE_OF_FALSE_ALARM, ELEMENTS_PER_RUN, KAPPA, TWINS, Noise, epsilon

EPS = 2.0**-52


def test_kappa_is_twice_the_lambda_that_gives_the_chance_of_a_false_alarm():
    chance_per_element = 2 * math.exp(-((KAPPA / 2) ** 2) / 2)
    assert chance_per_element * ELEMENTS_PER_RUN == pytest.approx(CHANCE_OF_FALSE_ALARM, rel=1e-9)
    assert 16.5 < KAPPA < 17.5  # "about 17"


def test_there_is_more_than_one_twin():
    assert TWINS >= 2


@pytest.mark.parametrize(("precision", "spacing"), [("float64", 2.0**-52), ("float32", 2.0**-23)])
def test_epsilon_is_the_spacing_at_one(precision, spacing):
    assert epsilon(precision) == spacing
    assert np.dtype(precision).type(1 + spacing) > 1


def test_the_allowance_is_the_largest_of_the_three_noises_and_not_their_sum():
    assert Noise(100).allowed(EPS) == KAPPA * EPS * 10
    assert Noise(100, cancellation=50.0).allowed(EPS) == KAPPA * EPS * 50
    assert Noise(100, cancellation=5.0).allowed(EPS) == KAPPA * EPS * 10
    assert Noise(100, 50.0, condition=1e-3).allowed(EPS) == KAPPA * 1e-3
    assert Noise(100, 50.0, condition=EPS).allowed(EPS) == KAPPA * EPS * 50


def test_terms_that_are_alike_are_allowed_their_bound_where_it_is_larger():
    assert Noise(10**6, batch_terms=10**6).allowed(EPS) == EPS * 10**6  # a bound: no factor for chance
    assert Noise(10**6).allowed(EPS) == KAPPA * EPS * 10**3
    assert Noise(100, batch_terms=100).allowed(EPS) == KAPPA * EPS * 10


@pytest.mark.parametrize("terms", [10_000, 1_000_000])
def test_equal_terms_added_one_by_one_drift_further_than_chance_does_and_no_further_than_the_bound(terms):
    error = abs(float(np.full(terms, 0.1).cumsum()[-1]) - 0.1 * terms) / (0.1 * terms)
    assert error < Noise(terms, batch_terms=terms).allowed(EPS)
    if terms == 1_000_000:
        assert error > KAPPA / 4 * EPS * math.sqrt(terms)  # 20 times a million terms that round by chance


def test_the_noise_of_a_gradient_is_amplified_with_it():
    steep = Noise(10_000, condition=1e-13, amplification=100.0)  # the optimizer makes 100 of 1
    assert steep.allowed(EPS) == pytest.approx(KAPPA * 100 * EPS * 100)
    assert replace(steep, condition=1e-10).allowed(EPS) == KAPPA * 1e-10  # the twins moved it further
    assert replace(steep, amplification=0.5).allowed(EPS) == KAPPA * 1e-13
    assert replace(steep, batch_terms=10**6).allowed(EPS) == pytest.approx(100 * EPS * 10**6)


def test_a_sum_of_no_terms_is_allowed_one_rounding():
    assert Noise(0).allowed(EPS) == Noise(1).allowed(EPS) == KAPPA * EPS


def sums(terms: int, signs: bool) -> tuple[np.ndarray, np.ndarray]:
    """64 sums of the same terms one after the other, in two orders."""
    rng = np.random.default_rng([terms, signs])
    x = rng.standard_normal((64, terms)) if signs else rng.random((64, terms))
    return x.cumsum(axis=1)[:, -1], rng.permuted(x, axis=1).cumsum(axis=1)[:, -1]


@pytest.mark.parametrize("signs", [True, False])
@pytest.mark.parametrize("terms", [10, 1_000, 20_000])
def test_sums_in_two_orders_differ_and_stay_below_the_allowance(terms, signs):
    found = measure(*sums(terms, signs))
    assert found.element > 0
    assert max(found.get(metric) for metric in METRICS) < Noise(terms).allowed(EPS)


@pytest.mark.parametrize("signs", [True, False])
@pytest.mark.parametrize("terms", [10, 1_000, 20_000])
def test_a_change_of_1e_10_is_above_the_allowance(terms, signs):
    left, right = sums(terms, signs)
    found = measure(left, right * (1 + 1e-10))
    assert min(found.get(metric) for metric in METRICS) > Noise(terms).allowed(EPS)


def test_the_allowance_for_float32_would_hide_that_change():
    left, right = sums(10, signs=True)
    assert measure(left, right * (1 + 1e-10)).element < Noise(10).allowed(epsilon("float32"))
