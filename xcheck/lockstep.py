"""The same batch to both sides, each step from the reference's state. Yields records; compares nothing.

Adam and its kin turn a rounding error in a tiny gradient into a full-size step, so two runs that are left alone
part though nothing is wrong. Here every step starts from the reference's own state: N steps are N independent
experiments. The reference runs freely and never learns of the other side, so its half may come from a live runner
or from a trace on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import BatchError
from .matching import MatchPlan
from .pair import Batch, Pair
from .sides.base import Runner, calling
from .tolerance import TWINS, epsilon
from .trace import Array, State, StepRecord


@dataclass(frozen=True, slots=True)
class ReferenceStep:
    """One step of the reference, with what rounding errors do to it.

    Attributes:
        batch: trained on.
        record: of the step.
        twins: the same step from weights and inputs perturbed by one rounding error each.
    """

    batch: Batch
    record: StepRecord
    twins: tuple[StepRecord, ...]


@dataclass(frozen=True, slots=True)
class StepPair:
    """One step of both sides from one state, each in its own names and layouts."""

    reference: ReferenceStep
    follower: StepRecord

    @property
    def number(self) -> int:
        """The step, from 1."""
        return self.reference.record.step


def batches_of(pair: Pair, seed: int, steps: int) -> Iterator[Batch]:
    """The pair's first `steps` batches.

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
        if batch is None:
            raise BatchError(
                "The pair's batches ended before the steps did.",
                where=f"Pair({pair.name!r}).batches",
                numbers=f"{number - 1} batches for {steps} steps",
                todo=f"yield at least {steps} batches, or run with --steps {number - 1}",
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
        return len(value) if isinstance(value, tuple) else "array"  # pyright: ignore

    return of(batch.inputs), of(batch.targets)


def reference_steps(
    runner: Runner, batches: Iterable[Batch], *, precision: str, seed: int, twins: int = TWINS
) -> Iterator[ReferenceStep]:
    """Train the reference freely, and each step again from perturbed starts.

    Args:
        runner: the reference; after each step it stands where the step left it.
        batches: one per step.
        precision: sets the size of the perturbation.
        seed: of the perturbations.
        twins: perturbed runs per step.
    """
    for number, batch in enumerate(batches, 1):
        start = runner.snapshot()
        record = runner.step(number, batch)
        if not twins:
            yield ReferenceStep(batch, record, ())
            continue
        end = runner.snapshot()
        perturbed: list[StepRecord] = []
        for twin in range(twins):
            rng = np.random.default_rng([seed, number, twin])
            runner.restore(start)
            runner.write(State(_perturbed(record.before.parameters, rng, precision)))
            perturbed.append(runner.step(number, _perturbed_batch(batch, rng, precision)))
        runner.restore(end)
        yield ReferenceStep(batch, record, tuple(perturbed))


def resynced(steps: Iterable[ReferenceStep], follower: Runner, plan: MatchPlan) -> Iterator[StepPair]:
    """Run each step of the reference on the follower, from the reference's state.

    The optimizer's slots are carried over from the second step on: what they start as is each side's own and part
    of the comparison.
    """
    for step in steps:
        follower.write(plan.for_follower(step.record.before, slots=step.record.step > 1))
        yield StepPair(step, follower.step(step.record.step, step.batch))


def _perturbed(arrays: Mapping[str, Array], rng: np.random.Generator, precision: str) -> dict[str, Array]:
    return {path: _nudge(array, rng, precision) for path, array in arrays.items()}


def _nudge(array: Array, rng: np.random.Generator, precision: str) -> Array:
    """Each float moved by one relative rounding error, up or down at random."""
    if array.dtype.kind != "f":
        return array
    signs = rng.choice(np.array([-1.0, 1.0]), size=array.shape)
    return np.asarray(array * (1.0 + epsilon(precision) * signs), dtype=precision)


def _perturbed_batch(batch: Batch, rng: np.random.Generator, precision: str) -> Batch:
    def nudged(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: _nudge(item, rng, precision) for key, item in value.items()}  # pyright: ignore
        if isinstance(value, tuple):
            return tuple(_nudge(item, rng, precision) for item in value)  # pyright: ignore
        return _nudge(value, rng, precision)

    return replace(batch, inputs=nudged(batch.inputs))
