"""What did not repeat, and what may follow from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from xcheck.records.repeats import Unrepeated, unrepeated
from xcheck.records.trace import State, StepRecord

STATE = State({"w": np.ones(2)}, {"m": np.ones(2)})
RECORD = StepRecord(2, STATE, STATE, {}, {"output": np.ones(2)}, {"total": np.ones(())}, {}, {"w": np.ones(2)})


def test_a_step_that_repeats_is_none() -> None:
    assert unrepeated("torch", RECORD, RECORD, []) is None


def test_the_first_phase_that_did_not_repeat_is_named() -> None:
    loss = replace(RECORD, losses={"total": np.zeros(())}, gradients={"w": np.zeros(2)})
    update = replace(RECORD, after=replace(STATE, parameters={"w": np.zeros(2)}))
    state = replace(RECORD, after=replace(STATE, buffers={"m": np.zeros(2)}))
    for other, phase in ((loss, "loss"), (update, "update"), (state, "state")):
        assert unrepeated("keras", RECORD, other, ["x"]) == Unrepeated("keras", 2, phase, ["x"])


def test_what_it_leaves_for_the_next_step_reaches_the_next_step_alone() -> None:
    left = unrepeated("torch", RECORD, RECORD, ["optimizer.param_groups[0]['lr']"])
    assert left is not None
    assert left.phase == ""
    assert not left.reaches(2, "update")
    assert not left.reaches(1, "update")
    assert left.reaches(3, "forward")


def test_only_what_comes_behind_the_phase_may_follow_from_it() -> None:
    found = Unrepeated("torch", 2, "gradient")
    assert [p for p in ("forward", "loss", "gradient", "update", "state") if found.reaches(2, p)] == [
        "gradient",
        "update",
        "state",
    ]
    assert found.reaches(3, "forward")
    assert not found.reaches(2, "persistence")
