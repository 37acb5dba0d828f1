"""Elements measured by their own movement: which are found, and which are excused by others of their size."""

import numpy as np
import pytest

from xcheck.numerics.own_noise import furthest


def test_an_element_that_few_twins_hardly_move_shares_the_ruler_of_those_of_its_size():
    """What a sum that cancels leaves, in units of the last digit of its terms: a twin moves three, and one hardly."""
    unit = 2.0**-56
    t = np.array([unit, 2 * unit, -unit, 3 * unit])
    moved = t + np.array([1e-12 * unit, unit, -2 * unit, unit])
    assert furthest(t, t - np.array([2 * unit, 0, 0, 0]), [(t, moved)], 24.0) is None
    assert furthest(t, t - np.array([2 * unit, 0, 0, 0]), [(t, moved)], 0.5) is not None


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_other_sizes_lend_an_element_no_ruler(size):
    """Beside elements that are all rounding, one of another size is still off by more than its own allows."""
    unit = 2.0**-56
    t = np.array([size, unit, -unit])
    moved = t + np.array([size * 2.0**-52, unit, unit])
    found = furthest(t, t + np.array([1e-9 * size, 0, 0]), [(t, moved)], 24.0)
    assert found is not None
    assert found.index == (0,)
    assert found.ratio > 1
