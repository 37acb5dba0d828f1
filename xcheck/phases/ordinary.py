"""One more re-synced step, at weights of ordinary size: what the weights that training starts from hide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import UserCodeError
from ..frameworks.protocol import Runner
from ..numerics.ordinary_weights import ordinary_slots, ordinary_weights
from ..numerics.tolerance import WIDE
from ..pairs.pair import Batch
from ..records.result import AT_ORDINARY, Check, Verdict
from ..records.trace import State
from ..stepping.lockstep import StepPair, reference_steps, resynced
from .phase import Live
from .repeats import REPEATABILITY

SCALES = (1.0, 0.5, 0.25)
"""Of the weights, one after the other, until a step stays finite and rounding is not multiplied."""

NOT_CARRIED = "a state that training changes has no counterpart to start from"

BEFORE_THE_UPDATE = ("forward", "loss", "gradient")
"""Phases of a step up to its gradients."""


@dataclass
class Ordinary:
    """The further step of a run.

    Args:
        live: both sides, in any state; the step leaves them where it ends.
        number: of the step.
        batch: to train on.

    Attributes:
        before: the checks of the run until then.
    """

    live: Live
    number: int
    batch: Batch
    once: bool = True
    before: Sequence[Check] = field(init=False)

    def __post_init__(self) -> None:
        self.before = tuple(self.live.findings.checks)

    def steps(self) -> Iterator[StepPair]:
        """The step, again and again at smaller weights; nothing, with a note, where it cannot be made."""
        live = self.live
        runner, plan = live.reference.runner, live.plan
        if any(c.verdict is Verdict.DIFFERENT for c in self.before):
            return  # which these weights would only show again
        if any(c.name.startswith(REPEATABILITY) for c in self.before):
            self.leave_out("a step does not repeat")
        elif any(map(uncarried, self.before)):
            self.leave_out(NOT_CARRIED)
        elif runner is None:
            self.leave_out("the reference is a recording")
        elif plan.doubts:
            self.leave_out("which parameter is which is open")
        else:
            try:
                yield from self._tried(runner)
                self.leave_out("from there, steps of the reference overflow or multiply rounding errors")
            except UserCodeError as error:
                self.leave_out(str(error).splitlines()[0])

    def _tried(self, runner: Runner) -> Iterator[StepPair]:
        live, now = self.live, runner.read()
        for scale in SCALES:
            runner.write(self._drawn(runner, now, scale))
            seed, batches = live.findings.seed, [self.batch]
            made = reference_steps(runner, batches, precision="float64", seed=seed, first=self.number)
            yield from resynced(made, live.follower, live.plan, seed=seed, by_effect=live.findings.by_effect)

    def _drawn(self, runner: Runner, now: State, scale: float) -> State:
        """The initial state, with what both sides have drawn anew."""
        live, initial = self.live, self.live.reference.initial
        side, seed = live.plan.reference, live.findings.seed
        matched = {path for m in live.plan.matches for path in m.piece(side).paths} - {*live.plan.unmatched(side)}
        values = {path: value for path, value in initial.values().items() if path in matched}
        drawn = ordinary_weights(runner.inventory().entries, values, side, seed, scale)
        parameters, buffers = (
            {**of, **{p: drawn[p] for p in of if p in drawn}} for of in (initial.parameters, initial.buffers)
        )
        # What each side keeps in a form of its own goes on from where the last step has left it.
        slots = now.slots if live.findings.by_effect else ordinary_slots(now.slots, parameters, seed)
        return State(parameters, buffers, slots, now.updates)

    def taken(self, step: StepPair, checks: Sequence[Check]) -> list[Check] | None:
        """What a step at these weights says; None where smaller weights are to be tried.

        What it leaves undecided says nothing against the port: training does not start from these weights.

        Args:
            step: of both sides.
            checks: of it.
        """
        wide = (c for c in checks if c.phase in BEFORE_THE_UPDATE and not c.of_use and (c.allowed or 0.0) > WIDE)
        if not finite(step) or any(wide):
            return None
        kept = [c for c in checks if c.verdict in (Verdict.EQUIVALENT, Verdict.DIFFERENT)]
        return [replace(c, detail="; ".join(filter(None, (AT_ORDINARY, c.detail)))) for c in kept]

    def leave_out(self, why: str) -> None:
        """Say that there is no such step."""
        self.live.findings.notes.append(f"not covered: weights of ordinary size ({why})")


def uncarried(check: Check) -> bool:
    """Whether a check says that a state which training changes is not carried over to the other side."""
    return check.phase == "state" and check.verdict is Verdict.INCONCLUSIVE


def finite(step: StepPair) -> bool:
    """Whether all that the reference's step computed is finite."""
    record = step.reference.record
    arrays = (*record.inference.values(), *record.outputs.values(), *record.losses.values(), *record.gradients.values())
    arrays += (*record.after.parameters.values(), *record.after.buffers.values())
    return all(np.isfinite(a).all() for a in arrays if a is not None and a.dtype.kind == "f")
