"""Tie groups of two inventories, and the ties a pair promises."""

import numpy as np
import pytest
from fakes import entry, inventory

from xcheck.errors import MatchError
from xcheck.matching import plan_from_map
from xcheck.pairs.pair import copies, waive
from xcheck.phases.ties.groups import broken_ties, ties, used
from xcheck.records.result import Tie
from xcheck.records.trace import State, StepRecord
from xcheck.records.uses import LOSS, PENALTY


def linear(*paths: str, tied: bool):
    return inventory(*(entry(p, (2, 2), "Linear", object_="w" if tied else p) for p in paths))


def dense(*paths: str, tied: bool):
    return inventory(*(entry(p, (2, 2), "Dense", object_="w" if tied else p) for p in paths))


@pytest.mark.parametrize(
    ("torch_tied", "keras_tied", "by_torch", "by_keras"),
    [
        (True, True, "same", "same"),
        (True, False, "missing", "extra"),
        (False, True, "extra", "missing"),
        (False, False, None, None),
    ],
)
def test_a_tie_of_one_side_alone_is_missing_or_extra_depending_on_the_reference(
    torch_tied, keras_tied, by_torch, by_keras
):
    torch = linear("a.weight", "b.weight", tied=torch_tied)
    keras = dense("a/kernel", "b/kernel", tied=keras_tied)
    weight_map = {"a.weight": "a/kernel", "b.weight": "b/kernel"}
    for reference, status in (("torch", by_torch), ("keras", by_keras)):
        plan = plan_from_map(torch, keras, weight_map, reference)
        built = {
            side: {"build": "tied" if one else "apart"} for side, one in (("torch", torch_tied), ("keras", keras_tied))
        }
        group = ("a.weight", "b.weight"), ("a/kernel", "b/kernel")
        expected = (Tie(*group, status, stages={"build": built}),) if status else ()
        assert ties(plan, torch, keras) == expected


def test_one_parameter_against_untied_copies_is_a_missing_tie():
    torch, keras = linear("a.weight", tied=True), dense("a/kernel", "b/kernel", tied=False)
    plan = plan_from_map(torch, keras, {"a.weight": ["a/kernel", "b/kernel"]})
    (found,) = ties(plan, torch, keras)
    assert (found.torch, found.keras, found.status) == (("a.weight",), ("a/kernel", "b/kernel"), "missing")
    assert (found.tied("torch"), found.tied("keras")) == (True, False)


def test_a_view_of_one_storage_is_a_tie_like_an_alias():
    torch = inventory(
        entry("a.weight", (2, 2), "Linear", storage="s"), entry("b.weight", (2, 2), "Linear", storage="s")
    )
    keras = dense("a/kernel", "b/kernel", tied=False)
    plan = plan_from_map(torch, keras, {"a.weight": "a/kernel", "b.weight": "b/kernel"})
    assert [t.status for t in ties(plan, torch, keras)] == ["missing"]


def test_a_tie_that_is_smaller_on_the_other_side_is_missing():
    torch = linear("a.weight", "b.weight", "c.weight", tied=True)
    keras = inventory(
        *(entry(p, (2, 2), "Dense", object_="w") for p in ("a/kernel", "b/kernel")),
        entry("c/kernel", (2, 2), "Dense"),
    )
    weight_map = {f"{n}.weight": f"{n}/kernel" for n in "abc"}
    found = ties(plan_from_map(torch, keras, weight_map), torch, keras)
    assert [t.status for t in found] == ["missing"]
    assert found[0].keras == ("a/kernel", "b/kernel", "c/kernel")


@pytest.mark.parametrize("reference", ["torch", "keras"])
def test_aliases_without_any_counterpart_are_no_tie_of_both_sides(reference):
    torch, keras = linear("a.weight", "b.weight", tied=True), dense("a/kernel", tied=True)
    plan = plan_from_map(torch, keras, {"a.weight": waive("not ported")}, reference)
    assert [t for t in ties(plan, torch, keras) if t.status == "same"] == []


def test_promised_ties_that_are_not_one_storage_are_broken_on_their_side():
    torch, keras = linear("a.weight", "b.weight", tied=False), dense("a/kernel", "b/kernel", tied=True)
    assert broken_ties([["a.weight", "b.weight"], ["a/kernel", "b/kernel"]], torch, keras) == [
        ("torch", ("a.weight", "b.weight"))
    ]
    assert broken_ties([["a.weight"]], torch, keras) == []


