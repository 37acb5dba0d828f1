"""A fixed point and its implicit gradient, against what is used in its place."""

from __future__ import annotations

import pytest

NAME = "deep_equilibrium"


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "steps"), [("PAIR", 5), ("UNROLLED", 1)])
def test_the_implicit_gradient_is_that_of_the_whole_search(checked, variant, steps):
    result = checked(f"{NAME}:{variant}", steps=steps)
    different = {c.phase for c in result.checks if c.verdict == "DIFFERENT" and not c.at_ordinary}
    assert different == set(), result.report()
    assert result.verdict == ("DIFFERENT" if variant == "UNROLLED" else "EQUIVALENT"), result.report()
    assert result.coverage["parameters"] == {"matched": 5, "waived": 0, "unmatched": 0}


@pytest.mark.parametrize("variant", ["ONE_STEP", "THREE_STEPS"])
def test_the_last_steps_alone_have_another_gradient_and_the_same_outputs(checked, variant):
    result = checked(f"{NAME}:{variant}", steps=1)
    assert result.expectation["held"], result.report()
    wrong = {
        c.name for c in result.checks if c.phase == "gradient" and c.verdict == "DIFFERENT" and " via " not in c.name
    }
    assert wrong == {"injection.weight", "injection.bias", "block.state.weight"}  # the head comes after the fixed point
