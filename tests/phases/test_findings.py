"""What a run has found, at any time."""

import pytest
from fakes import linear_pair, plan_of

from xcheck.errors import BatchError, InternalError, result_of
from xcheck.pairs.pair import Expectation, waive
from xcheck.phases.findings import Findings, _wide_allowances, first_divergence, in_order
from xcheck.records.result import Cause, Check, Verdict

SAME = Check("forward", "float64", 1, "output", "output", "output", Verdict.EQUIVALENT, 0.0, 1e-15)
LOST = Check("gradient", "float64", 1, "w", "w", "k", Verdict.INCONCLUSIVE)
WRONG = Check("update", "float64", 2, "w", "w", "k", Verdict.DIFFERENT, 1e-3, 1e-15)


def findings(*checks: Check, complete: bool = True, **pair) -> Findings:
    return Findings(linear_pair(**pair), 3, 5, ("forward", "update"), complete, checks=list(checks))


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [
        ([], "INCONCLUSIVE"),
        ([SAME], "EQUIVALENT"),
        ([SAME, LOST, SAME], "INCONCLUSIVE"),
        ([LOST, WRONG, SAME], "DIFFERENT"),
    ],
)
def test_the_verdict_is_the_worst_of_the_checks(checks, verdict):
    result = findings(*checks).result()
    assert result.verdict == verdict
    assert (result.pair, result.seed, result.steps, result.failure) == ("linear", 3, 5, None)


def test_a_run_that_failed_is_inconclusive_at_best_and_keeps_a_difference():
    assert findings(SAME).result(failure="it broke").verdict == "INCONCLUSIVE"
    assert findings(SAME, WRONG).result(failure="it broke").verdict == "DIFFERENT"
    assert findings().result(failure="it broke").failure == "it broke"


def test_the_first_divergence_is_the_first_difference_and_no_inconclusive_check():
    later = Check("state", "float64", 2, "b", "b", "m", Verdict.DIFFERENT)
    found = first_divergence([SAME, LOST, WRONG, later])
    assert (found.phase, found.step, found.name, found.torch, found.keras) == ("update", 2, "w", "w", "k")
    assert (found.local_error, found.allowed) == (1e-3, 1e-15)
    assert first_divergence([SAME, LOST]) is None


def test_a_mistake_of_the_user_carries_what_was_found_before_it():
    made = findings(SAME, WRONG)
    with pytest.raises(BatchError) as caught, made.reporting():
        raise BatchError("No more data.", where="batch 3")
    assert caught.value.result.checks == (SAME, WRONG)
    assert caught.value.result.failure == "No more data.\n  where:   batch 3"


def test_a_bug_of_xcheck_is_no_mistake_of_the_user():
    with pytest.raises(InternalError) as caught, findings().reporting():
        raise InternalError("bug")
    found = result_of(caught.value)  # and still loses nothing of what was found
    assert found is not None
    assert "bug in xcheck" in (found.failure or "")


def test_the_seconds_of_a_stage_add_up_even_if_it_fails(monkeypatch):
    clock = iter([0.0, 1.0, 10.0, 12.0, 20.0, 23.0])
    monkeypatch.setattr("xcheck.phases.findings.time.perf_counter", lambda: next(clock))
    made = findings()
    with made.timed("train"):
        pass
    with made.timed("compare"):
        pass
    with pytest.raises(ValueError, match="stop"), made.timed("train"):
        raise ValueError("stop")
    assert made.timings == {"train": 4.0, "compare": 2.0}


def test_a_plan_is_counted_and_its_waivers_are_repeated():
    pair = linear_pair(weight_map={"linear.weight": "dense/kernel", "linear.bias": waive("not ported")})
    made = findings()
    made.matched(plan_of(pair))
    assert made.coverage == {"parameters": {"matched": 1, "waived": 1, "unmatched": 1}}
    assert made.notes == ["waived: linear.bias (not ported)"]


def test_a_step_counts_what_was_measured_and_what_was_not():
    made = findings(SAME, SAME, LOST, WRONG)
    made.count_step(1)
    assert made.coverage["outputs"] == {"compared": 2, "missing": 0}
    assert made.coverage["gradients"] == {"compared": 0, "missing": 1}
    made.count_step(2)  # nothing of these phases there
    assert made.coverage["outputs"] == {"compared": 2, "missing": 0}


