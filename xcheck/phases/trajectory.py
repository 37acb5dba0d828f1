"""The trajectory phase: both sides from one state, never re-synced, against the envelope of the reference's twins."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import replace

from ..numerics.tolerance import TWINS
from ..pairs.batches import batches_of
from ..records.result import Check, Verdict
from ..records.sides import SideName
from ..stepping.free_run import FreeRun, free_running, in_turns
from .checks.step import trajectory_checks
from .findings import Findings
from .finite import within_range
from .phase import Run
from .steps import timed
from .trajectory_bounds import Envelope, diverged

FREE_STEPS = 20
"""Steps of the free run by default."""

FLOAT32_CONSTANT = "float32_constant"
"""The cause for float32 numbers, which make every free run diverge."""

FLOAT32_OPERATION = "float32_operation"
"""The cause for an operation that exists only in float32."""

ACCEPTED_GOVERNS = "no free run was made: an accepted difference changes every parameter and would dominate it"

OPERATION_GOVERNS = "no free run was made: an operation that exists only in float32 would dominate it"


def free_run(run: Run) -> None:
    """Make and judge the free run, unless it is disabled or float32 numbers would dominate it."""
    findings, plan, sides = run.findings, run.plan, run.sides
    if run.free_steps == 0:
        return
    if any(cause.id == FLOAT32_CONSTANT for cause in findings.causes):
        findings.checks.append(_skipped_check())
        return
    if any(cause.id == FLOAT32_OPERATION for cause in findings.causes):
        findings.notes.append(OPERATION_GOVERNS)
        return
    accepted = _accepted_names(findings)
    judged = replace(plan, matches=tuple(m for m in plan.matches if m.name(plan.reference) not in accepted))
    if accepted and not any(m.trainable for m in judged.parameters):
        findings.notes.append(ACCEPTED_GOVERNS)
        return
    steps = FREE_STEPS if run.free_steps is None else run.free_steps
    envelope = Envelope()
    with ExitStack() as stack:
        reference, *twins = _several(run, stack, plan.reference, 1 + TWINS)
        follower = stack.enter_context(sides.open(plan.follower))
        fewer = run.free_steps is None
        batches = batches_of(findings.pair, findings.seed, steps, option="--free-steps", fewer=fewer)
        synced = {path for m in plan.matches if m not in judged.matches for path in m.piece(plan.follower).paths}
        free_steps = free_running(
            reference, twins, follower, plan, batches, precision="float64", seed=findings.seed, synced=synced
        )
        for step in within_range(timed(findings, free_steps, "free run", steps), "float64", findings.notes):
            if (checks := trajectory_checks(judged, step, "float64", envelope)) is None:
                findings.notes.append(diverged(step.number - 1, steps))
                return
            findings.checks += checks


def _accepted_names(findings: Findings) -> set[str]:
    """Names, on the reference, of parameters and buffers that an accepted difference changes."""
    names = {name for phase, name in findings.excluded if phase in ("gradient", "update", "state")}
    return {re.sub(r" \[\w+\]$| via .*$", "", name) for name in names}


def _several(run: Run, stack: ExitStack, side: SideName, count: int) -> list[FreeRun]:
    """Runs of one side, built in the same way; if memory is scarce they take turns in one model."""
    if run.sides.store.on_disk:
        return in_turns(stack.enter_context(run.sides.open(side)), count)
    return [stack.enter_context(run.sides.open(side)) for _ in range(count)]


def _skipped_check() -> Check:
    detail = (
        "skipped: float32 constants make the free run diverge; create them in the float type of the model, or skip "
        "the free run with --free-steps 0"
    )
    return Check("trajectory", "float64", None, "free run", None, None, Verdict.INCONCLUSIVE, detail=detail)
