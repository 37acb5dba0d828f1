"""Orders of what one dense layer packs, from the reshapes and splits behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from xcheck.matching.packed_orders import _axes, _orders
from xcheck.records.calls import Call

OUT = np.arange(2.0 * 5 * 12).reshape(2, 5, 12)
"""(B, L, 12)"""


def traced(*steps: tuple[np.ndarray, Sequence[np.ndarray]]) -> tuple[Call, ...]:
    """The layer, then functions with what each was given and made."""
    layer = Call(0, None, "qkv", "Linear", 1, {}, {"output": OUT})
    made = [
        Call(i, None, "", "f", i, {"0": given}, {str(n): array for n, array in enumerate(outputs)}, function=True)
        for i, (given, outputs) in enumerate(steps, 1)
    ]
    return (layer, *made)


BLOCKS = OUT.reshape(2, 5, 3, 2, 2)
HEADS = OUT.reshape(2, 5, 2, 6)
TRACES = {
    "one reshape": (traced((OUT, [BLOCKS]), (BLOCKS, [BLOCKS[:, :, i] for i in range(3)])), (3, 2, 2)),
    "a split, then a reshape of each": (
        traced((OUT, np.split(OUT, 3, axis=-1)), (OUT[..., :4], [OUT[..., :4].reshape(2, 5, 2, 2)])),
        (3, 2, 2),
    ),
    "a reshape, a transpose, a split": (
        traced(
            (OUT, [HEADS]),
            (HEADS, [HEADS.swapaxes(1, 2)]),
            (HEADS.swapaxes(1, 2), np.split(HEADS.swapaxes(1, 2), 3, axis=-1)),
        ),
        (2, 3, 2),
    ),
    "a function of it": (traced((OUT, [np.tanh(OUT)])), (12,)),
    "nothing": (traced(), (12,)),
}


@pytest.mark.parametrize("name", TRACES)
def test_how_a_side_takes_outputs_apart_is_read_off_its_calls(name: str) -> None:
    calls, axes = TRACES[name]
    assert _axes("qkv", calls) == axes


def test_only_orders_that_fit_both_sides_are_tried() -> None:
    assert [*_orders((3, 2, 4), (2, 3, 4))] == [("(a=3 b=2 c)", "(b a c)")]
    assert [*_orders((3, 2, 4), (2, 12))] == [("(a=3 b=2 c)", "(b a c)"), ("(a=3 b=2 c)", "(b c a)")]
    assert [*_orders((2, 12), (3, 2, 4))] == [("(b=2 a=3 c)", "(a b c)"), ("(b=2 c=4 a)", "(a b c)")]
    assert [*_orders((3, 2, 4), (5, 5))] == []
    assert [*_orders((24,), (2, 12))] == []
