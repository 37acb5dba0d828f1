"""The parameters that compared quantities depend on, by effect: each is changed, and outputs and loss are observed.

A parameter with a gradient of exactly zero, or without one, is not compared. If nothing depends on the parameter, there
is nothing to compare. Other inputs show whether only these batches do not reach it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import UserCodeError
from ..frameworks.protocol import Runner
from ..matching import Match, MatchPlan
from ..pairs.pair import Batch
from ..records.sides import SideName
from ..records.trace import Array, Arrays, State

FAR = 3.0
"""Standard deviations: other inputs, and moved parameters, reach the tails of usual values."""


def reached(runner: Runner, number: int, batch: Batch, masks: Arrays) -> set[str]:
    """Paths of the parameters that the outputs, in inference or in a training step, or the loss depend on.

    The state is restored.

    Args:
        runner: of the side.
        number: of the step.
        batch: to run it on.
        masks: path -> ones at the elements of the parameter to move, zeros elsewhere.

    Raises:
        UserCodeError: the model cannot be called with this batch.
    """
    start = runner.snapshot()
    values = runner.read().values()
    rng = np.random.default_rng(number)

    def observe() -> dict[tuple[str, str], Array]:
        inference = {("inference", name): array for name, array in runner.infer(batch).items()}
        record = runner.step(number, batch)
        kinds = {"outputs": record.outputs, "losses": record.losses}
        return inference | {(kind, name): array for kind, named in kinds.items() for name, array in named.items()}

    def has_effect(paths: Collection[str]) -> bool:
        def moved(path: str) -> Array:
            value = values[path]
            return np.asarray(value + masks[path] * FAR * rng.standard_normal(value.shape), value.dtype)

        try:
            runner.write(State({path: moved(path) for path in paths}))
            after = observe()
        finally:
            runner.restore(start)
        return after.keys() != before.keys() or any(not np.array_equal(a, before[k], True) for k, a in after.items())

    try:
        before = observe()
    finally:
        runner.restore(start)
    return set() if not masks or not has_effect(masks) else {path for path in masks if has_effect([path])}


def other_inputs(batch: Batch) -> list[Batch]:
    """Batches of the same shapes with different inputs: other ids, inverted masks, large numbers.

    Args:
        batch: in the neutral layout.
    """
    rng = np.random.default_rng(batch.size)

    def changed(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: changed(item) for key, item in value.items()}  # pyright: ignore
        if isinstance(value, tuple):
            return tuple(changed(item) for item in value)  # pyright: ignore
        array = np.asarray(value)
        if array.dtype.kind == "f":
            return np.asarray(array + FAR * rng.standard_normal(array.shape), array.dtype)
        if array.dtype.kind == "b":
            return ~array
        if array.dtype.kind in "iu" and array.size and array.min() >= 0 and array.max() <= 1:
            return np.asarray(1 - array, array.dtype)
        if array.dtype.kind in "iu" and array.size:
            return rng.integers(array.min(), array.max() + 1, array.shape, array.dtype)
        return value

    return [replace(batch, inputs=changed(batch.inputs)) for _ in range(2)]


def masks_of(runner: Runner, plan: MatchPlan, matches: Sequence[Match]) -> Arrays:
    """The elements of the parameters of one side that some matches cover, as masks for `reached`.

    Args:
        runner: of the side.
        plan: of the pair.
        matches: of the plan.
    """
    masks: dict[str, Array] = {}
    values = runner.read().values()
    for piece in (match.piece(runner.side) for match in matches):
        for path in piece.paths:
            piece.part.fill(masks.setdefault(path, np.zeros(values[path].shape)), np.ones(piece.shape))
    return masks


def idle_masks(runner: Runner, plan: MatchPlan) -> Arrays:
    """Masks of the unmatched elements of parameters that no output depends on in inference.

    A table whose last rows are unmatched is left out: other inputs, such as longer sequences, may read them.

    Args:
        runner: of the side.
        plan: of the pair.
    """
    masks: dict[str, Array] = {}
    values = runner.read().values()
    for path in (path for path in plan.unmatched(runner.side) if path in plan.idle):
        unmatched = np.ones(values[path].shape)
        for piece in (m.piece(runner.side) for m in plan.parameters):
            if path in piece.paths:
                piece.part.fill(unmatched, np.zeros(piece.shape))
        if unmatched.all() or not unmatched[-1:].any():
            masks[path] = unmatched
    return masks


def idle(runner: Runner, plan: MatchPlan, number: int, batch: Batch) -> set[str]:
    """Paths of unmatched parameters that no compared quantity depends on, for these and for other inputs.

    Args:
        runner: of the side.
        plan: of the pair.
        number: of the step.
        batch: of the step.
    """
    masks = idle_masks(runner, plan)
    used: set[str] = set()
    for inputs in [batch, *other_inputs(batch)] if masks else []:
        with suppress(UserCodeError):
            used |= reached(runner, number, inputs, masks)
    return set(masks) - used


def effects(
    runners: Mapping[SideName, Runner], plan: MatchPlan, number: int, batch: Batch, matches: Sequence[Match]
) -> dict[str, str]:
    """Name on the reference -> "none", "other inputs" or "these": the inputs that show an effect of a match.

    Args:
        runners: of both sides.
        plan: of the pair.
        number: of the step.
        batch: of the step.
        matches: of the parameters to move.
    """
    shown_by = {match.name(plan.reference): "none" for match in matches}
    for kind, batches in (("other inputs", other_inputs(batch)), ("these", [batch])):
        for runner in runners.values():
            masks = masks_of(runner, plan, matches)
            for inputs in batches:
                paths: set[str] = set()
                with suppress(UserCodeError):
                    paths = reached(runner, number, inputs, masks)
                affected = (m for m in matches if paths & set(m.piece(runner.side).paths))
                shown_by |= {m.name(plan.reference): kind for m in affected}
    return shown_by
