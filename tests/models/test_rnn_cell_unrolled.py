"""A cell looped over time by hand against the layer that loops: gates, biases, and where a GRU resets."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

NAME = "rnn_cell_unrolled"


@pytest.mark.parametrize("variant", ["PAIR", "GRU"])
def test_the_port_is_the_same_computation(checked, variant):
    result = checked(f"{NAME}:{variant}")
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"]["waived"] == result.coverage["parameters"]["unmatched"] == 0


@pytest.mark.parametrize("variant", ["RESET_BEFORE", "GATE_ORDER", "BOTH_BIASES"])
def test_what_goes_wrong_in_a_port_is_found(checked, variant):
    result = checked(f"{NAME}:{variant}", steps=1)
    assert result.expectation["held"], result.report()


@pytest.mark.parametrize("variant", ["PAIR", "GRU"])
def test_the_gradient_is_the_sum_over_the_rows(checked, uses, variant):
    assert uses(checked(f"{NAME}:{variant}"), "cell.weight_ih")
