"""One table for encoder, decoder and head, and a scale that stands or falls with the tie."""

from __future__ import annotations

import pytest

NAME = "encoder_decoder_shared_embedding"


@pytest.mark.parametrize(("variant", "parameters", "steps"), [("PAIR", 26, 5), ("UNTIED", 27, 2)])
def test_the_port_is_the_same_computation(checked, variant, parameters, steps):
    result = checked(f"{NAME}:{variant}", steps=steps)
    assert result.verdict == "EQUIVALENT", result.report()
    assert result.coverage["parameters"] == {"matched": parameters, "waived": 0, "unmatched": 0}


def test_the_head_and_the_embeddings_are_one_table(checked):
    assert [(tie.status, tie.torch) for tie in checked(NAME).ties] == [("same", ("embedding.weight", "head.weight"))]


@pytest.mark.parametrize("variant", ["UNSCALED", "UNTIED_SCALED"])
def test_a_scale_without_its_tie_is_found(checked, variant):
    result = checked(f"{NAME}:{variant}", steps=1)
    assert result.expectation["held"], result.report()
