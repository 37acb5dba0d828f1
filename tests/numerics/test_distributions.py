"""What initializers promise, and how far independent draws stray from it."""

from __future__ import annotations

import numpy as np
import pytest

from xcheck.numerics.distributions import Distribution, distance_bound

RNG = np.random.default_rng(0)
N = 20_000
CUT = RNG.standard_normal(4 * N)
DRAWS = {
    Distribution("uniform", -2.0, 3.0): RNG.uniform(-2, 1, N),
    Distribution("normal", 1.0, 0.5): RNG.normal(1, 0.5, N),
    Distribution("truncated_normal", 0.0, 2.0): 2 * CUT[np.abs(CUT) < 2][:N],
    Distribution("constant", 3.0): np.full(N, 3.0),
}


@pytest.mark.parametrize("promise", DRAWS, ids=lambda d: d.kind)
def test_draws_stay_within_the_bound(promise: Distribution) -> None:
    allowed = 0.0 if promise.kind == "constant" else distance_bound(N, 1e-6)
    assert promise.distance(DRAWS[promise]) <= allowed


@pytest.mark.parametrize("promise", [d for d in DRAWS if d.kind != "constant"], ids=lambda d: d.kind)
def test_draws_of_another_width_or_place_do_not(promise: Distribution) -> None:
    draws = DRAWS[promise]
    assert promise.distance(draws * 1.1) > distance_bound(N, 1e-6)
    assert promise.distance(draws + 0.1 * promise.width) > distance_bound(N, 1e-6)


def test_an_uncut_normal_is_told_from_a_cut_one() -> None:
    assert Distribution("truncated_normal", 0.0, 1.0).distance(CUT[:N]) > distance_bound(N, 1e-6)


def test_one_wrong_element_of_a_constant_shows() -> None:
    values = np.ones(100)
    values[3] = 0.0
    assert Distribution("constant", 1.0).distance(values) == 0.01


def test_the_distance_is_that_of_the_definition() -> None:
    values, promise = np.array([0.1, 0.4, 0.7]), Distribution("uniform", 0.0, 1.0)
    grid = np.linspace(-0.5, 1.5, 200_001)
    empirical = (values[None, :] <= grid[:, None]).mean(axis=1)
    assert promise.distance(values) == pytest.approx(np.abs(empirical - promise.cumulative(grid)).max(), abs=1e-4)


def test_the_bound_shrinks_with_the_number_of_draws_and_grows_with_certainty() -> None:
    assert distance_bound(400, 1e-6) == pytest.approx(distance_bound(100, 1e-6) / 2)
    assert distance_bound(100, 1e-9) > distance_bound(100, 1e-6)
