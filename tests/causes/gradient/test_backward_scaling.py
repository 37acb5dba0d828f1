"""What an operation does to a gradient is told from the gradients alone, where they tell it."""

import numpy as np
import pytest

from xcheck.causes.gradient.backward_scaling import passed_back_causes

TRUE = np.array([0.5, -2.0, 3.0, 0.25])


def found(true: np.ndarray, seen: np.ndarray) -> list[tuple[str, bool]]:
    causes = passed_back_causes("torch", true, seen, 1e-12, "t", "k", 1.0)
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
        (told,) = passed_back_causes(reference, TRUE, np.clip(TRUE, -1, 1), 1e-12, "t", "k", 1.0)
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
