"""The same batch to both sides, each step from the reference's state. Yields records; compares nothing.

Adam and its kin turn a rounding error in a tiny gradient into a full-size step, so two runs that are left alone
part though nothing is wrong. Here every step starts from the reference's own state: N steps are N independent
experiments. The reference runs freely and never learns of the other side, so its half may come from a live runner
or from a trace on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import BatchError, UserCodeError
from .matching import MatchPlan
from .pair import Batch, Pair
from .sides.base import Runner, calling
from .tolerance import TWINS, epsilon
from .trace import Array, State, StepRecord

REPEATED = 3
"""Steps that are made twice to see whether they repeat; what a step hides outside of its state shows by then."""


@dataclass(frozen=True, slots=True)
class ReferenceStep:
    """One step of the reference, with what rounding errors do to it.

    Attributes:
        batch: trained on.
        record: of the step.
        twins: the same step from weights and inputs perturbed by one rounding error each. In a float32
            comparison the first is the reference's own step in float32.
        repeatable: the step gave the same bits when it was made again from the same state.
    """

    batch: Batch
    record: StepRecord
    twins: tuple[StepRecord, ...]
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class StepPair:
    """One step of both sides from one state, each in its own names and layouts."""

    reference: ReferenceStep
    follower: StepRecord

    @property
    def number(self) -> int:
        """The step, from 1."""
        return self.reference.record.step


def batches_of(pair: Pair, seed: int, steps: int, *, option: str = "--steps", fewer: bool = False) -> Iterator[Batch]:
    """The pair's first `steps` batches.

    Args:
        pair: whose batches.
        seed: given to it.
        steps: how many are wanted.
        option: of the command line that asked for as many.
        fewer: be content with as many as there are.

    Raises:
        UserCodeError: `batches` raised.
        BatchError: there are too few, one is no `Batch`, or its arrays change their names.
    """
    keys: Any = None
    with calling("batches"):
        iterator = iter(pair.batches(seed))
    for number in range(1, steps + 1):
        with calling("batches"):
            batch: Any = next(iterator, None)
        if batch is None and fewer:
            return
        if batch is None:
            raise BatchError(
                "The pair's batches ended before the steps did.",
                where=f"Pair({pair.name!r}).batches",
                numbers=f"{number - 1} batches for {steps} steps",
                todo=f"yield at least {steps} batches, or run with {option} {number - 1}",
            )
        if not isinstance(batch, Batch):
            raise BatchError(
                "The pair's batches yielded something that is no xcheck.Batch.",
                where=f"batch {number}",
                numbers=f"got {type(batch).__name__}",
                todo="yield xcheck.Batch(inputs, targets)",
            )
        if keys is not None and _keys(batch) != keys:
            raise BatchError(
                "A batch has other arrays than the first one.",
                where=f"batch {number}",
                numbers=f"{_keys(batch)} against {keys}",
            )
        keys = _keys(batch)
        yield batch


def _keys(batch: Batch) -> tuple[Any, ...]:
    def of(value: Any) -> Any:
        if isinstance(value, Mapping):
            return sorted(str(key) for key in value)  # pyright: ignore
        if isinstance(value, tuple):
            return len(value)  # pyright: ignore[reportUnknownArgumentType]
        return None if value is None else "array"

    return of(batch.inputs), of(batch.targets)


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
        repeatable = number > REPEATED or _repeats(runner, start, record, batch)
        split = number == 1 and repeatable
        made = tuple(
            _perturbed_step(runner, start, record, batch, precision, [seed, number, twin], uses=split)
            for twin in range(twins)
        )
        if split:
            runner.restore(start)
            record = replace(record, uses=runner.uses(number, batch))
        runner.restore(end)
        yield ReferenceStep(batch, record, made, repeatable)


def _repeats(runner: Runner, start: Any, record: StepRecord, batch: Batch) -> bool:
    """Whether the step gives the same bits again: it reads nothing but the model, the optimizer and the batch."""
    left_behind = _learning_rate(runner)
    runner.restore(start)
    first, again = dict(record.items()), dict(runner.step(record.step, batch).items())
    if _learning_rate(runner) != left_behind:
        return False  # a scheduler outside of the optimizer has moved on once more
    return first.keys() == again.keys() and all(
        np.array_equal(array, again[key], equal_nan=array.dtype.kind == "f") for key, array in first.items()
    )


def _learning_rate(runner: Runner) -> Any:
    settings: Mapping[str, Any] = runner.environment().get("optimizer_settings", {})
    return settings.get("lr", settings.get("learning_rate"))


def _perturbed_step(
    runner: Runner, start: Any, record: StepRecord, batch: Batch, precision: str, seed: list[int], uses: bool = False
) -> StepRecord:
    rng = np.random.default_rng(seed)
    runner.restore(start)
    runner.write(State(perturbed(record.before.parameters, rng, precision)))
    nudged = perturbed_batch(batch, rng, precision)
    found = runner.uses(record.step, nudged) if uses else None
    return replace(runner.step(record.step, nudged), uses=found or {})


def free_running(
    reference: Runner,
    twins: Sequence[Runner],
    follower: Runner,
    plan: MatchPlan,
    batches: Iterable[Batch],
    *,
    precision: str,
    seed: int,
) -> Iterator[StepPair]:
    """Train all sides from one state and leave them alone, but for one rounding error per step in each twin.

    A port that computes the same makes rounding errors of its own in every step; the twins show how far such errors
    carry.

    Args:
        reference, twins: built alike, freshly.
        follower: the other side, freshly built.
        plan: of the pair.
        batches: one per step.
        precision, seed: of the perturbations.
    """
    initial = reference.read()
    follower.write(plan.for_follower(initial, slots=False))
    for twin in twins:
        twin.write(State(initial.parameters, initial.buffers))
    for number, batch in enumerate(batches, 1):
        record = reference.step(number, batch, observe=False)
        drifting: list[StepRecord] = []
        for i, twin in enumerate(twins):
            rng = np.random.default_rng([seed, number, i])
            twin.write(State(perturbed(twin.read().parameters, rng, precision)))
            drifting.append(twin.step(number, batch, observe=False))
        step = ReferenceStep(batch, record, tuple(drifting))
        yield StepPair(step, follower.step(number, batch, observe=False))


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


def resynced(steps: Iterable[ReferenceStep], follower: Runner, plan: MatchPlan) -> Iterator[StepPair]:
    """Run each step of the reference on the follower, from the reference's state.

    The optimizer's slots are carried over from the second step on: what they start as is each side's own and part
    of the comparison. A step that changes what is tied is the last one.
    """
    for step in steps:
        number = step.record.step
        follower.write(plan.for_follower(step.record.before, slots=number > 1))
        start = follower.snapshot() if number == 1 else None
        record = follower.step(number, step.batch)
        tied = record.after.ties == record.before.ties
        if number == 1 and tied:
            end = follower.snapshot()
            follower.restore(start)
            record = replace(record, uses=follower.uses(number, step.batch))
            follower.restore(end)
        yield StepPair(step, record)
        if not tied:
            return


def perturbed(arrays: Mapping[str, Array], rng: np.random.Generator, precision: str) -> dict[str, Array]:
    """Arrays by path, each float moved by one relative rounding error."""
    return {path: _nudge(array, rng, precision) for path, array in arrays.items()}


def _nudge(array: Array, rng: np.random.Generator, precision: str) -> Array:
    """Each float moved by one relative rounding error, up or down at random."""
    if array.dtype.kind != "f":
        return array
    signs = rng.choice(np.array([-1.0, 1.0]), size=array.shape)
    return np.asarray(array * (1.0 + epsilon(precision) * signs), dtype=precision)


def perturbed_batch(batch: Batch, rng: np.random.Generator, precision: str) -> Batch:
    """A batch, each float of its inputs moved by one relative rounding error."""

    def nudged(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: _nudge(item, rng, precision) for key, item in value.items()}  # pyright: ignore
        if isinstance(value, tuple):
            return tuple(_nudge(item, rng, precision) for item in value)  # pyright: ignore
        return _nudge(value, rng, precision)

    return replace(batch, inputs=nudged(batch.inputs))