@pytest.mark.parametrize("group", [["a.weight", "b/kernel"], ["a.weight", "x"], ["x"]])
def test_a_promised_tie_across_the_sides_or_of_unknown_paths_is_refused(group):
    torch, keras = linear("a.weight", "b.weight", tied=True), dense("a/kernel", "b/kernel", tied=True)
    with pytest.raises(MatchError, match="not all on one side") as caught:
        broken_ties([group], torch, keras)
    assert group[-1] in str(caught.value)


COPIED = {"a.weight": ["a/kernel", "b/kernel"]}
KERNEL = np.arange(4.0).reshape(2, 2)


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ((KERNEL, KERNEL), "equal_but_untied"),
        ((KERNEL, KERNEL.T), "missing"),
        ((KERNEL, KERNEL + 1e-9), "missing"),
        ((np.zeros((2, 2)), np.zeros((2, 2))), "missing"),
    ],
)
def test_equal_initial_values_are_told_unless_they_are_one_constant(values, status):
    torch, keras = linear("a.weight", tied=True), dense("a/kernel", "b/kernel", tied=False)
    initial = State(dict(zip(("a/kernel", "b/kernel"), values, strict=True)))
    assert [t.status for t in ties(plan_from_map(torch, keras, COPIED), torch, keras, initial)] == [status]


@pytest.mark.parametrize("reference", ["torch", "keras"])
def test_declared_copies_are_duplicated_and_no_broken_tie(reference):
    torch, keras = linear("a.weight", "c.weight", tied=True), dense("a/kernel", "b/kernel", tied=False)
    plan = plan_from_map(torch, keras, {"c.weight": copies("a/kernel", "b/kernel")}, reference)
    assert plan.copies == {"a.weight"}
    assert [m.keras for m in plan.copies_of(plan.parameters[0])] == ["a/kernel", "b/kernel"]
    assert [t.status for t in ties(plan, torch, keras)] == ["duplicated"]


# How often a step uses them ----------------------------------------------------------------------------------------


def step_with(uses):
    """A record that tells nothing but uses: path -> their names, none where it is used once."""
    zero = np.zeros((2, 2))
    told = {path: dict.fromkeys(names, zero) for path, names in uses.items() if names}
    return StepRecord(1, State({}), State({}), gradients=dict.fromkeys(uses, zero), uses=told)


@pytest.mark.parametrize(
    ("torch_uses", "keras_uses", "expected"),
    [
        (["f (call 1)", "f (call 2)"], ["g (call 1)", "g (call 2)", "g (call 3)"], {"torch": 2, "keras": 3}),
        (["f (call 1)", PENALTY], ["g (call 1)", PENALTY], None),  # a regularised weight is not a shared one
        ([], [f"cell (call {i})" for i in range(6)], None),  # a recurrent layer is one on the other side
        (["f (call 1)", "f (call 2)"], [], None),
    ],
)
def test_one_path_is_a_group_where_both_sides_use_it_several_times(torch_uses, keras_uses, expected):
    torch, keras = linear("a.weight", "other.weight", tied=False), dense("b/kernel", "more/kernel", tied=False)
    plan = plan_from_map(torch, keras, {"a.weight": "b/kernel", "other.weight": "more/kernel"})
    record = step_with({"a.weight": torch_uses, "other.weight": ["h (call 1)", PENALTY]})
    found = used((), plan, record, step_with({"b/kernel": keras_uses, "more/kernel": ["h (call 1)", PENALTY]}))
    assert [(t.torch, t.keras, t.status, t.uses) for t in found] == (
        [(("a.weight",), ("b/kernel",), "same", expected)] if expected else []
    )


def test_the_uses_of_a_tie_are_those_of_all_its_paths():
    torch, keras = linear("a.weight", "b.weight", tied=True), dense("c/kernel", "d/kernel", tied=False)
    plan = plan_from_map(torch, keras, {"a.weight": "c/kernel", "b.weight": "d/kernel"})
    built = ties(plan, torch, keras)
    (found,) = used(
        built, plan, step_with({"a.weight": ["f", "g", LOSS]}), step_with({"c/kernel": ["f", PENALTY], "d/kernel": []})
    )
    assert (found.status, found.uses) == ("missing", {"torch": 2, "keras": 2})
    (silent,) = used(built, plan, step_with({"a.weight": ["f", "g"]}), step_with({"c/kernel": [], "d/kernel": []}))
    assert silent.uses == {"torch": 2}  # a side that tells no use apart is not said to have one
