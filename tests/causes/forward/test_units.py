"""What keeps a division by a norm from dividing by zero; and the one operand that differs of two."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xcheck.causes.forward.one_computation import Local, Seen
from xcheck.causes.forward.operands import one_operand_causes
from xcheck.causes.forward.units import unit_causes
from xcheck.numerics.align.orders import Order
from xcheck.records.calls import Call

X = np.random.default_rng(0).standard_normal((5, 4)) * np.array([[1.0], [1e-3], [2.0], [1e-5], [0.3]])
NORM = np.sqrt((X * X).sum(-1, keepdims=True))


def local(torch: Any, keras: Any, given: Any = X, kind: str = "normalize", inputs: Any = ((), ())) -> Local:
    def seen(side: Any, made: Any, took: Any) -> Seen:
        arrays = {n: a for n, a in zip("01", took, strict=False) if isinstance(a, np.ndarray)}
        numbers = {n: a for n, a in zip("01", took, strict=False) if n not in arrays}
        call = Call(0, None, "", kind, 1, arrays, {"output": made}, settings=numbers)
        return Seen(side, call, call, call, made, {"x": given})

    order = Order(torch.shape, keras.shape, tuple(range(torch.ndim)))
    return Local(seen("torch", torch, inputs[0]), seen("keras", keras, inputs[1]), order, 1e-12, 1.0)


def told(causes: Any) -> list[tuple[str, bool]]:
    return [(cause.id, cause.confirmed) for cause in causes]


ADDED, ROOT, LEAST = X / (NORM + 1e-3), X / np.sqrt(NORM**2 + 1e-3), X / np.maximum(NORM, 1e-3)


@pytest.mark.parametrize(("torch", "keras"), [(ADDED, ROOT), (ADDED, LEAST), (LEAST, ROOT), (ROOT, ADDED)])
def test_another_place(torch, keras):
    assert told(unit_causes(local(torch, keras))) == [("epsilon_place", True)]


def test_another_number():
    found = unit_causes(local(LEAST, X / np.maximum(NORM, 1e-2)))
    assert told(found) == [("epsilon", True)]
    assert found[0].fix == "keras: x / maximum(norm(x), 0.001), or torch: x / maximum(norm(x), 0.01)"


def test_of_the_norm_alone():
    assert told(unit_causes(local(NORM + 1e-3, np.maximum(NORM, 1e-3), NORM))) == [("epsilon_place", True)]
    assert told(unit_causes(local(NORM + 1e-3, NORM + 1e-2, NORM))) == []  # a number that is added, like any other


@pytest.mark.parametrize("other", [ADDED * 1.01, X / (np.abs(X).sum(-1, keepdims=True) + 1e-3), np.tanh(X)])
def test_nothing_of_another_function(other):
    assert told(unit_causes(local(ADDED, other))) == []


COUNT = np.array([[1.0], [3.0], [2.0], [4.0], [2.0]])


def test_one_side_divides_by_a_count():
    found = one_operand_causes(local(X / COUNT, X / 4.0, X, "divide", ((X, COUNT), (X, 4.0))))
    assert told(found) == [("other_operand", True)]
    assert found[0].summary == (
        "of what divide takes, the second is 5 numbers from 1 to 4, one for each example in torch and 4 in keras, "
        "up to 3 apart"
    )


def test_nothing_where_both_compute_the_other_operand():
    two = COUNT + 1
    assert one_operand_causes(local(X / COUNT, X / two, X, "divide", ((X, COUNT), (X, two)))) == []
