"""One more re-synced step at weights of ordinary size; it shows differences that the initial weights hide."""

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
"""Scales of the weights, tried in order until a step stays finite and does not multiply rounding errors."""

NOT_CARRIED = "a state that training changes has no counterpart to start from"

BEFORE_THE_UPDATE = ("forward", "loss", "gradient")
"""The phases of a step up to its gradients."""


@dataclass
class Ordinary:
    """The further step of a run.

    Args:
        live: both sides, in any state; afterwards they have the state after the step.
        number: of the step.
        batch: to train on.

    Attributes:
        before: the checks of the run so far.
    """

    live: Live
    number: int
    batch: Batch
    once: bool = True
    before: Sequence[Check] = field(init=False)

    def __post_init__(self) -> None:
        self.before = tuple(self.live.findings.checks)

    def steps(self) -> Iterator[StepPair]:
        """The step, repeated at smaller weights; if it cannot be made, nothing but a note."""
        live = self.live
        runner, plan = live.reference.runner, live.plan
        if any(c.verdict is Verdict.DIFFERENT for c in self.before):
            return  # these weights would only show it again
        if any(c.name.startswith(REPEATABILITY) for c in self.before):
            self.leave_out("a step does not repeat")
        elif any(map(uncarried, self.before)):
            self.leave_out(NOT_CARRIED)
        elif runner is None:
            self.leave_out("the reference is a recording")
        elif plan.doubts:
            self.leave_out("the parameter match is not proven")
        elif live.findings.allows_further("weights of ordinary size"):
            live.progress("a step at weights of ordinary size")
            try:
                yield from self._at_scales(runner)
                self.leave_out("from there, steps of the reference overflow or multiply rounding errors")
            except UserCodeError as error:
                self.leave_out(str(error).splitlines()[0])

    def _at_scales(self, runner: Runner) -> Iterator[StepPair]:
        live, state = self.live, runner.read()
        for scale in SCALES:
            runner.write(self._random_state(runner, state, scale))
            seed, batches = live.findings.seed, [self.batch]
            steps = reference_steps(runner, batches, precision="float64", seed=seed, first=self.number)
            yield from resynced(steps, live.follower, live.plan, seed=seed, by_effect=live.findings.by_effect)

    def _random_state(self, runner: Runner, current: State, scale: float) -> State:
        """The initial state with new random values for the matched parameters and buffers."""
        live, initial = self.live, self.live.reference.initial
        side, seed = live.plan.reference, live.findings.seed
        matched = {path for m in live.plan.matches for path in m.piece(side).paths} - {*live.plan.unmatched(side)}
        values = {path: value for path, value in initial.values().items() if path in matched}
        drawn = ordinary_weights(runner.inventory().entries, values, side, seed, scale)
        parameters, buffers = (
            {**initial_values, **{p: drawn[p] for p in initial_values if p in drawn}}
            for initial_values in (initial.parameters, initial.buffers)
        )
        # Slots that each side keeps in its own form continue from the last step.
        slots = current.slots if live.findings.by_effect else ordinary_slots(current.slots, parameters, seed)
        return State(parameters, buffers, slots, current.updates)

    def counted_checks(self, step: StepPair, checks: Sequence[Check]) -> list[Check] | None:
        """The decided checks of a step at these weights; None where smaller weights are to be tried.

        Undecided checks are dropped, since training does not start from these weights.

        Args:
            step: of both sides.
            checks: of the step.
        """
        uncertain = (c for c in checks if c.phase in BEFORE_THE_UPDATE and not c.of_use and (c.allowed or 0.0) > WIDE)
        if not finite(step) or any(uncertain):
            return None
        decided = [c for c in checks if c.verdict in (Verdict.EQUIVALENT, Verdict.DIFFERENT)]
        return [replace(c, detail="; ".join(filter(None, (AT_ORDINARY, c.detail)))) for c in decided]

    def leave_out(self, reason: str) -> None:
        """Note that there is no such step, and why."""
        self.live.findings.notes.append(f"not covered: weights of ordinary size ({reason})")


def uncarried(check: Check) -> bool:
    """Whether a check says that a state which training changes is not carried over to the other side."""
    return check.phase == "state" and check.verdict is Verdict.INCONCLUSIVE


def finite(step: StepPair) -> bool:
    """Whether all values of the reference's step are finite."""
    record = step.reference.record
    arrays = (*record.inference.values(), *record.outputs.values(), *record.losses.values(), *record.gradients.values())
    arrays += (*record.after.parameters.values(), *record.after.buffers.values())
    return all(np.isfinite(a).all() for a in arrays if a is not None and a.dtype.kind == "f")
