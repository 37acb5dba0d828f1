"""The same batch to both sides, each step from the reference's state. Yields records; compares nothing.

Adam and similar optimizers turn a rounding error in a tiny gradient into a full-size step, so two free runs diverge
even when nothing is wrong. Here every step starts from the reference's own state: N steps are N independent
experiments. The reference runs freely and does not depend on the other side, so its steps may come from a live runner
or from a trace on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from ..errors import UserCodeError
from ..frameworks.protocol import Runner, rounding_factors
from ..matching import MatchPlan
from ..numerics.tolerance import TWINS, epsilon
from ..pairs.pair import Batch
from ..records.islands import factors, made_in_float32
from ..records.repeats import Unrepeated, unrepeated
from ..records.sides import SideName
from ..records.trace import Array, State, StepRecord

REPEATED = 3
"""Number of steps that are made twice to test repeatability; state hidden outside of the runner shows by then."""

Moved = tuple[Sequence[str], tuple[StepRecord, ...]]
"""(places of float32 numbers of a side, its step with these numbers moved, several times)."""

Rerun = Callable[[Collection[str]], Moved]
"""Repeats a step with float32 numbers moved, including those of the given buffers."""


@dataclass(frozen=True, slots=True)
class ReferenceStep:
    """One step of the reference, with the effect of rounding errors on it.

    Attributes:
        batch: trained on.
        record: of the step.
        twins: the same step from weights and inputs perturbed by one rounding error each. In a float32
            comparison the first is the reference's own step in float32.
        repeatable: the step, repeated from the same state, gave the same bits.
        rerun: repeats the step with float32 numbers moved; None for a recording.
        unrepeated: values that did not repeat, if the step was repeated.
    """

    batch: Batch
    record: StepRecord
    twins: tuple[StepRecord, ...]
    repeatable: bool = True
    rerun: Rerun | None = None
    unrepeated: Unrepeated | None = None

    @property
    def sums(self) -> tuple[int, int]:
        """n and m of the noise model: the longest sum in a quantity of this step, and the sum over the batch.

        A forward sum runs over the inputs of a layer, at most as many as its largest weight has elements; the gradient
        of a weight sums over the examples and positions of the batch.
        """
        arrays = (*self.record.before.parameters.values(), *self.record.outputs.values())
        batch = self.batch.terms()
        return max([batch, *(array.size for array in arrays)]), batch


@dataclass(frozen=True, slots=True)
class StepPair:
    """One step of both sides from one state, each in its own names and layouts.

    Attributes:
        reference, follower: the step of each side.
        rerun: like that of the reference, for the follower.
        moved: the step of both sides with their unavoidable float32 numbers moved.
        places: side -> places of its moved float32 numbers.
        unrepeated: values that did not repeat on either side, in this step or before.
        by_effect: roles of slots that are not compared: each side kept its own.
    """

    reference: ReferenceStep
    follower: StepRecord
    rerun: Rerun | None = None
    moved: tuple[tuple[StepRecord, StepRecord], ...] = ()
    places: Mapping[SideName, Sequence[str]] = field(default_factory=dict[SideName, Sequence[str]])
    unrepeated: tuple[Unrepeated, ...] = ()
    by_effect: frozenset[str] = frozenset()

    @property
    def number(self) -> int:
        """The step, from 1."""
        return self.reference.record.step

    def with_float32_moved(self, plan: MatchPlan) -> StepPair:
        """This step with `moved`, if a side computes with float32 numbers.

        Only unmatched buffers count: the others start from the reference's.
        """
        moved_by_side: dict[SideName, Moved] = {}
        reruns: tuple[tuple[SideName, Rerun | None], ...] = (
            (plan.reference, self.reference.rerun),
            (plan.follower, self.rerun),
        )
        for side, rerun in reruns:
            if rerun is not None:
                moved_by_side[side] = rerun([path for owner, path in plan.unmatched_buffers if owner == side])
        if not any(moved_by_side.values()):
            return self
        nothing: Moved = ([], ())
        (reference_places, reference_runs), (follower_places, follower_runs) = (
            moved_by_side.get(plan.reference, nothing),
            moved_by_side.get(plan.follower, nothing),
        )
        reference_runs, follower_runs = (
            reference_runs or (self.reference.record,) * TWINS,
            follower_runs or (self.follower,) * TWINS,
        )
        places: dict[SideName, Sequence[str]] = {plan.reference: reference_places, plan.follower: follower_places}
        return replace(self, moved=tuple(zip(reference_runs, follower_runs, strict=True)), places=places)


def reference_steps(
    runner: Runner,
    batches: Iterable[Batch],
    *,
    precision: str,
    seed: int,
    twins: int = TWINS,
    first: int = 1,
    ties: bool = False,
) -> Iterator[ReferenceStep]:
    """Train the reference freely, and repeat each step from perturbed starts.

    Args:
        runner: the reference; after each step it has the state after that step.
        batches: one per step.
        precision: sets the size of the perturbation.
        seed: of the perturbations.
        twins: perturbed runs per step.
        first: number of the first step.
        ties: twins only perturb the weights, so that equal numbers in a step stay equal.
    """
    for number, batch in enumerate(batches, first):
        start = runner.snapshot()
        record = runner.step(number, batch)
        if record.after.ties != record.before.ties:  # ties changed: this step can neither be undone nor continued
            yield ReferenceStep(batch, record, ())
            return
        end = runner.snapshot()
        not_repeated = _unrepeated(runner, start, record, batch, end)
        repeatable = not_repeated is None
        split = number == 1 and repeatable
        perturbed_runs = tuple(
            _perturbed_step(runner, start, record, batch, precision, [seed, number, twin], uses=split, ties=ties)
            for twin in range(twins)
        )
        if split:
            runner.restore(start)
            record = replace(record, uses=runner.uses(number, batch))
        runner.restore(end)
        rerun = partial(_float32_moved, runner, start, record, batch, seed)
        yield ReferenceStep(batch, record, perturbed_runs, repeatable, rerun, not_repeated)
        del start, record, end, perturbed_runs, rerun  # before the next step is made


def _unrepeated(runner: Runner, start: Any, record: StepRecord, batch: Batch, end: Any) -> Unrepeated | None:
    """Values with different bits in a repeated step: it reads state that cannot be restored, or random numbers."""
    if record.step > REPEATED:
        return None
    runner.restore(start)
    repeated = runner.step(record.step, batch)
    return unrepeated(runner.side, record, repeated, runner.differing(end, runner.snapshot()))


def _perturbed_step(
    runner: Runner,
    start: Any,
    record: StepRecord,
    batch: Batch,
    precision: str,
    seed: list[int],
    uses: bool = False,
    ties: bool = False,
) -> StepRecord:
    rng = np.random.default_rng(seed)
    runner.restore(start)
    runner.write(State(perturbed(record.before.parameters, rng, precision)))
    if ties:
        return runner.step(record.step, batch)
    nudged = perturbed_batch(batch, rng, precision)
    with runner.rounding(rng):
        uses_by_path = runner.uses(record.step, nudged) if uses else None
        return replace(runner.step(record.step, nudged), uses=uses_by_path or {})


def _float32_moved(
    runner: Runner, start: Any, record: StepRecord, batch: Batch, seed: int, buffers: Collection[str]
) -> Moved:
    """The step, repeated from its start with all float32 numbers moved."""
    tables = {path: record.before.buffers[path] for path in buffers if made_in_float32(record.before.buffers[path])}
    places = runner.islands.places() + [f"{path} (a buffer)" for path in tables]
    if not places:
        return places, ()
    end, records = runner.snapshot(), list[StepRecord]()
    for twin in range(TWINS):
        rng = np.random.default_rng([seed, record.step, twin])
        runner.restore(start)
        runner.write(State(buffers={path: table * factors(table, rng) for path, table in tables.items()}))
        with runner.islands.moving([seed, record.step, twin]):
            records.append(runner.step(record.step, batch))
    runner.restore(end)
    return places, tuple(records)


def in_modes(
    runner: Runner, batches: Iterable[Batch], *, seed: int, truth: Runner | None = None
) -> Iterator[tuple[ReferenceStep, Mapping[str, StepRecord | UserCodeError]]]:
    """Each step of one side in eager mode with its twins, and the same step from the same state in all other modes.

    Args:
        runner: of the side.
        batches: one per step.
        seed: of the perturbations.
        truth: the same side in float64, where the runner is in float32; it trains freely, and each step of the
            runner starts from its rounded state.
    """
    precision = "float64" if truth is None else "float32"
    for number, batch in enumerate(batches, 1):
        exact = None
        if truth is not None:
            exact = truth.step(number, batch)
            before = exact.before
            runner.write(before if number > 1 else State(before.parameters, before.buffers))
        start = runner.snapshot()
        record = runner.step(number, batch)
        end = runner.snapshot()
        twins = tuple(
            _perturbed_step(runner, start, record, batch, precision, [seed, number, twin]) for twin in range(TWINS)
        )
        by_mode: dict[str, StepRecord | UserCodeError] = {}
        for mode in runner.modes():
            runner.restore(start)
            try:
                by_mode[mode] = runner.step(number, batch, observe=False, mode=mode)
            except UserCodeError as error:  # report the mode and continue with the others
                by_mode[mode] = error
        runner.restore(end)
        step = ReferenceStep(batch, record, twins)
        yield step if exact is None else replace(step, record=exact, twins=(record, *twins)), by_mode


def in_float32(
    truth: Runner,
    reference: Runner,
    follower: Runner,
    plan: MatchPlan,
    batches: Iterable[Batch],
    *,
    seed: int,
    by_effect: Collection[str] = (),
) -> Iterator[StepPair]:
    """Each step of the reference in float64, and the same step of both sides in float32 from its rounded state.

    Args:
        truth: the reference in float64; trains freely.
        reference: the reference in float32.
        follower: the other side in float32.
        plan: of the pair.
        batches: one per step.
        seed: of the perturbations.
        by_effect: roles of slots that are not carried over.
    """
    for number, batch in enumerate(batches, 1):
        exact = truth.step(number, batch)
        before = exact.before
        reference.write(before if number > 1 else State(before.parameters, before.buffers))
        start = reference.snapshot()
        float32_record = reference.step(number, batch)
        end = reference.snapshot()
        twins = tuple(
            _perturbed_step(reference, start, float32_record, batch, "float32", [seed, number, twin])
            for twin in range(TWINS)
        )
        reference.restore(end)
        follower.write(_carried(plan, before, number, by_effect))
        follower_record = follower.step(number, batch)
        yield StepPair(
            ReferenceStep(batch, exact, (float32_record, *twins)), follower_record, by_effect=frozenset(by_effect)
        )


def _carried(plan: MatchPlan, state: State, number: int, by_effect: Collection[str]) -> State:
    """The start of a follower's step: a state of the reference without the slots that each side keeps itself."""
    converted = plan.for_follower(state, slots=number > 1)
    slots = {
        path: {role: a for role, a in by_role.items() if role not in by_effect}
        for path, by_role in converted.slots.items()
    }
    return replace(converted, slots=slots)


