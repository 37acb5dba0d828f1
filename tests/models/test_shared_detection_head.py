"""One head slides over every level of a pyramid, and its numbers are flattened anchor by anchor."""

from __future__ import annotations

import numpy as np
import pytest

from xcheck.pairs.loading import load_pair

pytestmark = pytest.mark.slow

NAME = "shared_detection_head"


def test_the_port_is_the_same_computation(checked):
    result = checked(NAME)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 22, "waived": 0, "unmatched": 0}


@pytest.mark.parametrize("parameter", ["classes.last.weight", "boxes.tower.0.bias"])
def test_the_gradient_is_the_sum_of_its_uses(checked, uses, parameter):
    assert len(uses(checked(NAME), parameter)) == 3


@pytest.mark.parametrize("variant", ["HEAD_PER_LEVEL", "CHANNELS_FIRST"])
def test_what_goes_wrong_in_a_port_is_found(checked, variant):
    result = checked(f"{NAME}:{variant}", steps=1)
    assert result.expectation["held"], result.report()


def test_a_head_per_level_is_found_as_missing_ties(checked):
    ties = checked(f"{NAME}:HEAD_PER_LEVEL", steps=1).ties
    assert {tie.status for tie in ties} == {"missing"}
    assert len(ties) == 8
    assert {len(tie.keras) for tie in ties} == {3}


def test_every_digit_has_an_anchor_and_most_anchors_have_none():
    batch = next(iter(load_pair(NAME).batches(0)))
    there = batch.targets["boxes"][..., 4]
    assert (there.sum(axis=1) >= 1).all()
    assert there.mean() < 0.2
    assert np.array_equal(batch.targets["classes"].max(axis=-1) == 1, there == 1)
