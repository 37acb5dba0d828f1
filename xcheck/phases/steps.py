"""Training steps that both sides made from one state: their records, phase by phase, and what ends a run of steps."""

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


def timed(findings: Findings, steps: Iterator[StepPair]) -> Iterator[StepPair]:
    """The steps, each counted as time of training."""
    while True:
        with findings.timed("train"):
            step = next(steps, None)
        if step is None:
            return
        yield step
        del step  # many copies of all parameters, which must be gone before the next ones are made


def compare_step(
    findings: Findings, phase: Phase, plan: MatchPlan, step: StepPair, precision: str
) -> tuple[StepPair, list[Check]]:
    """The checks of one phase of one step; where it differs in float64, with the numbers of float32 moved as well.

    Returns:
        The step, with `moved` once it was needed, and the checks.
    """
    assert phase.compare is not None
    with findings.timed("compare"):
        found = phase.compare(plan, step, precision)
        if precision == "float64" and not step.moved and any(c.verdict is Verdict.DIFFERENT for c in found):
            step = step.with_float32_moved(plan)
            uses = [c for c in found if c.of_use]
            found = phase.compare(plan, step, precision) if step.moved else found
            if step.moved and any(c.verdict is Verdict.DIFFERENT for c in found):
                found += uses  # the difference is not that of float32 numbers: its uses say where it is
        return step, found


class Untouched:
    """Parameters that no step so far has given a gradient, and what is said of them in the end."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.paths = {m.name(live.plan.reference) for m in live.plan.trained}
        self.number = 0
        self.batch: Batch | None = None

    def further(self) -> Iterator[StepPair]:
        """A second step after a run of one, if it left gradients of zero."""
        live = self.live
        return further_step(live.findings, live.plan, live.reference.runner, live.follower, self.paths)

    def after(self, step: StepPair) -> None:
        """Note what a step touched, what of its gradients could not be split, and how often ties are used."""
        findings, plan = self.live.findings, self.live.plan
        self.paths &= zero_gradients(plan, step)
        self.number, self.batch = step.number, step.reference.batch
        if "gradient" in findings.phases:
            findings.notes += unsplit(plan, step)
            if step.number == 1:
                findings.notes += uncalled(plan, step)
                findings.ties = used(findings.ties, plan, step.reference.record, step.follower)

    def judge(self) -> None:
        """Judge by effect the parameters of which no gradient was compared."""
        live = self.live
        if "gradient" in live.findings.phases and self.batch is not None:
            where = self.number, self.batch, live.reference.runner, live.follower
            judge_unused(live.findings, live.plan, self.paths, *where)


def end_notes(findings: Findings, plan: MatchPlan, made: int) -> list[str]:
    """What a reader should know of the steps, once all are made."""
    notes: list[str] = []
    if made < findings.steps:
        notes.append(f"the run ended with step {made}, which changed what is tied")
    if any(c.name in (DROPOUT_RATES, AT_INFERENCE) for c in findings.checks):
        notes.append("dropout is switched off on both sides, and its rates are compared")
    if "gradient" in findings.phases and not any(m.trainable for m in plan.parameters):
        notes.append("no gradient was compared: nothing is trainable on either side")
    return notes


def not_asked(phase: str) -> Check:
    """A phase of each side by itself that was not run."""
    detail = "not made: with parameters unmatched it is not known what each side is made of"
    return Check(phase, None, None, phase, None, None, Verdict.INCONCLUSIVE, detail=detail)
