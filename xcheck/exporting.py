"""The export phase: both sides written to ONNX by every route they have, and every file told from its model."""

from __future__ import annotations

import tempfile
from pathlib import Path

from . import phases as phase
from .choose import Sides
from .export.explain import explained
from .export.run import exported
from .export.summary import duplicated, export_notes, tables
from .findings import Findings
from .lockstep import batches_of
from .matching import MatchPlan
from .result import Verdict


def export(findings: Findings, sides: Sides, plan: MatchPlan) -> None:
    """Both sides in float32 from one state, every file against its model, and the files against each other."""
    sides.progress("exporting both sides")
    batch = next(batches_of(findings.pair, findings.seed, 1))
    with (
        sides.open(plan.reference) as truth,
        sides.open(plan.reference, "float32") as own,
        sides.open(plan.follower, "float32") as other,
        tempfile.TemporaryDirectory() as folder,
        findings.timed("export"),
    ):
        found = exported(truth, own, other, plan, batch, Path(folder), findings.seed)
        checks = phase.export_checks(found, plan.reference, findings.ties)
        findings.checks += checks
        if any(c.verdict in (Verdict.DIFFERENT, Verdict.NUMERIC) for c in checks):
            findings.causes += explained(found, {own.side: own, other.side: other})
        findings.exports += tables(found)
        findings.ties = duplicated(findings.ties, found)
        findings.notes += export_notes(found)
