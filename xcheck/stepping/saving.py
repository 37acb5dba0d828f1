"""A side is saved, loaded and trained further, by all its routes. Yields records; compares nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from ..errors import UserCodeError
from ..frameworks.protocol import Runner
from ..numerics.compare import rms
from ..pairs.pair import Batch
from ..pairs.user_code import describe
from ..records.reload import Reloaded, Route, carried, equal, same_bits, tie_changes
from ..records.trace import Array, State
from .lockstep import ReferenceStep, reference_steps

NEXT = 2
"""The step after loading."""

NUDGE = 2.0**-6
"""Relative change of every parameter before it is saved: large enough to make each element unique, and too small to
move a weight out of its usual range."""


def after_reload(
    runner: Runner, batches: Iterable[Batch], *, seed: int
) -> Iterator[tuple[Route, tuple[ReferenceStep, Reloaded] | UserCodeError]]:
    """The second step of a run that never stops, and the same step after every route of saving and loading.

    Before saving, every parameter gets its own values, which no new model starts from: values that look restored were
    restored. They are float32 numbers, so that a cast to float32 and back loses nothing.

    Args:
        runner: of the side, freshly built.
        batches: one or two; the last is that of the next step.
        seed: of the values and the perturbations.

    Returns:
        Per route, the step of the run that never stopped, with its twins where the bits differ, and the reloaded side;
        or the error that stopped the route.
    """
    first, *others = batches
    batch = others[0] if others else first
    keeper = runner.persistence()
    runner.step(1, first, observe=False)
    runner.write(State(_distinct(runner.read().parameters, seed)))
    start, attributes = runner.snapshot(), keeper.attributes()
    steps: dict[tuple[bool, bool], ReferenceStep] = {}

    def reset() -> None:
        runner.restore(start)
        keeper.mend(attributes)

    def uninterrupted_step(optimizer_kept: bool, twins: bool) -> ReferenceStep:
        key = optimizer_kept, twins
        if key not in steps:
            reset()
            with nullcontext() if optimizer_kept else keeper.restarted():
                if twins:
                    steps[key] = next(reference_steps(runner, [batch], precision="float64", seed=seed, first=NEXT))
                else:
                    steps[key] = ReferenceStep(batch, runner.step(NEXT, batch), ())
        return steps[key]

    with tempfile.TemporaryDirectory() as folder:
        for route in keeper.routes:
            reset()
            try:
                outcome = _take_route(runner, route, Path(folder), batch, uninterrupted_step)
            except UserCodeError as error:  # report the route and continue with the others
                outcome = error
            yield route, outcome


def _take_route(
    runner: Runner, route: Route, folder: Path, batch: Batch, uninterrupted_step: Callable[[bool, bool], ReferenceStep]
) -> tuple[ReferenceStep, Reloaded]:
    keeper = runner.persistence()
    before, saved, attributes = runner.inventory(), runner.read(), keeper.attributes()
    loaded_side = keeper.reload(route, folder, batch)
    loaded_runner: Runner = loaded_side.runner
    loaded_keeper = loaded_runner.persistence()
    after, loaded, loaded_attributes = loaded_runner.inventory(), loaded_runner.read(), loaded_keeper.attributes()
    start = loaded_runner.snapshot()
    record = loaded_runner.step(NEXT, batch)
    reference = uninterrupted_step(loaded_side.optimizer_kept, False)
    untied = bool(tie_changes(before, after))
    mended = None
    expected = carried(reference.record.after, before, after, slots=False)
    same = same_bits(expected.values(), record.after.values()) and same_bits(reference.record.losses, record.losses)
    if untied or not same:
        loaded_runner.restore(start)
        loaded_keeper.mend(attributes)
        loaded_runner.write(carried(saved, before, after, slots=loaded_side.optimizer_kept and not untied))
        mended = loaded_runner.step(NEXT, batch)
        reference = uninterrupted_step(loaded_side.optimizer_kept, True)
    differing = [
        name
        for name, value in attributes.items()
        if name in loaded_attributes and not _same_attribute(value, loaded_attributes[name])
    ]
    reloaded = Reloaded(
        route=route,
        optimizer_kept=loaded_side.optimizer_kept,
        before=before,
        after=after,
        saved=saved,
        loaded=loaded,
        record=record,
        unsaved=keeper.unsaved(route),
        mended=mended,
        attributes={name: (_shown(attributes[name]), _shown(loaded_attributes[name])) for name in differing},
        hidden=[name for name in differing if isinstance(attributes[name], np.ndarray)],
        remarks=loaded_side.remarks,
        orphans=loaded_side.orphans,
    )
    return reference, reloaded


def _distinct(parameters: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """The parameters, each element changed a little to a float32 number; signs stay, and a zero becomes positive."""
    rng = np.random.default_rng([seed, 2])
    result: dict[str, Array] = {}
    for path, value in parameters.items():
        if value.dtype.kind == "f":
            change = np.asarray(rng.uniform(-NUDGE, NUDGE, value.shape), np.float64)
            moved: Array = np.where(value == 0, np.abs(change) * (rms(value) or 1.0), value * (1.0 + change))
            result[path] = np.asarray(np.asarray(moved, np.float32), value.dtype)
    return result


def _same_attribute(old: Any, new: Any) -> bool:
    if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        return equal(old, new)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(old, FunctionType) and isinstance(new, FunctionType):
        return (old.__module__, old.__qualname__) == (new.__module__, new.__qualname__)
    return type(old) is type(new) and bool(old == new)  # pyright: ignore[reportUnknownArgumentType]


def _shown(value: Any) -> str:
    return describe(value) if isinstance(value, np.ndarray) else f"{value!r:.60}"
