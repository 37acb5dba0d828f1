"""Layers of both sides next to each other, by what they hold and their order alone."""

from __future__ import annotations

import pytest

from xcheck.matching.layers import Unit, units_of
from xcheck.matching.sequences import aligned
from xcheck.records.inventory import Entry, Inventory


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


def test_blocks_that_count_from_1_follow_those_that_count_from_0_where_one_side_has_a_block_more():
    torch = [linear(f"layers.{i}.proj") for i in range(5)]
    inventory = [Inventory(tuple(e for u in side for e in u.entries)) for side in (torch, _blocks(1))]
    units = [units_of(of, ()) for of in inventory]
    found = {g.torch[0].owner: g.keras[0].owner for g in aligned(*units)}
    assert found == {f"layers.{i}.proj": f"block_{i + 1}/proj" for i in range(4)}


def _blocks(first: int) -> list[Unit]:
    return [dense(f"block_{i + first}/proj") for i in range(4)]


def test_a_weight_and_a_bias_are_not_added_up():
    """Two biases are; a normalization's scale and shift are no vector that has lost its counterpart."""
    norm = unit("norm", "LayerNorm", weight=(8,), bias=(8,))
    cell = unit("cell", "Cell", bias_in=(8,), bias_back=(8,))
    token = [unit("token", "Token", vector=(8,))]
    joints = [[j.torch for g in aligned([of], token) for j in g.covers[0].joints] for of in (norm, cell)]
    assert all(len(of) == 1 for of in joints[0])
    assert joints[1] == [(0, 1)]


def heads(owner: str, bias: bool) -> Unit:
    return unit(owner, "EinsumDense", kernel=(8, 2, 4), **({"bias": (2, 4)} if bias else {}))


@pytest.mark.parametrize("bias", [True, False])
def test_one_layer_for_three_is_found_where_one_side_alone_has_biases(bias: bool) -> None:
    """And the projection behind them is not one of the three, though it has their sizes."""
    packed = unit("qkv", "Linear", weight=(24, 8), **({} if bias else {"bias": (24,)}))
    torch = [packed, linear("back"), linear("head", 3)]
    keras = [heads("q", bias), heads("k", bias), heads("v", bias), dense("out"), dense("last", 3)]
    groups = aligned(torch, keras)
    found = {tuple(u.owner for u in g.torch): tuple(u.owner for u in g.keras) for g in groups}
    assert found == {("qkv",): ("q", "k", "v"), ("back",): ("out",), ("head",): ("last",)}
    cover = next(g.covers[0] for g in groups if len(g.keras) == 3)
    assert cover.partial
    assert [str(joint.torch_part) for joint in cover.joints] == ["[0:8]", "[8:16]", "[16:24]"]


def test_three_layers_with_biases_against_one_without() -> None:
    torch = [linear("q"), linear("k"), linear("v")]
    (group,) = aligned(torch, [unit("qkv", "Dense", kernel=(8, 24))])
    assert [u.owner for u in group.torch] == ["q", "k", "v"]
    assert group.covers[0].partial


def test_layers_of_other_sizes_are_not_put_together_without_their_biases() -> None:
    """A kernel may not be left out: only biases are."""
    keras = [heads("q", True), heads("k", True), unit("v", "Dense", kernel=(8, 9), bias=(9,))]
    groups = aligned([unit("qkv", "Linear", weight=(24, 8))], keras)
    assert not any(len(g.keras) > 1 for g in groups)
