"""Ties through training: a group that a step or the sync separates, or makes, is named."""

from dataclasses import replace

import pytest
from fakes import changed, linear_pair, steps_of

import xcheck
from xcheck.phases.ties.checks import synced_ties, tie_checks
from xcheck.records.trace import State

AB, CD = ("a.weight", "b.weight"), ("c.weight", "d.weight")


def state(*groups):
    return State(ties=groups)


def held(before, after):
    plan, _ = steps_of(linear_pair())
    return [(c.name, c.verdict.value, c.detail) for c in synced_ties(plan, state(*before), state(*after))]


def test_nothing_is_said_where_nothing_is_tied():
    assert held([], []) == []


def test_ties_that_stay_pass():
    assert held([AB, CD], [AB, CD]) == [("ties of the keras side", "EQUIVALENT", "as before the sync: 2")]


def test_a_tie_that_is_gone_is_named():
    assert held([AB, CD], [CD]) == [
        ("tie of a.weight", "DIFFERENT", "the sync separated them: a.weight | b.weight"),
    ]


def test_a_group_that_falls_in_parts_shows_them():
    whole = (*AB, *CD)
    assert held([whole], [AB, CD]) == [
        ("tie of a.weight", "DIFFERENT", "the sync separated them: a.weight = b.weight | c.weight = d.weight")
    ]


def test_a_tie_that_comes_up_is_named():
    assert held([], [AB]) == [
        ("tie of a.weight", "DIFFERENT", "the sync made them one storage, they were a.weight | b.weight")
    ]


@pytest.mark.parametrize("side", ["torch", "keras"])
def test_a_step_that_separates_a_tie_is_found_in_that_step_and_ends_the_run(side):
    other = {"torch": ["linear.weight", "linear_1.weight"], "keras": ["dense/kernel", "dense_1/kernel"]}[side]
    untied = changed("after", "ties", change=lambda _: (), step=2)
    faulty = {"copies": 2, "fault": untied}
    sides = {"torch": {"copies": 2}, "keras": {"copies": 2}, side: faulty}
    result = xcheck.check(linear_pair(**sides), steps=3)
    found = result.first_divergence
    assert found is not None
    assert (found.phase, found.step, found.name) == ("update", 2, f"tie of {other[0]}")
    assert getattr(found, side) == " = ".join(other)
    assert max(c.step or 0 for c in result.checks) == 2
    assert "the run ended with step 2, which changed what is tied" in result.notes


def test_a_float32_run_does_not_repeat_it():
    plan, (step,) = steps_of(linear_pair(torch={"copies": 2}))
    assert len(tie_checks(plan, step, "float64")) == 1
    assert tie_checks(plan, step, "float32") == []
    assert tie_checks(plan, replace(step, follower=replace(step.follower, before=state(AB))), "float64")
