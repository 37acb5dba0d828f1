"""The steps of both sides: each is compared phase by phase, and its differences explained, before the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Protocol

from ..pairs.batches import batches_of
from ..records.result import Check, Verdict
from ..stepping.lockstep import StepPair, in_float32, resynced
from . import chosen
from .accepting import accept_step, leave_out, leave_update_open
from .averages import average_notes, overwriting
from .checks.unused import excused
from .dropping import Dropping
from .finite import within_range, without_nonfinite
from .later import LaterSteps
from .one_sided_slots import SeparateSlots, accumulated, not_applied
from .ordinary import Ordinary
from .persistence import compare_configs
from .phase import Live, Run
from .reach import AFTER, MadeBatchSteps
from .repeats import repeat_checks, trusted
from .schedules import schedule_checks
from .steps import Untouched, compare_step, end_notes, timed


def steps_in_float64(live: Live) -> None:
    """Make and judge the steps of a run, then those at weights of ordinary size and on made batches."""
    findings, plan = live.findings, live.plan
    untouched, separate_slots, number, overflow_notes = Untouched(live), SeparateSlots(live), 0, list[str]()
    seed, by_effect = findings.seed, findings.by_effect
    steps = resynced(live.reference.steps, live.follower, plan, seed=seed, by_effect=by_effect)
    steps = timed(findings, steps, "float64", findings.steps)
    for step in within_range(chain(steps, timed(findings, untouched.further())), "float64", overflow_notes):
        number = step.number
        compare(live, step, "float64")
        findings.notes += [note for note in average_notes(plan, step) if note not in findings.notes]
        findings.checks += overwriting(plan, step, findings.environment) if "update" in findings.phases else []
        untouched.after(step)
        findings.count_step(number)
        findings.checks = not_applied(live, step)
        explain(live, step)
        if final_checks := accumulated(live, number):
            findings.checks += final_checks
            return
        separate_slots.after(step)
        del step
    ended = bool(overflow_notes or findings.pace.left_out)
    findings.notes += overflow_notes + end_notes(findings, plan, findings.steps if ended else number)
    separate_slots.judge(number)
    untouched.judge()
    findings.checks += schedule_checks(live) if "update" in findings.phases else []
    leave_out(findings)
    if untouched.batch is not None and not overflow_notes:
        made_batches = MadeBatchSteps(live, number + AFTER, untouched.batch)
        judge_further(Ordinary(live, number + 1, untouched.batch))
        judge_further(made_batches)
        judge_further(Dropping(live, made_batches.number, untouched.batch), explain_dropping)
        judge_further(LaterSteps(live, made_batches, made_batches.number + 1, untouched.batch))
    if {"update", "state"} <= {*findings.phases} and "persistence" not in findings.phases:
        compare_configs(live)


def steps_in_float32(run: Run) -> None:
    """Make and judge the steps of both sides in float32, against the reference in float64."""
    findings, sides, plan = run.findings, run.sides, run.plan
    with (
        sides.open(plan.reference) as truth,
        sides.open(plan.reference, "float32") as reference,
        sides.open(plan.follower, "float32") as follower,
    ):
        batches = batches_of(findings.pair, findings.seed, findings.steps)
        seed, by_effect = findings.seed, findings.by_effect
        steps = in_float32(truth, reference, follower, plan, batches, seed=seed, by_effect=by_effect)
        steps = timed(findings, steps, "float32", findings.steps)
        for step in within_range(steps, "float32", findings.notes):
            compare(run, step, "float32")


Explains = Callable[[Live, StepPair], None]


class Further(Protocol):
    """Steps after those of a run, which count only if they decide something.

    Attributes:
        live: both sides.
        once: the first one that counts is the last.
    """

    live: Live
    once: bool

    def steps(self) -> Iterator[StepPair]:
        """The steps; each is compared before the next one is made."""
        ...

    def counted_checks(self, step: StepPair, checks: Sequence[Check]) -> list[Check] | None:
        """The checks of a step that count; None where the step does not."""
        ...


def compare(run: Live | Run, step: StepPair, precision: str) -> None:
    """Add the checks of a step.

    Args:
        run: its findings are filled in.
        step: of both sides.
        precision: "float64" or "float32".
    """
    findings = run.findings
    before = len(findings.checks)
    for phase in chosen(findings):
        if phase.compare is not None:
            step, checks = compare_step(findings, phase, run.plan, step, precision)
            run.explanations.float32(findings, step, checks)
            findings.checks += excused(checks, findings.unused)
    findings.checks[before:] = trusted(step, without_nonfinite(findings.checks[before:], step, precision))
    leave_out(findings, before)
    findings.checks += repeat_checks(step)


def explain(live: Live, step: StepPair) -> None:
    """Find the causes of the differences in the last compared step, and remove those that are accepted."""
    if any(c.verdict is Verdict.DIFFERENT and c.step == step.number for c in live.findings.checks):
        live.progress(f"explaining the differences of step {step.number}")
    live.explanations.step(live, step)
    if accept_step(live, step, chosen(live.findings)):
        live.explanations.own_updates(live, step)
        leave_update_open(live, step, chosen(live.findings))


def explain_dropping(live: Live, step: StepPair) -> None:
    """Find the cause of different dropouts; if only updates differ, remove what is accepted from them."""
    different = {c.phase for c in live.findings.checks if c.verdict is Verdict.DIFFERENT and c.step == step.number}
    only_updates = different == {"update"} and live.findings.accepted
    (explain if only_updates else live.explanations.dropout)(live, step)


def judge_further(further: Further, explains: Explains = explain) -> None:
    """Compare further steps, and keep and explain the checks that count.

    Args:
        further: makes them.
        explains: adds the causes of the differences of a step.
    """
    live = further.live
    findings = live.findings
    for step in timed(findings, further.steps()):
        before, causes = len(findings.checks), list(findings.causes)
        compare(live, step, "float64")
        counted = further.counted_checks(step, findings.checks[before:])
        findings.checks[before:] = counted or ()
        if counted is None:
            findings.causes = causes
            continue
        explains(live, step)
        if further.once:
            return
