"""Layers of both sides next to each other, by what they hold and their order alone."""

from __future__ import annotations

from xcheck.matching.sequence import aligned
from xcheck.matching.units import Unit
from xcheck.records.inventory import Entry


def unit(owner: str, kind: str, **shapes: tuple[int, ...]) -> Unit:
    entries = (
        Entry(f"{owner}.{role}", shape, "float64", True, False, owner, kind, role, f"{owner}.{role}", owner)
        for role, shape in shapes.items()
    )
    return Unit(owner, kind, tuple(entries))


def linear(owner: str, outputs: int = 8) -> Unit:
    return unit(owner, "Linear", weight=(outputs, 8), bias=(outputs,))


def dense(owner: str, outputs: int = 8) -> Unit:
    return unit(owner, "Dense", kernel=(8, outputs), bias=(outputs,))


def test_a_packed_layer_is_found_where_a_table_is_used_in_another_place():
    """The layer after it has the shape of each of those that are packed, and fits the first of them."""
    torch = [linear("a"), linear("b"), linear("c"), unit("t", "Table", table=(49, 2)), linear("d")]
    keras = [dense("1", 24), dense("2"), unit("3", "Attention", table=(49, 2))]
    found = {tuple(u.owner for u in g.torch): g.keras[0].owner for g in aligned(torch, keras)}
    assert found == {("a", "b", "c"): "1", ("d",): "2", ("t",): "3"}


def test_two_layers_that_make_up_another_one_do_not_take_the_place_of_their_own():
    """The scales of two blocks, against those and a normalization that only one side has."""
    torch = [unit(name, "Block", layer_scale=(8,)) for name in ("a", "b")]
    scales = [unit(name, "LayerScale", gamma=(8,)) for name in ("1", "2")]
    keras = [*scales, unit("3", "LayerNormalization", gamma=(8,), beta=(8,))]
    found = {tuple(u.owner for u in g.torch): tuple(u.owner for u in g.keras) for g in aligned(torch, keras)}
    assert found == {("a",): ("1",), ("b",): ("2",)}
