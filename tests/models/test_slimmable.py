"""One set of kernels at two widths: what is sliced, and what the widths add up to."""

from __future__ import annotations

import pytest

NAME = "slimmable"


@pytest.mark.slow
def test_the_port_is_the_same_computation(checked):
    result = checked(NAME)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 12, "waived": 0, "unmatched": 0}
    states = {c.name for c in result.checks if c.phase == "state"}
    assert {"norms_0.0.running_var", "norms_0.1.running_var"} <= states  # each width has its own


@pytest.mark.parametrize("variant", ["LAST_CHANNELS", "AVERAGED"])
def test_the_usual_failures_are_found(checked, variant):
    result = checked(f"{NAME}:{variant}", steps=1)
    assert result.expectation["held"], result.report()


def test_a_mean_over_the_widths_halves_every_gradient(checked):
    result = checked(f"{NAME}:AVERAGED", steps=1)
    wrong = [c for c in result.checks if c.phase == "gradient" and c.verdict == "DIFFERENT" and c.torch]
    assert {c.name for c in wrong} >= {"conv_0.whole.weight", "conv_1.whole.weight", "head.whole.weight"}
    assert all(c.keras_value == pytest.approx(c.torch_value / 2) for c in wrong if c.metric == "element")
