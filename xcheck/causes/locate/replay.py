"""Both sides at the start of a step, to be run again call by call, as often as it takes to understand a difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ...frameworks.protocol import Runner
from ...matching import MatchPlan
from ...numerics.align import Alignment, align, conditions_of
from ...numerics.align.graph import Graph, Key
from ...numerics.tolerance import TWINS
from ...pairs.pair import Batch
from ...records.calls import Call, Calls, Inside, Swap, everywhere
from ...records.sides import SideName, other_side
from ...records.trace import Array, Arrays, State
from ...stepping.lockstep import StepPair, perturbed, perturbed_batch

Name = tuple[str, str, int, bool]
"""What tells a call from all others of a pass."""


SEED = 1
"""Of other weights."""

SPREAD = 0.5
"""How far other weights are from those of the step, relative to each: far enough for other signs and other winners."""


def other_weights(start: State, seed: int = 0) -> State:
    """A state whose weights are not those of the step; its buffers are.

    Args:
        start: of the step, in the reference's names.
        seed: of what is drawn.
    """
    rng = np.random.default_rng([7, seed])
    moved: dict[str, Array] = dict(start.parameters)
    for path, array in start.parameters.items():
        drawn = np.asarray(rng.standard_normal(array.shape), np.float64)
        moved[path] = array * (1 + SPREAD * drawn) if array.dtype.kind == "f" else array
    return State(moved, start.buffers)


def at_other_weights(step: StepPair, seed: int) -> StepPair:
    """A step that starts from other weights; see `other_weights`."""
    before = step.reference.record.before
    moved = other_weights(State(before.parameters, before.buffers), seed)
    record = replace(step.reference.record, before=replace(before, parameters=moved.parameters))
    return replace(step, reference=replace(step.reference, record=record))


@dataclass
class Scene:
    """Both sides at the start of a step, to be run as often as it takes.

    Args:
        reference, follower: the sides.
        plan: of the run.
        step: whose start and batch are used.
        training: run as in a training step, or as in inference.
        seed: of the perturbations.
        inside: in which modules the functions are looked at.
        gradients: those of what the calls give, too.

    Attributes:
        graph: of the reference.
        conditions: of its values.
        twins: its calls from perturbed starts.
    """

    reference: Runner
    follower: Runner
    plan: MatchPlan
    step: StepPair
    training: bool
    seed: int
    inside: Inside = everywhere
    gradients: bool = False
    graph: Graph = field(init=False)
    twins: list[Calls] = field(init=False)
    conditions: Mapping[Key, float] = field(init=False)

    def __post_init__(self) -> None:
        record, batch = self.step.reference.record, self.step.reference.batch
        masks = list((batch.compare or {}).values())
        self.mask = masks[0] if masks else None
        start = record.before
        self.follower.write(self.plan.for_follower(start, slots=False))
        self.weights = {self.plan.reference: start.values(), self.plan.follower: self.follower.read().values()}
        kept = self.reference.snapshot()
        self.reference.write(State(start.parameters, start.buffers))
        self.graph = self.graph_of(self._calls(self.reference, batch))
        self.twins = []
        for twin in range(TWINS):
            rng = np.random.default_rng([self.seed, self.step.number, twin])
            self.reference.write(State(perturbed(start.parameters, rng, "float64")))
            moved = perturbed_batch(batch, rng, "float64")
            with self.reference.rounding(rng):
                self.twins.append(self._calls(self.reference, moved))
        self.reference.restore(kept)
        self.conditions = conditions_of(self.graph, self.twins)
        self.sums = self.step.reference.sums

    def graph_of(self, calls: Calls) -> Graph:
        """The values of one side.

        Args:
            calls: of it.
        """
        return Graph(calls, self.mask)

    def _calls(self, runner: Runner, batch: Batch, swap: Swap | None = None) -> Calls:
        return runner.calls(batch, training=self.training, gradients=self.gradients, inside=self.inside, swap=swap)

    def partners(self, side: SideName) -> dict[str, frozenset[str]]:
        """A side's path of a parameter or buffer -> the other side's that are made from it."""
        found: dict[str, frozenset[str]] = {}
        for match in self.plan.matches:
            for path in match.piece(side).paths:
                found[path] = found.get(path, frozenset()) | {*match.piece(other_side(side)).paths}
        return found

    def at_other_weights(self) -> Scene:
        """The same with weights of their own, also where some are equal from the start, as those of two networks."""
        step = at_other_weights(self.step, SEED)
        return Scene(self.reference, self.follower, self.plan, step, self.training, self.seed)

    def aligned(self, swaps: Mapping[Name, Arrays]) -> Alignment:
        """Run the follower with some outputs replaced, and align it with the reference."""

        def swap(call: Call) -> Arrays | None:
            return swaps.get(named(call))

        calls = self._calls(self.follower, self.step.reference.batch, swap if swaps else None)
        return align(self.graph, self.graph_of(calls), self.conditions, self.sums)

    def aligned_with(self, side: SideName, swaps: Mapping[Name, Arrays]) -> Alignment:
        """Run one side with some outputs replaced, and align it with the other.

        Args:
            side: to run again.
            swaps: the call -> its outputs.
        """
        if side == self.plan.follower:
            return self.aligned(swaps)
        start, batch = self.step.reference.record.before, self.step.reference.batch
        kept = self.reference.snapshot()
        self.reference.write(State(start.parameters, start.buffers))
        calls = self._calls(self.reference, batch, lambda call: swaps.get(named(call)))
        self.reference.restore(kept)
        return align(self.graph_of(calls), self.graph_of(self._calls(self.follower, batch)), self.conditions, self.sums)


def named(call: Call) -> Name:
    """What tells a call from all others of a pass."""
    return call.path, call.kind, call.number, call.function


def calls_from_start(plan: MatchPlan, step: StepPair, runner: Runner, *, gradients: bool = False) -> Calls:
    """The calls of the training step of one side, made again from the state that the step started from.

    Args:
        plan, step: of the run.
        runner: of the side.
        gradients: those of what comes out, too.
    """
    start, batch = step.reference.record.before, step.reference.batch
    kept = runner.snapshot()
    if runner.side == plan.follower:
        runner.write(plan.for_follower(start, slots=False))
    else:
        runner.write(State(start.parameters, start.buffers))
    try:
        return runner.calls(batch, training=True, gradients=gradients)
    finally:
        runner.restore(kept)
