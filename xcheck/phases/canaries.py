"""Phases that cannot be judged because an interception of a framework that they need does not work here."""

from __future__ import annotations

from collections.abc import Sequence

from ..frameworks.canary import Outcome
from ..records.result import Check, Verdict
from . import NEEDS
from .findings import Findings


def skip_broken(findings: Findings, outcomes: Sequence[Outcome]) -> bool:
    """Remove the phases that need a broken interception, and add an INCONCLUSIVE check with the reason for each.

    Args:
        findings: of a run that begins.
        outcomes: of the canaries of its sides.

    Returns:
        Whether any phase remains.
    """
    skipped: set[str] = set()
    for phase in NEEDS:  # in order: what a phase needs comes before it
        broken = [o for o in outcomes if o.reason is not None and phase in o.phases]
        if not broken and not skipped & set(NEEDS[phase]):
            continue
        skipped.add(phase)
        if phase in findings.phases:
            findings.checks += [_broken_check(phase, o) for o in broken] or [
                _dependent_check(phase, skipped & set(NEEDS[phase]))
            ]
    findings.phases = tuple(phase for phase in findings.phases if phase not in skipped)
    return bool(findings.phases)


def _broken_check(phase: str, outcome: Outcome) -> Check:
    name = f"canary: {outcome.name}, {outcome.framework}"
    detail = f"not judged, since xcheck cannot observe {outcome.framework}: {outcome.reason}; see xcheck doctor"
    return Check(phase, None, None, name, None, None, Verdict.INCONCLUSIVE, detail=detail)


def _dependent_check(phase: str, needed: set[str]) -> Check:
    detail = f"not judged, since {', '.join(sorted(needed))} is not judged, which it depends on"
    return Check(phase, None, None, phase, None, None, Verdict.INCONCLUSIVE, detail=detail)
