"""An embedding that is also the output layer is one table on both sides; a copy, or a factor, is found."""

from __future__ import annotations

import pytest

NAME = "tied_language_model"


@pytest.mark.slow
def test_the_port_is_the_same_computation(checked):
    result = checked(NAME)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": 3, "waived": 0, "unmatched": 0}
    (tie,) = result.ties
    assert tie.torch == ("embedding.weight", "head.weight")
    assert tie.keras == ("embedding/embeddings",)


def test_the_gradient_is_the_sum_of_its_uses(checked, uses):
    assert len(uses(checked(NAME), "embedding.weight")) == 2


@pytest.mark.parametrize("variant", ["UNTIED", "SCALED"])
def test_what_goes_wrong_in_a_port_is_found(checked, variant):
    result = checked(f"{NAME}:{variant}", steps=1)
    assert result.expectation["held"], result.report()


def test_a_head_of_its_own_starts_equal_and_gets_another_gradient(checked):
    checks = checked(f"{NAME}:UNTIED", steps=1).checks
    assert all(c.verdict == "EQUIVALENT" for c in checks if c.phase in ("sync", "forward", "loss"))
    wrong = {c.keras for c in checks if c.phase == "gradient" and c.verdict == "DIFFERENT"}
    assert wrong == {"embedding/embeddings", "head/kernel"}
