"""One step of both sides: compared phase by phase, explained where it differs, and what is accepted taken out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from ..matching import MatchPlan
from ..phases import chosen
from ..phases.accepting import accept_step, leave_out, leave_update_open
from ..phases.checks.unused import excused
from ..phases.findings import Findings
from ..phases.finite import settled
from ..phases.phase import Live
from ..phases.repeats import repeat_checks, trusted
from ..phases.steps import compare_step, timed
from ..records.result import Check
from ..stepping.lockstep import StepPair
from .explain import explain_float32, explain_step
from .update.own_gradients import explain_own_updates


class Further(Protocol):
    """Steps after those of a run, which count only where they say something.

    Attributes:
        live: both sides.
        once: the first one that counts is the last.
    """

    live: Live
    once: bool

    def steps(self) -> Iterator[StepPair]:
        """The steps, each compared before the next one is made."""
        ...

    def taken(self, step: StepPair, checks: Sequence[Check]) -> list[Check] | None:
        """What is kept of the checks of a step; None where it does not count."""
        ...


def compare(findings: Findings, plan: MatchPlan, step: StepPair, precision: str) -> None:
    """Add the checks of a step.

    Args:
        findings: filled in.
        plan: of the run.
        step: of both sides.
        precision: "float64" or "float32".
    """
    before = len(findings.checks)
    for phase in chosen(findings):
        if phase.compare is not None:
            step, checks = compare_step(findings, phase, plan, step, precision)
            explain_float32(findings, step, checks)
            findings.checks += excused(checks, findings.unused)
    findings.checks[before:] = trusted(step, settled(findings.checks[before:], step, precision))
    leave_out(findings, before)
    findings.checks += repeat_checks(step)


def explain(live: Live, step: StepPair) -> None:
    """Look for the causes of what differs in the step that was compared last, and take out what is accepted."""
    explain_step(live, step)
    if accept_step(live, step, chosen(live.findings)):
        explain_own_updates(live, step)
        leave_update_open(live, step, chosen(live.findings))


def judge_further(further: Further) -> None:
    """Compare further steps, and keep and explain what counts of them."""
    live = further.live
    findings = live.findings
    for step in timed(findings, further.steps()):
        before, causes = len(findings.checks), list(findings.causes)
        compare(findings, live.plan, step, "float64")
        taken = further.taken(step, findings.checks[before:])
        findings.checks[before:] = taken or ()
        if taken is None:
            findings.causes = causes
            continue
        explain(live, step)
        if further.once:
            return
