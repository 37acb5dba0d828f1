"""Parameters without a counterpart in layers of one kind: what they may be is said, and is not confirmed."""

from __future__ import annotations

from typing import Any

import pytest

from xcheck.causes.setup.unmatched_sizes import size_causes
from xcheck.matching import MatchPlan
from xcheck.records.inventory import Entry, Inventory


def held(kind: str, **shapes: tuple[int, ...]) -> Inventory:
    """One layer of a kind and its parameters."""
    return Inventory(tuple(Entry(p, s, "float64", True, False, "layer", kind, p, p, p) for p, s in shapes.items()))


def told(torch: Inventory, keras: Inventory) -> list[Any]:
    paths = [tuple(e.path for e in inventory.entries) for inventory in (torch, keras)]
    plan = MatchPlan("torch", (), unmatched_torch=paths[0], unmatched_keras=paths[1])
    return size_causes(plan, {"torch": torch, "keras": keras})


@pytest.mark.parametrize(
    ("kinds", "shapes", "expected"),
    [
        (("PReLU", "PReLU"), ((6,), (6, 5, 6)), "shared_slopes"),
        (("BatchNorm2d", "BatchNormalization"), ((6,), (7,)), "channel_axis"),
        (("Linear", "Dense"), ((6, 5), (5, 8)), "other_width"),
        (("Conv2d", "Conv2D"), ((5, 20, 1, 1), (1, 1, 20, 8)), "other_width"),
        (("Embedding", "Embedding"), ((30, 4), (31, 4)), "other_width"),
    ],
)
def test_what_has_another_size(kinds: Any, shapes: Any, expected: str) -> None:
    (cause,) = told(held(kinds[0], weight=shapes[0]), held(kinds[1], alpha=shapes[1]))
    assert (cause.id, cause.confirmed, cause.torch, cause.keras) == (expected, False, "weight", "alpha")
    assert str(shapes[0]) in cause.summary
    assert str(shapes[1]) in cause.summary


def test_nothing_is_said_of_other_layers_of_as_many_or_of_one_size() -> None:
    assert told(held("PReLU", weight=(6,)), held("PReLU", alpha=(6,))) == []
    assert told(held("PReLU", weight=(6,)), held("PReLU", a=(6, 5), b=(6, 5))) == []
    assert told(held("Linear", weight=(6, 5)), held("Dense", kernel=(5, 6))) == []  # other reasons left them unmatched
    assert told(held("Linear", weight=(6, 5)), held("Dense", kernel=(7, 8))) == []
    assert told(held("Linear", weight=(6, 5)), held("Conv1D", kernel=(7, 5))) == []


def test_layers_that_share_a_width_are_one_cause() -> None:
    torch = held("Conv2d", a=(5, 20, 1, 1), b=(5,), c=(20, 5, 1, 1))
    keras = held("Conv2D", a=(1, 1, 20, 8), b=(8,), c=(1, 1, 8, 20))
    (cause,) = told(torch, keras)
    assert "5 in torch and 8 in keras" in cause.summary
    assert cause.evidence["parameters"] == 3