def resynced(
    steps: Iterable[ReferenceStep],
    follower: Runner,
    plan: MatchPlan,
    *,
    seed: int = 0,
    by_effect: Collection[str] = (),
) -> Iterator[StepPair]:
    """Run each step of the reference on the follower, from the reference's state.

    The optimizer's slots are carried over from the second step on: their initial values are each side's own and part
    of the comparison. A step that changes ties is the last one.

    Args:
        steps: of the reference.
        follower: the other side.
        plan: of the pair.
        seed: of the moved float32 numbers.
        by_effect: roles of slots that are not carried over, since the sides keep them in different forms: the follower
            continues with its own slots. Read before each step.
    """
    not_repeated: list[Unrepeated] = []
    for step in steps:
        number = step.record.step
        follower.write(_carried(plan, step.record.before, number, by_effect))
        start = follower.snapshot()
        record = follower.step(number, step.batch)
        same_ties = record.after.ties == record.before.ties
        follower_unrepeated = None
        if number <= REPEATED and same_ties:
            end = follower.snapshot()
            follower_unrepeated = _unrepeated(follower, start, record, step.batch, end)
            if number == 1 and follower_unrepeated is None:
                follower.restore(start)
                record = replace(record, uses=follower.uses(number, step.batch))
            follower.restore(end)
        not_repeated += [
            each for each in (_of_reference(step, plan.reference), follower_unrepeated) if each is not None
        ]
        rerun = partial(_float32_moved, follower, start, record, step.batch, seed) if same_ties else None
        yield StepPair(step, record, rerun, by_effect=frozenset(by_effect), unrepeated=tuple(not_repeated))
        if not same_ties:
            return
        del step, start, record  # before the next step is made


