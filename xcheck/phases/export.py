"""The export phase: both sides written to ONNX by every route they have, and every file told from its model."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from ..errors import UserCodeError
from ..onnx.run import exported, exported_apart
from ..onnx.summary import duplicated, export_notes, tables
from ..pairs.batches import batches_of
from ..records.result import Check, Verdict
from .checks.export import export_checks
from .findings import Findings
from .phase import Run


def compare_exports(run: Run) -> None:
    """Both sides in float32, every file against its model; where the models agree, from one state and side by side."""
    findings, sides, plan = run.findings, run.sides, run.plan
    sides.progress("exporting both sides")
    why = _apart(findings)
    both = (plan.reference, plan.follower)
    with ExitStack() as stack:
        truths = [stack.enter_context(sides.open(side)) for side in (both if why else both[:1])]
        own, other = (stack.enter_context(sides.open(side, "float32")) for side in both)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(findings.timed("export"))
        batch = next(batches_of(findings.pair, findings.seed, 1))
        try:
            if why:
                found = exported_apart(truths, (own, other), batch, folder, findings.seed, why)
            else:
                found = exported(truths[0], own, other, plan, batch, folder, findings.seed)
        except UserCodeError as error:  # such as a model that runs in training alone
            findings.checks.append(_not_made(error))
            return
        checks = export_checks(found, plan.reference, findings.ties)
        findings.checks += checks
        if any(c.verdict in (Verdict.DIFFERENT, Verdict.NUMERIC) for c in checks):
            findings.causes += run.explanations.files(found, {own.side: own, other.side: other})
        findings.exports += tables(found)
        findings.ties = duplicated(findings.ties, found)
        findings.notes += export_notes(found)


def _apart(findings: Findings) -> str:
    """Why what one side computes says nothing of the other's export; empty where it does."""
    for c in findings.checks:
        if c.phase == "forward" and c.verdict is Verdict.DIFFERENT and "(training)" not in c.name:
            return f"the models themselves part in {c.name} at step {c.step}"
    return ""


def _not_made(error: UserCodeError) -> Check:
    told = " ".join(f"{error.what} {error.parts['cause'] or ''}".split())
    return Check("export", None, None, "export", None, None, Verdict.INCONCLUSIVE, detail=f"not made: {told}")
