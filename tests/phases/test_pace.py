"""The time of a run: what is shown of it, and what is left out where a budget is spent; with a clock that is moved."""

import importlib

import pytest
from fakes import linear_pair, scaled

import xcheck
from xcheck.errors import PairError
from xcheck.phases.pace import Pace, lasting

MADE = "batches made from the given ones"


class Clock:
    """A clock that stands until it is moved: by a test, or by ten seconds at each step or made batch that is shown."""

    def __init__(self) -> None:
        self.now = 0.0
        self.shown: list[str] = []

    def __call__(self) -> float:
        return self.now

    def show(self, activity: str) -> None:
        self.shown.append(activity)
        self.now += 10.0 if ": step" in activity or "given batch" in activity else 0.0


def checked(monkeypatch, budget, pair=None, **settings) -> tuple[xcheck.Result, list[str]]:
    """The result of a run whose steps take ten seconds each, and what was shown of it."""
    clock = Clock()
    monkeypatch.setattr(importlib.import_module("xcheck.check"), "Pace", lambda *given: Pace(*given, clock=clock))
    return xcheck.check(pair or linear_pair(), budget=budget, progress=clock.show, **settings), clock.shown


def test_without_a_budget_everything_may_begin():
    clock = Clock()
    pace = Pace(clock=clock)
    clock.now = 1e9
    assert pace.allows("float32")
    assert pace.left_out == []


def test_what_begins_after_the_budget_is_left_out_and_said_once():
    clock = Clock()
    pace = Pace(60.0, clock=clock)
    clock.now = 59.0
    assert pace.allows("float32")
    assert not pace.allows("made batches", 0.5)
    clock.now = 60.0
    assert not pace.allows("free run")
    assert not pace.allows("free run")
    assert pace.left_out == ["made batches", "free run"]
    assert pace.reason == "the budget of 60 s was spent"


@pytest.mark.parametrize("budget", [0.0, -1.0, float("inf"), float("nan")])
def test_what_is_no_time_is_refused(budget):
    with pytest.raises(PairError, match="A budget is a time"):
        Pace(budget)


def test_a_step_is_shown_with_the_time_that_those_before_it_took():
    clock, shown = Clock(), []
    pace = Pace(show=shown.append, clock=clock)
    pace.step("free run", 1, 20, 0.0)
    clock.now = 30.0
    pace.step("free run", 4, 20, 0.0)
    assert shown == ["free run: step 1 of 20", "free run: step 4 of 20, about 3 min left"]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h")]
)
def test_a_duration_is_in_the_unit_that_suits_it(seconds, words):
    assert lasting(seconds) == words


@pytest.mark.parametrize(
    ("budget", "left_out"),
    [
        (1, ["float64 from step 2 on", "weights of ordinary size", "float32", "phase trajectory"]),
        (11, ["float64 from step 3 on", "weights of ordinary size", "float32", "phase trajectory"]),
        (35, ["weights of ordinary size", MADE, "float32 from step 2 on", "phase trajectory"]),
        (75, [MADE, "free run from step 2 on"]),
        (1000, []),
    ],
)  # fmt: skip
def test_the_most_telling_checks_come_first_and_the_rest_is_said(monkeypatch, budget, left_out):
    result, _ = checked(monkeypatch, budget, steps=3)
    assert result.verdict == "EQUIVALENT"
    reason = f"the budget of {budget} s was spent"
    assert [line for line in result.not_covered if reason in line] == [f"{what}: {reason}" for what in left_out]
    assert [note for note in result.notes if reason in note] == [f"not covered: {what} ({reason})" for what in left_out]
    assert not any("tied" in note for note in result.notes)
    made = {(c.phase, c.precision, c.step) for c in result.checks}
    assert ("gradient", "float64", 1) in made
    assert ("update", "float64", 1) in made
    assert (("gradient", "float64", 3) in made) == ("float64 from" not in " ".join(left_out))
    assert (("gradient", "float32", 1) in made) == ("float32" not in left_out)
    assert (("trajectory", "float64", 1) in made) == ("phase trajectory" not in left_out)


def test_the_default_has_no_budget():
    result = xcheck.check(linear_pair(), steps=2)
    assert not any("budget" in line for line in (*result.notes, *result.not_covered))


def test_a_difference_within_the_budget_is_found(monkeypatch):
    pair = linear_pair(keras={"fault": scaled("gradients", "dense/bias", by=1 + 1e-9)})
    result, _ = checked(monkeypatch, 1, steps=3, pair=pair)
    assert result.verdict == "DIFFERENT"
    assert result.first_divergence is not None
    assert result.first_divergence.phase == "gradient"


def test_every_phase_with_steps_says_which_and_how_long(monkeypatch):
    _, shown = checked(monkeypatch, None, steps=3)
    assert "float64: step 1 of 3" in shown
    assert "float64: step 3 of 3, about 10 s left" in shown
    assert "float32: step 2 of 3, about 20 s left" in shown
    assert "free run: step 11 of 20, about 100 s left" in shown
    assert "a step at weights of ordinary size" in shown
    assert any(line.startswith("on the given batch ") for line in shown)
