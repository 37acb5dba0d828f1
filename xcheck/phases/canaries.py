"""Phases that cannot be judged, since an interception of a framework that they need does not work here."""

from __future__ import annotations

from collections.abc import Sequence

from ..frameworks.canary import Outcome
from ..records.result import Check, Verdict
from . import NEEDS
from .findings import Findings


def sit_out(findings: Findings, outcomes: Sequence[Outcome]) -> bool:
    """Take out the phases that need what is broken, and make each INCONCLUSIVE with the reason.

    Args:
        findings: of a run that begins.
        outcomes: of the canaries of its sides.

    Returns:
        Whether a phase is left.
    """
    out: set[str] = set()
    for phase in NEEDS:  # in order: what a phase needs comes before it
        broken = [o for o in outcomes if o.reason is not None and phase in o.phases]
        if not broken and not out & set(NEEDS[phase]):
            continue
        out.add(phase)
        if phase in findings.phases:
            findings.checks += [_silent(phase, o) for o in broken] or [_without(phase, out & set(NEEDS[phase]))]
    findings.phases = tuple(phase for phase in findings.phases if phase not in out)
    return bool(findings.phases)


def _silent(phase: str, outcome: Outcome) -> Check:
    name = f"canary: {outcome.name}, {outcome.framework}"
    detail = f"not judged, since xcheck cannot watch {outcome.framework}: {outcome.reason}; see xcheck doctor"
    return Check(phase, None, None, name, None, None, Verdict.INCONCLUSIVE, detail=detail)


def _without(phase: str, needed: set[str]) -> Check:
    detail = f"not judged, since {', '.join(sorted(needed))} is not, which it rests on"
    return Check(phase, None, None, phase, None, None, Verdict.INCONCLUSIVE, detail=detail)