def test_notes_are_given_once_and_a_choice_of_phases_is_noted():
    made = findings(SAME, complete=False)
    made.notes += ["slow", "slow", "cold"]
    assert made.result().notes == ("slow", "cold", "only these phases were requested: forward, update")
    assert findings(SAME).result().notes == ()


@pytest.mark.parametrize(
    ("expect", "checks", "why"),
    [
        (Expectation(Verdict.DIFFERENT), [WRONG], ""),
        (Expectation(Verdict.DIFFERENT, "update"), [LOST, WRONG], ""),
        (Expectation(Verdict.DIFFERENT, "update", "adam_epsilon"), [WRONG], ""),
        (Expectation(Verdict.EQUIVALENT), [SAME], ""),
        (Expectation(Verdict.DIFFERENT), [SAME], "expected DIFFERENT, got EQUIVALENT"),
        (Expectation(Verdict.DIFFERENT, "loss"), [WRONG], "the first difference in loss, found it in update"),
        (Expectation(Verdict.INCONCLUSIVE, "loss"), [LOST], "the first difference in loss, found it in no phase"),
        (Expectation(Verdict.DIFFERENT, None, "padding"), [WRONG], "cause padding, found adam_epsilon"),
    ],
)
def test_an_expectation_holds_or_says_why_not(expect, checks, why):
    made = findings(*checks, expect=expect)
    made.causes.append(Cause("adam_epsilon", "update", "w", "k", "epsilon"))
    result = made.result()
    assert result.expected == expect.verdict
    assert result.expectation["held"] is (not why)
    assert why in result.expectation["why"]


@pytest.mark.parametrize(("confirmed", "held"), [(True, False), (False, True)])
def test_an_expected_cause_holds_only_without_another_that_is_confirmed(confirmed, held):
    made = findings(WRONG, expect=Expectation(Verdict.DIFFERENT, None, "adam_epsilon"))
    made.causes += [
        Cause(name, "update", "w", "k", "", confirmed=True) for name in ("adam_epsilon", "float32_constant")
    ]
    made.causes.append(Cause("weight_decay", "update", "w", "k", "", confirmed=confirmed))
    expectation = made.result().expectation
    assert expectation["held"] is held
    assert ("the run also confirms weight_decay, not only adam_epsilon" in expectation["why"]) is not held


def test_everything_that_did_not_hold_is_said():
    expect = Expectation(Verdict.DIFFERENT, "loss", "padding")
    why = findings(SAME, expect=expect).result().expectation["why"]
    assert why.count("expected") == 3
    assert "found none" in why


def test_a_pair_that_expects_nothing_has_no_expectation():
    result = findings(SAME).result()
    assert (result.expected, result.expectation) == (None, None)


def test_a_run_passes_only_as_long_as_every_check_does():
    assert findings(SAME, SAME).passes()
    assert not findings(SAME, LOST).passes()
    assert not findings(SAME, WRONG).passes()


def test_an_allowance_above_one_in_a_million_is_said_with_the_widest_of_its_phase():
    def check(phase: str, allowed: float, metric: str | None = "norm", precision: str | None = "float64") -> Check:
        return Check(phase, precision, 3, "w", "w", "w", Verdict.EQUIVALENT, error=0.0, allowed=allowed, metric=metric)

    checks = [check("update", 2e-6), check("update", 3e-4), check("update", 1e-5), check("loss", 9e-7)]
    checks += [check("initialization", 0.5, "distribution", None), check("gradient", 17.0, precision="float32")]
    (note,) = _wide_allowances(checks)
    assert note.startswith("rounding can change w by 3.0e-04 of its size in update, step 3")


def test_causes_stand_in_dataflow_order_and_observations_behind_them() -> None:
    def cause(id: str, phase: str) -> Cause:
        return Cause(id=id, phase=phase, torch=None, keras=None, summary="", evidence={}, confirmed=True, fix="")

    causes = [
        cause("same_random_stream", "initialization"),
        cause("biased_variance", "state"),
        cause("momentum", "state"),
        cause("epsilon", "forward"),
    ]
    different = [Check(phase, "float64", 1, "x", None, None, Verdict.DIFFERENT) for phase in ("state", "forward")]
    found = [c.id for c in in_order(causes, different)]
    assert found == ["epsilon", "momentum", "biased_variance", "same_random_stream"]
    shown = Check("initialization", "float64", None, "x", None, None, Verdict.DIFFERENT)
    assert in_order(causes, [*different, shown])[0].id == "same_random_stream"
    assert in_order(causes[:1], [])[0].id == "same_random_stream"
