"""Which parameters what is compared depends on, by effect: they are moved, and the outputs and the loss looked at.

A gradient of exactly zero, or none at all, leaves a parameter uncompared. Where nothing depends on the parameter there
is nothing to compare. Whether these batches alone do not reach it, other inputs show.
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
"""Standard deviations: other inputs, and the parameters that are moved, reach into the tails of what is usual."""


def reached(runner: Runner, number: int, batch: Batch, masks: Arrays) -> set[str]:
    """Paths of those parameters that the outputs, in inference or in a training step, or its loss depend on.

    The state stays as it is.

    Args:
        runner: of the side.
        number: of the step.
        batch: to run it on.
        masks: path -> what of the parameter is moved, as ones among zeros.

    Raises:
        UserCodeError: the model cannot be called with this batch.
    """
    start = runner.snapshot()
    values = runner.read().values()
    rng = np.random.default_rng(number)

    def seen() -> dict[tuple[str, str], Array]:
        found = {("inference", name): array for name, array in runner.infer(batch).items()}
        record = runner.step(number, batch)
        kinds = {"outputs": record.outputs, "losses": record.losses}
        return found | {(kind, name): array for kind, named in kinds.items() for name, array in named.items()}

    def moves(paths: Collection[str]) -> bool:
        def moved(path: str) -> Array:
            value = values[path]
            return np.asarray(value + masks[path] * FAR * rng.standard_normal(value.shape), value.dtype)

        try:
            runner.write(State({path: moved(path) for path in paths}))
            now = seen()
        finally:
            runner.restore(start)
        return now.keys() != before.keys() or any(not np.array_equal(a, before[k], True) for k, a in now.items())

    try:
        before = seen()
    finally:
        runner.restore(start)
    return set() if not masks or not moves(masks) else {path for path in masks if moves([path])}


def other_inputs(batch: Batch) -> list[Batch]:
    """Batches of the same shapes whose inputs go where this one's do not: other ids, masks turned round, large numbers.

    Args:
        batch: in the neutral layout.
    """
    rng = np.random.default_rng(batch.size)

    def other(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: other(item) for key, item in value.items()}  # pyright: ignore
        if isinstance(value, tuple):
            return tuple(other(item) for item in value)  # pyright: ignore
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

    return [replace(batch, inputs=other(batch.inputs)) for _ in range(2)]


def masks_of(runner: Runner, plan: MatchPlan, matches: Sequence[Match]) -> Arrays:
    """What of the parameters of one side some matches are of, as `reached` takes it.

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
    """Of the unmatched parameters that no output depends on in inference: what of them is not matched.

    A table of which the last rows are unmatched is left out: other inputs, such as longer sequences, may read them.

    Args:
        runner: of the side.
        plan: of the pair.
    """
    masks: dict[str, Array] = {}
    values = runner.read().values()
    for path in (path for path in plan.unmatched(runner.side) if path in plan.idle):
        left = np.ones(values[path].shape)
        for piece in (m.piece(runner.side) for m in plan.parameters):
            if path in piece.paths:
                piece.part.fill(left, np.zeros(piece.shape))
        if left.all() or not left[-1:].any():
            masks[path] = left
    return masks


def idle(runner: Runner, plan: MatchPlan, number: int, batch: Batch) -> set[str]:
    """Paths of unmatched parameters that nothing that is compared depends on, for these and for other inputs.

    Args:
        runner: of the side.
        plan: of the pair.
        number: of the step.
        batch: of the step.
    """
    masks = idle_masks(runner, plan)
    hit: set[str] = set()
    for each in [batch, *other_inputs(batch)] if masks else []:
        with suppress(UserCodeError):
            hit |= reached(runner, number, each, masks)
    return set(masks) - hit


def effects(
    runners: Mapping[SideName, Runner], plan: MatchPlan, number: int, batch: Batch, matches: Sequence[Match]
) -> dict[str, str]:
    """Name on the reference -> "none", "other inputs" or "these", by what shows an effect of a match, on either side.

    Args:
        runners: of both sides.
        plan: of the pair.
        number: of the step.
        batch: of the step.
        matches: whose parameters are moved.
    """
    found = {match.name(plan.reference): "none" for match in matches}
    for word, batches in (("other inputs", other_inputs(batch)), ("these", [batch])):
        for runner in runners.values():
            masks = masks_of(runner, plan, matches)
            for each in batches:
                paths: set[str] = set()
                with suppress(UserCodeError):
                    paths = reached(runner, number, each, masks)
                hit = (m for m in matches if paths & set(m.piece(runner.side).paths))
                found |= {m.name(plan.reference): word for m in hit}
    return found
