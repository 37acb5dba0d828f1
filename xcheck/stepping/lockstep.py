"""The same batch to both sides, each step from the reference's state. Yields records; compares nothing.

Adam and its kin turn a rounding error in a tiny gradient into a full-size step, so two runs that are left alone
part though nothing is wrong. Here every step starts from the reference's own state: N steps are N independent
experiments. The reference runs freely and never learns of the other side, so its half may come from a live runner
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
from ..numerics.tolerance import KAPPA, TWINS, epsilon
from ..pairs.pair import Batch
from ..records.islands import factors, made_in_float32
from ..records.repeats import Unrepeated, unrepeated
from ..records.sides import SideName
from ..records.trace import Array, State, StepRecord

REPEATED = 3
"""Steps that are made twice to see whether they repeat; what a step hides outside of its state shows by then."""


Moved = tuple[Sequence[str], tuple[StepRecord, ...]]
"""Where a side has numbers of float32, and its step with them moved, several times over."""

Again = Callable[[Collection[str]], Moved]
"""Makes a step again with numbers of float32 moved, those of the given buffers among them."""


@dataclass(frozen=True, slots=True)
class ReferenceStep:
    """One step of the reference, with what rounding errors do to it.

    Attributes:
        batch: trained on.
        record: of the step.
        twins: the same step from weights and inputs perturbed by one rounding error each. In a float32
            comparison the first is the reference's own step in float32.
        repeatable: the step gave the same bits when it was made again from the same state.
        again: makes the step again with numbers of float32 moved; None where it was recorded.
        unrepeated: what did not repeat, where the step was made again.
    """

    batch: Batch
    record: StepRecord
    twins: tuple[StepRecord, ...]
    repeatable: bool = True
    again: Again | None = None
    unrepeated: Unrepeated | None = None

    @property
    def sums(self) -> tuple[int, int]:
        """n and m of the noise model: the longest sum that can end in a quantity of this step, and that over the batch.

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
        reference, follower: what the sides did.
        again: like that of the reference, for the follower.
        moved: both sides again, with the numbers of float32 moved that they could not keep out of the computation.
        places: side -> where it has such numbers, as far as they were moved.
        unrepeated: what did not repeat on either side, in this step or before.
    """

    reference: ReferenceStep
    follower: StepRecord
    again: Again | None = None
    moved: tuple[tuple[StepRecord, StepRecord], ...] = ()
    places: Mapping[SideName, Sequence[str]] = field(default_factory=dict[SideName, Sequence[str]])
    unrepeated: tuple[Unrepeated, ...] = ()

    @property
    def number(self) -> int:
        """The step, from 1."""
        return self.reference.record.step

    def with_float32_moved(self, plan: MatchPlan) -> StepPair:
        """This step with `moved`, where a side computes with numbers of float32.

        Buffers count where the plan does not match them: the others start from the reference's.
        """
        found: dict[SideName, Moved] = {}
        both: tuple[tuple[SideName, Again | None], ...] = (
            (plan.reference, self.reference.again),
            (plan.follower, self.again),
        )
        for side, again in both:
            if again is not None:
                found[side] = again([path for owner, path in plan.unmatched_buffers if owner == side])
        if not any(found.values()):
            return self
        none: Moved = ([], ())
        (mine, ours), (theirs, others) = found.get(plan.reference, none), found.get(plan.follower, none)
        ours, others = ours or (self.reference.record,) * TWINS, others or (self.follower,) * TWINS
        places: dict[SideName, Sequence[str]] = {plan.reference: mine, plan.follower: theirs}
        return replace(self, moved=tuple(zip(ours, others, strict=True)), places=places)


def reference_steps(
    runner: Runner, batches: Iterable[Batch], *, precision: str, seed: int, twins: int = TWINS, first: int = 1
) -> Iterator[ReferenceStep]:
    """Train the reference freely, and each step again from perturbed starts.

    Args:
        runner: the reference; after each step it stands where the step left it.
        batches: one per step.
        precision: sets the size of the perturbation.
        seed: of the perturbations.
        twins: perturbed runs per step.
        first: number of the first step.
    """
    for number, batch in enumerate(batches, first):
        start = runner.snapshot()
        record = runner.step(number, batch)
        if record.after.ties != record.before.ties:  # there is no way back, and no way on
            yield ReferenceStep(batch, record, ())
            return
        end = runner.snapshot()
        moved = _unrepeated(runner, start, record, batch, end)
        repeatable = moved is None
        split = number == 1 and repeatable
        made = tuple(
            _perturbed_step(runner, start, record, batch, precision, [seed, number, twin], uses=split)
            for twin in range(twins)
        )
        if split:
            runner.restore(start)
            record = replace(record, uses=runner.uses(number, batch))
        runner.restore(end)
        again = partial(_float32_moved, runner, start, record, batch, seed)
        yield ReferenceStep(batch, record, made, repeatable, again, moved)
        del start, record, end, made, again  # before the next step is made


def _unrepeated(runner: Runner, start: Any, record: StepRecord, batch: Batch, end: Any) -> Unrepeated | None:
    """What does not give the same bits again: the step reads something else than what can be put back, or draws."""
    if record.step > REPEATED:
        return None
    runner.restore(start)
    again = runner.step(record.step, batch)
    return unrepeated(runner.side, record, again, runner.differing(end, runner.snapshot()))


def _perturbed_step(
    runner: Runner, start: Any, record: StepRecord, batch: Batch, precision: str, seed: list[int], uses: bool = False
) -> StepRecord:
    rng = np.random.default_rng(seed)
    runner.restore(start)
    runner.write(State(perturbed(record.before.parameters, rng, precision)))
    nudged = perturbed_batch(batch, rng, precision)
    terms, alike = ReferenceStep(batch, record, ()).sums  # the noise g of a gradient: see tolerance.py
    noise = epsilon(precision) * max(np.sqrt(terms), alike / KAPPA)
    with runner.rounding(rng, float(noise)):
        found = runner.uses(record.step, nudged) if uses else None
        return replace(runner.step(record.step, nudged), uses=found or {})


def _float32_moved(
    runner: Runner, start: Any, record: StepRecord, batch: Batch, seed: int, buffers: Collection[str]
) -> Moved:
    """The step again from where it started, with each number moved that float32 has rounded."""
    tables = {path: record.before.buffers[path] for path in buffers if made_in_float32(record.before.buffers[path])}
    places = runner.islands.places() + [f"{path} (a buffer)" for path in tables]
    if not places:
        return places, ()
    end, made = runner.snapshot(), list[StepRecord]()
    for twin in range(TWINS):
        rng = np.random.default_rng([seed, record.step, twin])
        runner.restore(start)
        runner.write(State(buffers={path: table * factors(table, rng) for path, table in tables.items()}))
        with runner.islands.moving([seed, record.step, twin]):
            made.append(runner.step(record.step, batch))
    runner.restore(end)
    return places, tuple(made)


def in_modes(
    runner: Runner, batches: Iterable[Batch], *, seed: int, truth: Runner | None = None
) -> Iterator[tuple[ReferenceStep, Mapping[str, StepRecord | UserCodeError]]]:
    """Each step of one side in eager mode with its twins, and the same step from the same state in its other modes.

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
        found: dict[str, StepRecord | UserCodeError] = {}
        for mode in runner.modes():
            runner.restore(start)
            try:
                found[mode] = runner.step(number, batch, observe=False, mode=mode)
            except UserCodeError as error:  # a mode that does not run is told as such, and the others go on
                found[mode] = error
        runner.restore(end)
        own = ReferenceStep(batch, record, twins)
        yield own if exact is None else replace(own, record=exact, twins=(record, *twins)), found


