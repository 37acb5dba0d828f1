"""The modes phase: each side in all its modes against itself in eager mode."""

from __future__ import annotations

from contextlib import ExitStack

from ..pairs.batches import batches_of
from ..records.sides import SIDES
from ..stepping.lockstep import in_modes
from .checks.modes import mode_checks
from .phase import Run

MODE_STEPS = 2
"""Steps per mode: the second starts from slots that are not zero."""


def compare_modes(run: Run) -> None:
    """Compare modes in float64, and in float32 if float64 passes."""
    _compare_in(run, "float64")
    if run.float32 and run.findings.passes():
        _compare_in(run, "float32")


def _compare_in(run: Run, precision: str) -> None:
    findings, sides = run.findings, run.sides
    for side in SIDES:
        sides.progress(f"running the {side} side in other modes in {precision}")
        with ExitStack() as stack:
            runner = stack.enter_context(sides.open(side, precision))
            truth = stack.enter_context(sides.open(side)) if precision == "float32" else None
            stack.enter_context(findings.timed("modes"))
            batches = batches_of(findings.pair, findings.seed, min(MODE_STEPS, findings.steps))
            for step, records in in_modes(runner, batches, seed=findings.seed, truth=truth):
                findings.checks += mode_checks(side, step, records, precision)