def _of_reference(step: ReferenceStep, side: SideName) -> Unrepeated | None:
    """The values that did not repeat; for a recording it is only known that there are some."""
    return step.unrepeated or (None if step.repeatable else Unrepeated(side, step.record.step, "forward"))


def perturbed(arrays: Mapping[str, Array], rng: np.random.Generator, precision: str) -> dict[str, Array]:
    """Arrays by path, each float moved by one relative rounding error."""
    return {path: _nudge(array, rng, precision) for path, array in arrays.items()}


def _nudge(array: Array, rng: np.random.Generator, precision: str) -> Array:
    """Each float moved by one relative rounding error, up or down at random."""
    if array.dtype.kind != "f":
        return array
    return np.asarray(array * rounding_factors(array.shape, epsilon(precision), rng), dtype=precision)


def perturbed_batch(batch: Batch, rng: np.random.Generator, precision: str) -> Batch:
    """A batch, each float of its inputs moved by one relative rounding error."""

    def nudged(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: _nudge(item, rng, precision) for key, item in value.items()}  # pyright: ignore
        if isinstance(value, tuple):
            return tuple(_nudge(item, rng, precision) for item in value)  # pyright: ignore
        return _nudge(value, rng, precision)

    return replace(batch, inputs=nudged(batch.inputs))
