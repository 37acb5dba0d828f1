"""Another function of the same numbers, with a factor and a number added; nothing where it is the same function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xcheck.causes.forward.axes import axes_causes, slice_causes
from xcheck.causes.forward.functions import function_causes
from xcheck.causes.forward.linear import linear_causes
from xcheck.causes.forward.one_computation import Local, Seen
from xcheck.numerics.align.orders import Order, closest
from xcheck.records.calls import Call

X = np.random.default_rng(0).uniform(0.1, 0.9, (4, 6))


def local(torch: Any, keras: Any, x: Any = X) -> Local:
    def seen(side: Any, made: Any) -> Seen:
        call = Call(0, None, "", "f", 1, {}, {"output": made})
        return Seen(side, call, call, call, made, {"x": x})

    order = closest(torch, keras) or Order(torch.shape, keras.shape, tuple(range(torch.ndim)))
    return Local(seen("torch", torch), seen("keras", keras), order, 1e-12, 1.0)


def told(causes: Any) -> list[tuple[str, bool]]:
    return [(cause.id, cause.confirmed) for cause in causes]


@pytest.mark.parametrize(
    ("torch", "keras", "words"),
    [
        (-np.log(X), 1 - X, "-(logarithm of x) in torch and 1 + (-x) in keras"),
        (2 * np.tanh(X), X**2 - 0.5, "2 * (tanh of x) in torch and -0.5 + (square of x) in keras"),
    ],
)
def test_another_function(torch, keras, words):
    found = function_causes(local(torch, keras))
    assert told(found) == [("other_function", True)]
    assert words in found[0].summary


@pytest.mark.parametrize("other", [np.log(X) * 3, X**3 + X, np.flip(X)])
def test_nothing_of_the_same_function_or_of_none(other):
    assert function_causes(local(-np.log(X), other)) == []


MASK = np.float64(np.random.default_rng(1).random((4, 6)) < 0.5)


def test_a_mask_that_is_turned_is_no_factor_and_an_offset():
    assert told(linear_causes(local(0.3 * MASK, 0.3 * (1 - MASK), MASK))) == [("mask_polarity", True)]
    assert told(linear_causes(local(0.3 * MASK, -0.3 * MASK + 0.2, MASK))) == [
        ("constant_factor", True),
        ("constant_offset", True),
    ]


def test_every_other_place_for_the_second_half():
    found = slice_causes(local(X[:, 1::2], X[:, 3:]))
    assert told(found) == [("slice", True)]
    assert "1:6:2 of 6 along axis 1 in torch, 3:6 of 6 along axis 1 in keras" in found[0].summary


def test_a_mean_of_sums_and_a_mean():
    found = axes_causes(local(np.array(X.sum(1).mean()), np.array(X.mean())))
    assert [cause.id for cause in found] == ["reduction"]
    assert "the mean of sums along axis 1 in torch, the mean in keras" in found[0].summary
    back = np.flip(np.cumsum(np.flip(X, 1), 1), 1)
    assert told(axes_causes(local(np.cumsum(X, 1), back))) == [("reduction", True)]
