"""One block, several iterations: where the gradient is cut, and which loss weighs most."""

from __future__ import annotations

import pytest

NAME = "iterative_refinement"


@pytest.mark.slow
def test_the_port_is_the_same_computation(checked):
    result = checked(NAME)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 12, "waived": 0, "unmatched": 0}


@pytest.mark.parametrize("variant", ["NOT_DETACHED", "NEWEST_FIRST"])
def test_the_usual_failures_are_found(checked, variant):
    result = checked(f"{NAME}:{variant}", steps=1)
    assert result.expectation["held"], result.report()


def test_a_forgotten_detach_changes_no_output(checked):
    result = checked(f"{NAME}:NOT_DETACHED", steps=1)
    assert {c.verdict for c in result.checks if c.phase in ("forward", "loss")} == {"EQUIVALENT"}
