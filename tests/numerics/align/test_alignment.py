"""Alignment by value and dataflow, on traces made by hand: names and axis orders never matter, values and edges do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from xcheck.numerics.align import Alignment, align, conditions_of, region, suspects, unshared_places
from xcheck.numerics.align.graph import Graph, value_of
from xcheck.records.calls import Call, Calls
from xcheck.records.trace import Array

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4, 5))


class Tape:
    """Writes down a trace by hand; `turn` permutes the axes of everything, as another framework would."""

    def __init__(self, prefix: str, turn: Callable[[Array], Array] = lambda a: a) -> None:
        self.prefix, self.turn = prefix, turn
        self.made: list[Call] = []
        self.index = 1

    def call(self, kind: str, function: Callable[..., Array], *inputs: Array, **options) -> Array:
        out = function(*inputs)
        given = {str(i): self.turn(a) for i, a in enumerate(inputs)}
        call = Call(self.index, 0, f"{self.prefix}{self.index}", kind, 1, given, {"output": self.turn(out)}, **options)
        self.index += 1
        self.made.append(call)
        return out

    def calls(self, x: Array, out: Array) -> Calls:
        whole = Call(0, None, "", "Model", 1, {"0": self.turn(x)}, {"output": self.turn(out)})
        return (*self.made, whole)


def torch(scale: float = 2.0, power: float = 3.0) -> Calls:
    tape = Tape("layer_")
    a = tape.call("Linear", lambda x: scale * x, X, parameters=("w",))
    b = tape.call("ReLU", lambda x: np.maximum(x, 0), a)
    return tape.calls(X, tape.call("Power", lambda x, y: x**power + y, b, X))


def keras(scale: float = 2.0, power: float = 3.0, fused: bool = False) -> Calls:
    """The same in channels last; `fused`: the two first calls are one."""
    tape = Tape("m", lambda a: a.transpose(0, 2, 3, 1))
    if fused:
        b = tape.call("Dense", lambda x: np.maximum(scale * x, 0), X, parameters=("k",))
    else:
        b = tape.call("ReLU", lambda x: np.maximum(x, 0), tape.call("Dense", lambda x: scale * x, X, parameters=("k",)))
    return tape.calls(X, tape.call("Pow", lambda x, y: x**power + y, b, X))


def aligned(left: Calls, right: Calls, twins: tuple[Calls, ...] = (), mask: Array | None = None) -> Alignment:
    graph = Graph(left, mask)
    return align(graph, Graph(right, mask), conditions_of(graph, twins), sums=(X.size, X.size))


def ranked(alignment: Alignment, partners: dict[str, frozenset[str]] | None = None) -> list[tuple[str, str]]:
    ends = [list(g.outputs[0].values()) for g in (alignment.reference, alignment.follower)]
    found = suspects(alignment, *ends, partners or {})
    return [(s.reference.call.path, s.follower.call.path) for s in found if not s.lacking]


def first(alignment: Alignment, partners: dict[str, frozenset[str]] | None = None) -> tuple[str, str]:
    return ranked(alignment, partners)[0]


def test_the_same_numbers_are_one_value_in_any_order_and_shape():
    assert value_of(X).key == value_of(X.transpose(3, 0, 2, 1).reshape(6, -1)).key
    assert value_of(X).key != value_of(np.nextafter(X, 2 * X)).key
    assert value_of(np.array([0.0, -0.0])).key == value_of(np.array([0.0, 0.0])).key


def test_two_traces_of_one_computation_share_every_value():
    found = aligned(torch(), keras())
    assert set(found.there) == set(found.reference.values)
    assert set(found.back) == set(found.follower.values)


def test_what_is_made_in_one_call_and_in_two_agrees_after_both():
    found = aligned(torch(), keras(fused=True))
    alone = [
        c.path for c in found.reference.calls for k in found.reference.outputs[c.index].values() if k not in found.there
    ]
    assert alone == ["layer_1"]
    assert unshared_places(found.reference, found.there, list(found.reference.outputs[0].values())) == []


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("change", "where"), [({"scale": 2.0 + 1e-9}, 1), ({"power": 3.0 + 1e-9}, 3)])
def test_the_first_values_that_differ_are_made_from_ones_that_agree(fused, change, where):
    found = ranked(aligned(torch(**change), keras(fused=fused)))
    if fused and where == 1:  # whether it is the first or the second is found by trying
        assert ("layer_2", "m1") in found[:3]
    else:
        assert found[0] == (f"layer_{where}", f"m{where - fused}")


def test_a_difference_within_rounding_is_none():
    found = aligned(torch(scale=2.0 * (1 + 1e-15)), keras())
    assert unshared_places(found.reference, found.there, list(found.reference.outputs[0].values())) == []


def test_noise_that_is_amplified_is_allowed_for():
    """A twin that moves by 1e-10 shows that rounding may."""
    twin = torch(scale=2.0 * (1 + 1e-10))
    assert first(aligned(torch(scale=2 + 1e-10), keras())) == ("layer_1", "m1")
    quiet = aligned(torch(scale=2 + 1e-10), keras(), (twin,))
    assert set(quiet.there) == set(quiet.reference.values)


def test_parameters_tell_two_equal_places_apart():
    """Both branches part at once; the one that holds the partner of the parameter is the one."""

    def branches(prefix: str, by: float, names: tuple[str, str]) -> Calls:
        tape = Tape(prefix)
        one = tape.call("Linear", lambda x: x * by, X, parameters=(names[0],))
        two = tape.call("Linear", lambda x: x * -by, X, parameters=(names[1],))
        return tape.calls(X, tape.call("Add", lambda x, y: x + y * y, one, two))

    found = aligned(branches("t", 2.0, ("a", "b")), branches("k", 3.0, ("y", "x")))
    partners = {"a": frozenset({"x"}), "b": frozenset({"y"})}
    assert first(found, partners) in (("t1", "k2"), ("t2", "k1"))


def test_an_operation_that_one_side_lacks_is_paired_with_where_its_input_comes_from():
    def trace(prefix: str, scaled: bool) -> Calls:
        tape = Tape(prefix)
        a = tape.call("Linear", lambda x: 2 * x, X)
        b = tape.call("Scale", lambda x: 4 * x, a) if scaled else a
        return tape.calls(X, tape.call("Tanh", np.tanh, b))

    for swapped in (False, True):
        found = aligned(trace("t", not swapped), trace("k", swapped))
        ends = [list(g.outputs[0].values()) for g in (found.reference, found.follower)]
        lacking = {(s.lacking, s.reference.call.kind, s.follower.call.kind) for s in suspects(found, *ends, {})}
        wanted = ("reference", "Linear", "Scale") if swapped else ("follower", "Scale", "Linear")
        assert wanted in lacking


def test_what_a_place_was_made_from_are_tensors_of_both_sides_and_constants():
    tape = Tape("t")
    table = tape.call("Range", lambda: np.arange(5.0))
    tape.calls(X, tape.call("Add", lambda x, y: x + y, X, table))
    left = tape.calls(X, X + table)
    found = aligned(left, keras())
    places = unshared_places(found.reference, found.there, list(found.reference.outputs[0].values()))
    place = next(place for place in places if place.call.kind == "Add")
    found_in = region(found.reference, found.there, place, place.call)
    assert (list(found_in.both), list(found_in.constants)) == (["(the inputs)"], ["t1"])
    assert [c.kind for c in found_in.calls] == ["Add"]
    np.testing.assert_array_equal(found_in.constants["t1"], np.arange(5.0))


def test_positions_that_mean_nothing_may_differ():
    mask = np.array([[True, True, False], [True, False, False]])
    other = np.where(mask[..., None, None], X, 7.0)
    left = Tape("t").calls(X, np.sin(X))
    right = replace(left[-1], inputs={"0": other}, outputs={"output": np.sin(other)})
    assert not aligned(left, (right,)).there
    found = aligned(left, (right,), mask=mask)
    assert set(found.there) == set(found.reference.values)


def test_the_positions_that_mean_something_are_found_behind_the_channels():
    mask = np.array([[True, True, False], [True, False, False]])
    last = np.arange(30.0).reshape(2, 3, 5)
    assert value_of(last, mask).numbers.size == 15
    assert value_of(last.transpose(0, 2, 1), mask).key == value_of(last, mask).key
    square = np.arange(18.0).reshape(2, 3, 3)
    assert value_of(square.transpose(0, 2, 1), mask).numbers.size == 9  # the first that fits, as ever
    scores = np.arange(36.0).reshape(2, 2, 3, 3)
    assert value_of(scores, mask).numbers.size == scores.size  # which of the two it is about is not known


def test_whole_numbers_are_the_same_or_not():
    ids = np.arange(12).reshape(3, 4)
    assert value_of(ids).exact
    left, right = Tape("t").calls(ids, ids), Tape("k").calls(ids + 10**9, ids + 10**9)
    assert not aligned(left, right).there
