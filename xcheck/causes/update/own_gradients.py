"""Causes in the update where the gradients differ by something that is accepted: each side by its own gradients."""

from __future__ import annotations

from ...phases.phase import Live
from ...records.isolated_hypotheses import isolated, nothing
from ...records.result import Verdict
from ...stepping.lockstep import StepPair
from .optimizer import update_causes


@isolated(nothing)
def explain_own_updates(live: Live, step: StepPair) -> None:
    """Look for what differs between the optimizers themselves; only what is confirmed is a cause here.

    Args:
        live: both sides; what is found is added to their findings.
        step: the last one that was compared.
    """
    findings, plan = live.findings, live.plan
    apart = any((c.phase, c.step, c.verdict) == ("update", step.number, Verdict.DIFFERENT) for c in findings.checks)
    if apart and not any(cause.phase == "update" for cause in findings.causes):
        environments = findings.environment["torch"], findings.environment["keras"]
        found = update_causes(plan, step.reference.record, step.follower, *environments)
        findings.causes += [cause for cause in found if cause.confirmed]
