"""What a mask fills in: another number, or the other positions; and nothing where more is unlike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xcheck.causes.forward.filled import filled_causes
from xcheck.causes.forward.one_computation import Local, Seen
from xcheck.numerics.align.orders import Order
from xcheck.records.calls import Call

SCORES = np.random.default_rng(0).standard_normal((4, 6))
KEPT = np.random.default_rng(1).random((4, 6)) < 0.6


def told(torch: Any, keras: Any) -> list[tuple[str, bool]]:
    def seen(side: Any, made: Any) -> Seen:
        call = Call(0, None, "", "where", 1, {}, {"output": made})
        return Seen(side, call, call, call, made, {"mask": KEPT, "scores": SCORES})

    order = Order(torch.shape, keras.shape, (0, 1))
    with np.errstate(all="ignore"):
        causes = filled_causes(Local(seen("torch", torch), seen("keras", keras), order, 1e-12, 1.0))
    return [(cause.id, cause.confirmed) for cause in causes]


def filled(number: float, kept: Any = KEPT) -> Any:
    return np.where(kept, SCORES, number)


@pytest.mark.parametrize(("one", "other"), [(-1e9, -5.0), (0.0, -1.0), (-1e9, -1e4), (7.0, 7.5)])
def test_another_number(one, other):
    assert told(filled(one), filled(other)) == [("mask_fill", True)]


@pytest.mark.parametrize("number", [-1e9, 0.0, 3.0])
def test_the_other_positions(number):
    assert told(filled(number), filled(number, ~KEPT)) == [("mask_polarity", True)]


def test_a_few_other_positions_are_neither():
    moved = KEPT.copy()
    moved[0] = ~moved[0]
    assert told(filled(-5.0), filled(-1.0, moved)) == []


@pytest.mark.parametrize("spoilt", [SCORES * 1.01, SCORES + 0.1])
def test_nothing_where_more_is_unlike(spoilt):
    assert told(filled(-5.0), np.where(KEPT, spoilt, -1.0)) == []


def test_nothing_where_one_side_fills_nothing():
    assert told(filled(-5.0), SCORES) == []
