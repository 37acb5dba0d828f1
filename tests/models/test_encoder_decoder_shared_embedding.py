"""One table for encoder, decoder and head, and a scale that stands or falls with the tie."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

NAME = "encoder_decoder_shared_embedding"


@pytest.mark.parametrize(("variant", "parameters"), [("PAIR", 26), ("UNTIED", 27)])
def test_the_port_is_the_same_computation(checked, variant, parameters):
    result = checked(f"{NAME}:{variant}")
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": parameters, "waived": 0, "unmatched": 0}


def test_the_gradient_is_the_sum_of_its_uses(checked, uses):
    assert len(uses(checked(f"{NAME}:PAIR"), "embedding.weight")) == 3


def test_the_head_and_the_embeddings_are_one_table(checked):
    (tie,) = checked(f"{NAME}:PAIR").ties
    assert tie.torch == ("embedding.weight", "head.weight")
    assert tie.keras == ("embedding/embeddings",)


@pytest.mark.parametrize("variant", ["UNSCALED", "UNTIED_SCALED"])
def test_a_scale_without_its_tie_is_found(checked, variant):
    result = checked(f"{NAME}:{variant}", steps=1)
    assert result.expectation["held"], result.report()
