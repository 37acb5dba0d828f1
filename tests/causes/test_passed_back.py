"""What an operation does to a gradient is told from the gradients alone, where they tell it."""

import numpy as np
import pytest

from xcheck.causes.passed_back import passed_back_causes

TRUE = np.array([0.5, -2.0, 3.0, 0.25])
VALUE = np.array([-1.0, 0.5, 2.0, 7.0])
SURE = np.array([0.3, 1 - 1e-9, 0.9, 2e-8])
"""Probabilities, of which the second and the last are clipped."""


def found(true: np.ndarray, seen: np.ndarray, value: np.ndarray = VALUE) -> list[tuple[str, bool]]:
    causes = passed_back_causes("torch", true, seen, value, 1e-12, "t", "k", 1.0)
    return [(c.id, c.confirmed) for c in causes]


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (np.clip(TRUE, -1, 1), "clipped_gradient"),
        (0.5 * TRUE, "scaled_gradient"),
        (-TRUE, "scaled_gradient"),
    ],
)
def test_what_was_done_is_named(seen, cause):
    assert found(TRUE, seen) == [(cause, True)]


def test_the_side_that_clips_is_told_to_stop():
    for reference, side in (("torch", "keras"), ("keras", "torch")):
        (told,) = passed_back_causes(reference, TRUE, np.clip(TRUE, -1, 1), VALUE, 1e-12, "t", "k", 1.0)
        assert told.fix == f"{side}: take out the clipping"


@pytest.mark.parametrize(
    "seen",
    [
        np.array([0.5, -2.0, 2.5, 0.25]),  # the largest alone is wrong: any value is some limit
        np.clip(TRUE, -1, 1) + np.array([0, 0, 0, 1e-6]),
        0.5 * TRUE + np.array([1e-6, 0, 0, 0]),
        np.zeros(4),
    ],
)
def test_nothing_is_named_where_it_does_not_give_what_was_seen(seen):
    assert found(TRUE, seen) == []


def test_one_number_tells_nothing():
    assert found(np.array([3.0]), np.array([1.5])) == []
    assert found(np.array([0.0, 3.0]), np.array([0.0, 1.5])) == []


def test_a_loss_that_clips_probabilities_passes_nothing_back_beyond():
    true = np.array([-3.0, 1e9, -1.1, 5e7])
    seen = np.where([True, False, True, False], true, 0.0)
    (told,) = passed_back_causes("torch", true, seen, SURE, 1e-12, "t", "k", 1.0)
    assert (told.id, told.confirmed, told.evidence["beyond"]) == ("clipped_probability", True, 2)
    assert "keras passes back nothing for 2 of 4 probabilities, less than 1e-07 from 0 or 1" in told.summary


@pytest.mark.parametrize(
    "seen",
    [
        np.array([-3.0, 0.0, -1.1 * (1 + 1e-6), 0.0]),  # something else is wrong too, small against what is cut off
        np.array([-3.0, 0.0, -1.1, 5e7]),
        np.array([-3.0, 1e9, 0.0, 5e7]),
    ],
)
def test_another_gradient_beyond_is_no_clipping(seen):
    assert found(np.array([-3.0, 1e9, -1.1, 5e7]), seen, SURE) == []
