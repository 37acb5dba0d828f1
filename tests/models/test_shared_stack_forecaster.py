"""One block repeated within a stack: shared, cloned, and out of PyTorch's sight."""

from __future__ import annotations

import pytest

NAME = "shared_stack_forecaster"


@pytest.mark.slow
def test_the_port_is_the_same_computation(checked):
    result = checked(NAME)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 13, "waived": 0, "unmatched": 0}


def test_a_block_for_each_repeat_is_no_shared_block(checked):
    result = checked(f"{NAME}:CLONED", steps=1)
    assert result.expectation["held"], result.report()
    wrong = {c.name for c in result.checks if c.phase == "gradient" and c.verdict == "DIFFERENT"}
    assert "stacks.0.hidden_0.weight" in wrong


def test_what_a_plain_list_hides_is_unmatched_and_no_step_is_run(checked):
    result = checked(f"{NAME}:LISTED", steps=1)
    assert result.expectation["held"], result.report()
    assert result.coverage["parameters"] == {"matched": 1, "waived": 0, "unmatched": 12}
    assert any("no step was run" in note for note in result.notes)
    (cause,) = result.causes
    assert len(cause.evidence["tensors"]) == 12
    assert "stacks[0].hidden_0.weight" in cause.evidence["tensors"]