def in_float32(
    truth: Runner, reference: Runner, follower: Runner, plan: MatchPlan, batches: Iterable[Batch], *, seed: int
) -> Iterator[StepPair]:
    """Each step of the reference in float64, and the same step of both sides in float32 from its rounded state.

    Args:
        truth: the reference in float64; trains freely.
        reference: the reference in float32.
        follower: the other side in float32.
        plan: of the pair.
        batches: one per step.
        seed: of the perturbations.
    """
    for number, batch in enumerate(batches, 1):
        record = truth.step(number, batch)
        before = record.before
        reference.write(before if number > 1 else State(before.parameters, before.buffers))
        start = reference.snapshot()
        own = reference.step(number, batch)
        end = reference.snapshot()
        twins = tuple(
            _perturbed_step(reference, start, own, batch, "float32", [seed, number, twin]) for twin in range(TWINS)
        )
        reference.restore(end)
        follower.write(plan.for_follower(before, slots=number > 1))
        yield StepPair(ReferenceStep(batch, record, (own, *twins)), follower.step(number, batch))


def resynced(steps: Iterable[ReferenceStep], follower: Runner, plan: MatchPlan, *, seed: int = 0) -> Iterator[StepPair]:
    """Run each step of the reference on the follower, from the reference's state.

    The optimizer's slots are carried over from the second step on: what they start as is each side's own and part
    of the comparison. A step that changes what is tied is the last one.

    Args:
        steps: of the reference.
        follower: the other side.
        plan: of the pair.
        seed: of how numbers of float32 are moved.
    """
    shaky: list[Unrepeated] = []
    for step in steps:
        number = step.record.step
        follower.write(plan.for_follower(step.record.before, slots=number > 1))
        start = follower.snapshot()
        record = follower.step(number, step.batch)
        tied = record.after.ties == record.before.ties
        own = None
        if number <= REPEATED and tied:
            end = follower.snapshot()
            own = _unrepeated(follower, start, record, step.batch, end)
            if number == 1 and own is None:
                follower.restore(start)
                record = replace(record, uses=follower.uses(number, step.batch))
            follower.restore(end)
        shaky += [each for each in (_of_reference(step, plan.reference), own) if each is not None]
        again = partial(_float32_moved, follower, start, record, step.batch, seed) if tied else None
        yield StepPair(step, record, again, unrepeated=tuple(shaky))
        if not tied:
            return
        del step, start, record  # before the next step is made


def _of_reference(step: ReferenceStep, side: SideName) -> Unrepeated | None:
    """What did not repeat; of a recording it is known that something did not, and no more."""
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
