"""What a mask fills in: another number, or the other positions; and nothing where more is unlike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xcheck.causes.forward.filled import filled_causes
from xcheck.causes.forward.masks import blocked_words
from xcheck.causes.forward.one_computation import Local, Seen
from xcheck.numerics.align.orders import Order
from xcheck.records.calls import Call

SCORES = np.random.default_rng(0).standard_normal((4, 6))
KEPT = np.random.default_rng(1).random((4, 6)) < 0.6


def told(torch: Any, keras: Any, mask: Any = KEPT, other: Any = None) -> list[tuple[str, bool]]:
    def seen(side: Any, made: Any) -> Seen:
        call = Call(0, None, "", "where", 1, {}, {"output": made})
        given = {"mask": mask if side == "torch" or other is None else other, "scores": SCORES}
        return Seen(side, call, call, call, made, given)

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


def test_other_positions_by_their_own_name():
    moved = KEPT.copy()
    moved[0] = ~moved[0]
    assert told(filled(-5.0), filled(-5.0, moved)) == [("attention_mask", True)]
    assert told(filled(-5.0), filled(-1.0, moved)) == [("attention_mask", True), ("mask_fill", True)]


def test_a_mask_that_is_added_and_one_of_which_nothing_is_left():
    mask = np.where(KEPT, 0.0, -1e9)
    seen = told(
        SCORES + mask,
        SCORES + np.where(KEPT.T.reshape(4, 6), 0.0, -1e9),
        mask,
        np.where(KEPT.T.reshape(4, 6), 0.0, -1e9),
    )
    assert seen == [("attention_mask", True)]
    assert told(SCORES + mask, filled(-1e9), mask) == [("mask_fill", True)]


@pytest.mark.parametrize(
    ("blocked", "words"),
    [
        (np.triu(np.ones((5, 5), bool), 1), "what is after the own one (10 of 25 positions)"),
        (np.tril(np.ones((5, 5), bool), -1), "what is before the own one (10 of 25 positions)"),
        (
            ~np.tri(5, k=1, dtype=bool) | np.tri(5, k=-2, dtype=bool),
            "what is more than 1 before the own one or more than 1 after the own one (12 of 25 positions)",
        ),
        (np.eye(5, dtype=bool), "5 of 25 positions"),
        (np.zeros((5, 5), bool), "nothing"),
    ],
)
def test_which_positions_in_words(blocked, words):
    assert blocked_words(blocked) == words
    assert (
        blocked_words(np.stack([blocked, blocked])).partition(" (")[0].replace("10 of 50", "5 of 25")
        == words.partition(" (")[0]
    )


def test_an_activation_is_no_mask():
    assert told(np.maximum(SCORES, 0.0), SCORES) == []


@pytest.mark.parametrize("spoilt", [SCORES * 1.01, SCORES + 0.1])
def test_nothing_where_more_is_unlike(spoilt):
    assert told(filled(-5.0), np.where(KEPT, spoilt, -1.0)) == []


def test_nothing_where_one_side_fills_nothing():
    assert told(filled(-5.0), SCORES) == []
