"""A training script of 60 lines and its port with three mistakes: what a reader of the pages is told about them."""

from __future__ import annotations

from pathlib import Path

import pytest

import xcheck
from xcheck.pairs.loading import load_pair

HERE = Path(__file__).parent


def checked(name: str) -> xcheck.Result:
    return xcheck.check(load_pair(f"{HERE / 'pair.py'}:{name}"), steps=3, free_steps=0, precision=("float64",))


@pytest.mark.slow
def test_the_lost_tie_is_the_first_cause() -> None:
    """It is the only one: without the tie the updates of all parameters differ."""
    result = checked("PAIR")
    assert result.verdict == "DIFFERENT"
    assert [c.id for c in result.causes if c.confirmed] == ["equal_but_untied"]


@pytest.mark.slow
def test_behind_the_tie_the_clipping_and_the_decayed_vectors_are_confirmed() -> None:
    result = checked("TIED")
    assert result.verdict == "DIFFERENT"
    known = {"optimizer_formula", "optimizer_setting"}
    (decay,) = [c for c in result.causes if c.id == "decay_exclusion"]
    assert "exclude_from_weight_decay(var_names=['bias', 'gamma'])" in decay.fix
    assert "/beta, zero so far" in decay.fix
    assert all("use_ema=True, ema_momentum=0.99" in c.fix for c in result.causes if c.id in known)
    assert {c.id for c in result.causes if c.confirmed} == known | {"clipping", "decay_exclusion", "average_start"}


@pytest.mark.slow
def test_the_mended_port_is_the_same_apart_from_the_known_differences_of_keras() -> None:
    result = checked("MENDED")
    assert result.verdict == "EQUIVALENT"
    assert {accepted.cause for accepted in result.accepted if accepted.seen} == {
        "optimizer_formula",
        "optimizer_setting",
        "clipping_formula",
        "average_start",
    }
