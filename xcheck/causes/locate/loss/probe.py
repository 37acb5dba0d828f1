"""Both sides, asked for their loss: at the start of a step, at other weights, and of one example at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ....frameworks.protocol import Runner
from ....matching import MatchPlan
from ....numerics.align.orders import closest
from ....numerics.compare import measure
from ....pairs.pair import Batch
from ....records.calls import LOSS, Call, Calls
from ....records.sides import SIDES, SideName
from ....records.trace import Array, Arrays, State, StepRecord
from ....records.uses import CLOSE
from ....stepping.lockstep import StepPair
from ...recomputed import REPRODUCED
from ..replay import other_weights


def rows_of(batch: Batch, rows: list[int]) -> Batch:
    """A batch of some of the examples.

    Args:
        batch: of all of them.
        rows: which.
    """

    def of(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: of(item) for key, item in value.items()}  # pyright: ignore
        if isinstance(value, tuple):
            return tuple(map(of, value))  # pyright: ignore
        return None if value is None else value[rows]

    return replace(batch, inputs=of(batch.inputs), targets=of(batch.targets), compare=of(batch.compare))


@dataclass(frozen=True, slots=True)
class Look:
    """What both sides made of one batch at one state.

    Attributes:
        outputs: side -> what its model gave, by name.
        values: side -> loss and penalties, summed.
        output: the one output in Keras's layout; None where there are several, or they do not agree.
        gradients: side -> of the loss with respect to it, in the same layout; empty where they are not known.
    """

    outputs: Mapping[SideName, Arrays]
    values: Mapping[SideName, float]
    output: Array | None
    gradients: Mapping[SideName, Array]


@dataclass(frozen=True)
class LossProbe:
    """Both sides of a step, left as they were after each question.

    Args:
        plan: of the run.
        step: whose batch and start are used.
        reference, follower: the sides.
    """

    plan: MatchPlan
    step: StepPair
    reference: Runner
    follower: Runner

    def look(self, seed: int | None = None) -> Look | None:
        """Both sides at the start of the step, or at other weights; None where their outputs or losses are not seen.

        Args:
            seed: of other weights; None for those of the step.
        """
        before = self.step.reference.record.before
        start = State(before.parameters, before.buffers)
        start = start if seed is None else other_weights(start, seed)
        models: dict[SideName, tuple[list[Call], float | None]] = {s: _models(self._calls(s, start)) for s in SIDES}
        losses: dict[SideName, float | None] = {side: made[1] for side, made in models.items()}
        calls: dict[SideName, list[Call]] = {side: made[0] for side, made in models.items()}
        if any(value is None or not np.isfinite(value) for value in losses.values()) or not all(calls.values()):
            return None
        outputs: dict[SideName, Arrays] = {
            side: _joined([call.outputs for call in made]) for side, made in calls.items()
        }
        slopes: dict[SideName, Arrays] = {
            side: _joined([call.gradients for call in made]) for side, made in calls.items()
        }
        values: dict[SideName, float] = {side: float(value) for side, value in losses.items() if value is not None}
        return Look(outputs, values, *_in_keras_layout(outputs, slopes))

    def is_of_step(self, look: Look) -> bool:
        """Whether the losses of a look are those of the step.

        Args:
            look: at the weights of the step.
        """
        records: dict[SideName, StepRecord] = {
            self.plan.reference: self.step.reference.record,
            self.plan.follower: self.step.follower,
        }
        totals: dict[SideName, Array | None] = {side: record.losses.get("total") for side, record in records.items()}
        return all(
            total is not None and abs(float(total) - look.values[side]) <= REPRODUCED * abs(float(total))
            for side, total in totals.items()
        )

    def each(self, look: Look) -> Mapping[SideName, Array] | None:
        """The loss of each example by itself, of what both models gave; None where that cannot be asked.

        Args:
            look: whose outputs are used.
        """
        batch = self.step.reference.batch
        arrays = [array for named in look.outputs.values() for array in named.values()]
        if batch.size < 2 or any(array.shape[:1] != (batch.size,) for array in arrays):
            return None
        before = self.step.reference.record.before
        start = State(before.parameters, before.buffers)
        found: dict[SideName, Array] = {}
        for side in SIDES:
            values: list[float | None] = []
            for i in range(batch.size):

                def swap(call: Call, side: SideName = side, i: int = i) -> Arrays | None:
                    if call.parent is not None or call.path == LOSS:
                        return None
                    return {name: array[i : i + 1] for name, array in look.outputs[side].items()}

                values.append(_models(self._calls(side, start, rows_of(batch, [i]), swap))[1])
            found[side] = np.array([np.nan if value is None else value for value in values])
        return found if all(np.isfinite(values).all() for values in found.values()) else None

    def _calls(self, side: SideName, start: State, batch: Batch | None = None, swap: Any = None) -> Calls:
        runner = self.reference if side == self.plan.reference else self.follower
        kept = runner.snapshot()
        try:
            runner.write(start if side == self.plan.reference else self.plan.for_follower(start, slots=False))
            return runner.calls(batch or self.step.reference.batch, training=True, gradients=True, swap=swap)
        finally:
            runner.restore(kept)


def _models(calls: Calls) -> tuple[list[Call], float | None]:
    """The calls of the model itself, and the loss."""
    models = [call for call in calls if call.parent is None and call.path != LOSS]
    losses = [call.outputs["output"] for call in calls if call.path == LOSS and call.parent is None]
    return models, float(np.sum(losses[0])) if losses else None


def _joined(parts: list[Arrays]) -> Arrays:
    """One behind the other, where the model was called for parts of the batch."""
    if any(
        {n: a.shape[1:] for n, a in part.items()} != {n: a.shape[1:] for n, a in parts[0].items()} for part in parts
    ):
        return {}
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _in_keras_layout(
    outputs: Mapping[SideName, Arrays], slopes: Mapping[SideName, Arrays]
) -> tuple[Array | None, Mapping[SideName, Array]]:
    """(the one output, side -> its gradient), as Keras has them."""
    if any(len(named) != 1 for named in outputs.values()):
        return None, {}
    torch, keras = (next(iter(outputs[side].values())) for side in SIDES)
    order = closest(torch, keras)
    if order is None or measure(order.apply(torch), keras).element > CLOSE:
        return None, {}
    if any(outputs[side].keys() != slopes[side].keys() for side in SIDES):
        return keras, {}
    gradients = {side: next(iter(slopes[side].values())) for side in SIDES}
    return keras, {"torch": order.apply(gradients["torch"]), "keras": gradients["keras"]}


def penalties(step: StepPair) -> bool:
    """Whether a loss holds more than what is made of outputs and targets.

    Args:
        step: whose losses are meant.
    """
    records = step.reference.record, step.follower
    return any(np.any(record.losses.get("penalty", 0.0)) for record in records)
