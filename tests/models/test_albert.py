"""A block applied several times is one set of weights per group, and the groups are neighbours."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

NAME = "albert"


def test_the_port_is_the_same_computation(checked):
    result = checked(NAME)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 42, "waived": 0, "unmatched": 0}


@pytest.mark.parametrize("parameter", ["embedding.weight", "layers.0.query.weight", "layers.2.down.bias"])
def test_the_gradient_is_the_sum_of_its_uses(checked, uses, parameter):
    assert len(uses(checked(NAME), parameter)) == 2


def test_each_group_is_two_neighbouring_layers_and_one_block(checked):
    ties = {tie.torch: tie.keras for tie in checked(NAME).ties}
    assert ties["layers.0.up.weight", "layers.1.up.weight"] == ("group_0_up/kernel",)
    assert ties["layers.2.up.weight", "layers.3.up.weight"] == ("group_1_up/kernel",)


@pytest.mark.parametrize("variant", ["CLONED", "ALTERNATING"])
def test_what_goes_wrong_in_a_port_is_found(checked, variant):
    result = checked(f"{NAME}:{variant}", steps=1)
    assert result.expectation["held"], result.report()


def test_alternating_groups_have_the_right_weights_and_the_right_ties(checked):
    checks = checked(f"{NAME}:ALTERNATING", steps=1).checks
    assert {c.verdict for c in checks if c.phase in ("inventory", "sync")} == {"EQUIVALENT"}
