"""Counts say what they are compared with, and how far away it is."""

import copy
import math

import numpy as np
import pytest

from xcheck.frameworks.counters import Boundary, WatchedInt


def watched(value: int, rate: int = 1) -> tuple[WatchedInt, list[Boundary]]:
    boundaries: list[Boundary] = []
    return WatchedInt(value, rate, boundaries), boundaries


@pytest.mark.parametrize(
    ("expression", "value", "steps"),
    [
        (lambda n: n > 1000, False, 990),
        (lambda n: n >= 1000, False, 990),
        (lambda n: n + 1 == 1000, False, 989),
        (lambda n: 2 * n - 5 < 100, True, 42.5),
        (lambda n: 50 - n > 0, True, 40),
        (lambda n: min(1.0, n / 1000), 0.01, 990),
        (lambda n: n in [1, 2, 30], False, 20),
    ],
)
def test_a_comparison_gives_the_steps_to_it_and_its_usual_value(expression, value, steps):
    n, boundaries = watched(10)
    result = expression(n)
    assert boundaries[-1].steps == pytest.approx(steps)
    assert result == pytest.approx(value)


def test_a_count_that_moves_by_more_than_one_is_there_sooner():
    n, boundaries = watched(0, rate=4)
    assert not n >= 100
    assert boundaries == [Boundary(25)]


def test_a_count_modulo_a_number_comes_back():
    n, boundaries = watched(7)
    assert n % 10 == 7
    assert boundaries[0] == Boundary(3, 10)


def test_a_lookup_among_keys_is_said():
    n, boundaries = watched(7)
    assert n not in {8, 9}
    assert math.isinf(boundaries[0].steps)


def test_it_is_a_number_like_any_other():
    n, _ = watched(3)
    assert [0, 1, 2, 30][n] == 30
    assert np.array(n).dtype == np.int64
    assert type(copy.deepcopy(n)) is int
    assert (f"{n}", n**2, list(range(n)), n // 2, n * "a") == ("3", 9, [0, 1, 2], 1, "aaa")
