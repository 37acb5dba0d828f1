"""Causes of broken ties and of optimizers that do not know of a tie."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import entry, linear_pair, plan_of
from fakes import inventory as entries

from xcheck.causes.setup.ties import holding_causes, parted_causes, parting_causes, tie_causes
from xcheck.records.inventory import Holdings
from xcheck.records.result import Tie
from xcheck.records.trace import State, StepRecord

AB = (("a.weight", "b.weight"), ("a/kernel", "b/kernel"))
CD = (("c.weight", "d.weight"), ("c/kernel", "d/kernel"))


@pytest.mark.parametrize(
    ("status", "reference", "name", "fix"),
    [
        ("equal_but_untied", "torch", "equal_but_untied", "keras: use the layer"),
        ("equal_but_untied", "keras", "equal_but_untied", "torch: assign the parameter"),
        ("missing", "torch", "tie_missing", "keras: use the layer"),
        ("extra", "torch", "tie_extra", "keras: create a layer"),
        ("extra", "keras", "tie_extra", "torch: create a parameter"),
    ],
)
def test_each_status_has_one_cause_for_all_its_groups(status, reference, name, fix):
    plan = plan_of(linear_pair(reference=reference))
    (found,) = tie_causes(plan, [Tie(*AB, status), Tie(*CD, status), Tie(*CD, "same")])
    assert (found.id, found.phase, found.confirmed) == (name, "inventory", True)
    assert found.fix.startswith(fix)
    assert len(found.evidence["groups"]) == 2
    assert found.summary.startswith(" = ".join(AB[0] if reference == "torch" else AB[1]) + " and 1 more groups are one")


def test_ties_that_hold_have_no_cause():
    plan = plan_of(linear_pair())
    assert tie_causes(plan, [Tie(*AB, "same"), Tie(*CD, "duplicated")]) == []


HELD = {
    "torch": entries(entry("a.weight", (2, 2), "Linear"), entry("b.weight", (2,), "Linear", trainable=False)),
    "keras": entries(entry("a/kernel", (2, 2), "Dense")),
}


def test_an_optimizer_that_holds_its_model_has_no_cause():
    assert holding_causes(HELD, {"torch": Holdings({"a.weight": 1}), "keras": None}) == []


def test_an_orphan_is_told_with_what_is_not_trained_instead():
    (found,) = holding_causes(HELD, {"torch": Holdings({}, ((2, 2),)), "keras": Holdings({"a/kernel": 1})})
    assert (found.id, found.torch, found.keras) == ("optimizer_orphan", "a.weight", None)
    assert found.evidence == {"orphans": [[2, 2]], "not_trained": ["a.weight"]}


def test_what_is_listed_twice_is_told_with_its_count():
    (found,) = holding_causes(HELD, {"torch": None, "keras": Holdings({"a/kernel": 2})})
    assert (found.id, found.keras, found.evidence) == (
        "parameter_listed_twice",
        "a/kernel",
        {"listed": {"a/kernel": 2}},
    )


# Parameters that are no longer one ---------------------------------------------------------------------------------


def states(**values):
    return {"torch": State(values), "keras": State({})}


def parted(second, storage, unmatched="b"):
    """The causes of a torch side with a and b, of which the plan leaves out one."""
    torch = entries(
        entry("a", (2, 2), "Linear", object_="a", storage="s"),
        entry("b", second.shape, "Linear", object_="b", storage=storage),
    )
    plan = replace(plan_of(linear_pair()), unmatched_torch=(unmatched,) if unmatched else ())
    found = parted_causes(plan, {"torch": torch, "keras": entries()}, states(a=FIRST, b=second))
    return [(c.id, c.torch, c.confirmed) for c in found]


FIRST = np.arange(4.0).reshape(2, 2)


def test_several_parameters_over_one_memory_are_told_from_equal_ones():
    assert parted(FIRST, "s") == [("tie_lost_by_assign", "a = b", True)]
    assert parted(FIRST, "t") == [("equal_but_untied", "a = b", False)]


def test_a_parameter_without_a_counterpart_is_no_lost_tie_by_itself():
    assert parted(FIRST + 1, "t") == []
    assert parted(np.arange(6.0).reshape(2, 3), "t") == []
    assert parted(FIRST, "s", unmatched=None) == []


def record(before, after):
    return StepRecord(3, State({}, ties=before), State({}, ties=after))


def test_a_tie_that_a_step_undoes_is_named_with_its_side():
    lost, kept = record((("a", "b"),), ()), record((("c", "d"),), (("c", "d", "e"),))
    (found,) = parting_causes({"torch": kept, "keras": lost})
    assert (found.id, found.phase, found.torch, found.keras) == ("tie_lost_in_step", "update", None, "a = b")
    assert found.evidence == {"step": 3, "ties_after": []}
    assert parting_causes({"torch": kept, "keras": kept}) == []
