"""The export phase: both sides are exported to ONNX by all their routes, and each file is compared with its model."""

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
    """Compare every float32 export with its model; where the models agree, also both sides from one state."""
    findings, sides, plan = run.findings, run.sides, run.plan
    sides.progress("exporting both sides")
    separate_reason = _why_separate(findings)
    both = (plan.reference, plan.follower)
    with ExitStack() as stack:
        truths = [stack.enter_context(sides.open(side)) for side in (both if separate_reason else both[:1])]
        reference, follower = (stack.enter_context(sides.open(side, "float32")) for side in both)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(findings.timed("export"))
        batch = next(batches_of(findings.pair, findings.seed, 1))
        try:
            if separate_reason:
                exports = exported_apart(truths, (reference, follower), batch, folder, findings.seed, separate_reason)
            else:
                exports = exported(truths[0], reference, follower, plan, batch, folder, findings.seed)
        except UserCodeError as error:  # such as a model that only runs in training
            findings.checks.append(_not_exported(error))
            return
        checks = export_checks(exports, plan.reference, findings.ties)
        findings.checks += checks
        if any(c.verdict in (Verdict.DIFFERENT, Verdict.NUMERIC) for c in checks):
            findings.causes += run.explanations.files(exports, {reference.side: reference, follower.side: follower})
        findings.exports += tables(exports)
        findings.ties = duplicated(findings.ties, exports)
        findings.notes += export_notes(exports)


def _why_separate(findings: Findings) -> str:
    """Why one side's values cannot judge the other's export; empty where they can."""
    for c in findings.checks:
        if c.phase == "forward" and c.verdict is Verdict.DIFFERENT and "(training)" not in c.name:
            return f"the models themselves differ in {c.name} at step {c.step}"
    return ""


def _not_exported(error: UserCodeError) -> Check:
    message = " ".join(f"{error.what} {error.parts['cause'] or ''}".split())
    return Check("export", None, None, "export", None, None, Verdict.INCONCLUSIVE, detail=f"not made: {message}")
