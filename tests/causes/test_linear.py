"""A sum with terms that are huge or not finite: its coefficients are not solved for, and nothing breaks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xcheck.causes.forward.linear import linear_causes
from xcheck.causes.forward.one_computation import Local, Seen
from xcheck.numerics.align.orders import Order
from xcheck.records.calls import Call

SCORES = np.random.default_rng(0).standard_normal((4, 6))


def told(value: Any, other: Any, mask: Any) -> list[tuple[str, bool]]:
    def seen(side: Any, made: Any) -> Seen:
        call = Call(0, None, "layer", "Layer", 1, {}, {"output": made})
        return Seen(side, call, call, call, made, {"scores": SCORES, "mask": mask})

    order = Order(value.shape, other.shape, (0, 1))
    with np.errstate(all="ignore"):
        causes = linear_causes(Local(seen("torch", value), seen("keras", other), order, 1e-12, 1.0))
    return [(cause.id, cause.confirmed) for cause in causes]


@pytest.mark.parametrize("fill", [-np.inf, np.nan, -1.7e308, 1e200])
def test_terms_that_are_huge_or_not_finite_are_not_solved_for(fill: float) -> None:
    mask = np.zeros((4, 6))
    mask[3] = fill
    finite = np.nan_to_num(mask, posinf=0.0, neginf=0.0)
    assert not told(SCORES + finite, 1.01 * SCORES + finite, mask)


def test_a_factor_beside_an_ordinary_term_is_found() -> None:
    mask = np.random.default_rng(1).standard_normal((4, 6))
    assert told(SCORES + mask, 1.01 * SCORES + mask, mask) == [("constant_factor", True)]
