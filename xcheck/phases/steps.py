"""Training steps of both sides from one state: comparison of their records, phase by phase, and the end of a run."""

from __future__ import annotations

from collections.abc import Iterator

from ..matching import MatchPlan
from ..pairs.pair import Batch
from ..records.result import Check, Verdict
from ..records.trace import AT_INFERENCE, DROPOUT_RATES
from ..stepping.lockstep import StepPair
from .checks.step import uncalled
from .checks.unused import zero_gradients
from .checks.uses import unsplit
from .findings import Findings
from .phase import Live, Phase
from .ties.groups import used
from .unused import further_step, judge_unused


def timed(findings: Findings, steps: Iterator[StepPair], what: str = "", total: int = 0) -> Iterator[StepPair]:
    """The steps until the budget is spent; the time of each is counted as training.

    Args:
        findings: of the run.
        steps: of both sides.
        what: they are steps of, for the display.
        total: their number at most; 0 if it is unknown, or the budget is not asked.
    """
    pace, number = findings.pace, 0
    begun = pace.clock()
    while True:
        if number < total:
            pace.step(what, number + 1, total, begun)
        with findings.timed("train"):
            step = next(steps, None)
        if step is None:
            return
        yield step
        del step  # it holds many copies of all parameters: free them before the next step
        number += 1
        if number < total and not pace.allows(f"{what} from step {number + 1} on"):
            return


def compare_step(
    findings: Findings, phase: Phase, plan: MatchPlan, step: StepPair, precision: str
) -> tuple[StepPair, list[Check]]:
    """The checks of one phase of one step; a difference in float64 is judged again with float32 numbers moved.

    Returns:
        The step, with `moved` if it was needed, and the checks.
    """
    assert phase.compare is not None
    with findings.timed("compare"):
        checks = phase.compare(plan, step, precision)
        if precision == "float64" and not step.moved and any(c.verdict is Verdict.DIFFERENT for c in checks):
            step = step.with_float32_moved(plan)
            uses = [c for c in checks if c.of_use]
            checks = phase.compare(plan, step, precision) if step.moved else checks
            if step.moved and any(c.verdict is Verdict.DIFFERENT for c in checks):
                checks += uses  # float32 numbers do not explain the difference: its uses locate it
        return step, checks


class Untouched:
    """Parameters that no step so far gave a gradient; they are judged by effect after the steps."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.paths = {m.name(live.plan.reference) for m in live.plan.trained}
        self.number = 0
        self.batch: Batch | None = None

    def further(self) -> Iterator[StepPair]:
        """A second step after a run of one step, if some gradients are zero."""
        live = self.live
        return further_step(live.findings, live.plan, live.reference.runner, live.follower, self.paths)

    def after(self, step: StepPair) -> None:
        """Note the gradients of a step, those that could not be split, and how often ties are used."""
        findings, plan = self.live.findings, self.live.plan
        self.paths &= zero_gradients(plan, step)
        self.number, self.batch = step.number, step.reference.batch
        if "gradient" in findings.phases:
            findings.notes += unsplit(plan, step)
            if step.number == 1:
                findings.notes += uncalled(plan, step)
                findings.ties = used(findings.ties, plan, step.reference.record, step.follower)

    def judge(self) -> None:
        """Judge parameters without a compared gradient by their effect."""
        live = self.live
        if "gradient" in live.findings.phases and self.batch is not None:
            where = self.number, self.batch, live.reference.runner, live.follower
            judge_unused(live.findings, live.plan, self.paths, *where)


def end_notes(findings: Findings, plan: MatchPlan, steps: int) -> list[str]:
    """Notes on the steps, after the last one."""
    notes: list[str] = []
    if steps < findings.steps:
        notes.append(f"the run ended with step {steps}, which changed what is tied")
    if any(c.name in (DROPOUT_RATES, AT_INFERENCE) for c in findings.checks):
        notes.append("dropout is switched off on both sides, and its rates are compared")
    if "gradient" in findings.phases and not any(m.trainable for m in plan.parameters):
        notes.append("no gradient was compared: nothing is trainable on either side")
    return notes


def skipped_phase(phase: str) -> Check:
    """The check of a phase that examines each side by itself and was not run."""
    detail = "skipped: some parameters are unmatched; complete weight_map first"
    return Check(phase, None, None, phase, None, None, Verdict.INCONCLUSIVE, detail=detail)
