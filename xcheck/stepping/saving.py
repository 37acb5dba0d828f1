"""A side is saved, loaded and trained on, by every route it has. Yields records; compares nothing."""

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
"""How far every parameter is moved before it is saved, relative to itself: enough to make each element its own, and
too little to take a weight out of the range it works in."""


def after_reload(
    runner: Runner, batches: Iterable[Batch], *, seed: int
) -> Iterator[tuple[Route, tuple[ReferenceStep, Reloaded] | UserCodeError]]:
    """The step after the first, in a run that never stops and after every route of saving and loading.

    Before it is saved, every parameter gets values of its own, which no fresh model starts from: what looks kept was
    kept. They are float32 numbers, so that a cast down and up again loses nothing.

    Args:
        runner: of the side, freshly built.
        batches: one or two; the last is that of the next step.
        seed: of the values and the perturbations.

    Returns:
        Per route the step of the run that never stopped, with its twins where the bits differ, and what the route
        left; or what kept it from running.
    """
    first, *more = batches
    batch = more[0] if more else first
    keeper = runner.persistence()
    runner.step(1, first, observe=False)
    runner.write(State(_distinct(runner.read().parameters, seed)))
    start, attributes = runner.snapshot(), keeper.attributes()
    steps: dict[tuple[bool, bool], ReferenceStep] = {}

    def again() -> None:
        runner.restore(start)
        keeper.mend(attributes)

    def going_on(optimizer_kept: bool, twins: bool) -> ReferenceStep:
        key = optimizer_kept, twins
        if key not in steps:
            again()
            with nullcontext() if optimizer_kept else keeper.restarted():
                if twins:
                    steps[key] = next(reference_steps(runner, [batch], precision="float64", seed=seed, first=NEXT))
                else:
                    steps[key] = ReferenceStep(batch, runner.step(NEXT, batch), ())
        return steps[key]

    with tempfile.TemporaryDirectory() as folder:
        for route in keeper.routes:
            again()
            try:
                found = _take(runner, route, Path(folder), batch, going_on)
            except UserCodeError as error:  # a route that does not run is told as such, and the others go on
                found = error
            yield route, found


def _take(
    runner: Runner, route: Route, folder: Path, batch: Batch, going_on: Callable[[bool, bool], ReferenceStep]
) -> tuple[ReferenceStep, Reloaded]:
    keeper = runner.persistence()
    before, saved, attributes = runner.inventory(), runner.read(), keeper.attributes()
    made = keeper.reload(route, folder, batch)
    other: Runner = made.runner
    theirs = other.persistence()
    after, loaded, found = other.inventory(), other.read(), theirs.attributes()
    start = other.snapshot()
    record = other.step(NEXT, batch)
    reference = going_on(made.optimizer_kept, False)
    untied = bool(tie_changes(before, after))
    mended = None
    expected = carried(reference.record.after, before, after, slots=False)
    same = same_bits(expected.values(), record.after.values()) and same_bits(reference.record.losses, record.losses)
    if untied or not same:
        other.restore(start)
        theirs.mend(attributes)
        other.write(carried(saved, before, after, slots=made.optimizer_kept and not untied))
        mended = other.step(NEXT, batch)
        reference = going_on(made.optimizer_kept, True)
    differing = [name for name, value in attributes.items() if name in found and not _alike(value, found[name])]
    reloaded = Reloaded(
        route=route,
        optimizer_kept=made.optimizer_kept,
        before=before,
        after=after,
        saved=saved,
        loaded=loaded,
        record=record,
        unsaved=keeper.unsaved(route),
        mended=mended,
        attributes={name: (_words(attributes[name]), _words(found[name])) for name in differing},
        hidden=[name for name in differing if isinstance(attributes[name], np.ndarray)],
        remarks=made.remarks,
        orphans=made.orphans,
    )
    return reference, reloaded


def _distinct(parameters: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """Every element moved by a little of its own, in float32 numbers; signs stay, and a zero becomes positive."""
    rng = np.random.default_rng([seed, 2])
    found: dict[str, Array] = {}
    for path, value in parameters.items():
        if value.dtype.kind == "f":
            by = np.asarray(rng.uniform(-NUDGE, NUDGE, value.shape), np.float64)
            moved: Array = np.where(value == 0, np.abs(by) * (rms(value) or 1.0), value * (1.0 + by))
            found[path] = np.asarray(np.asarray(moved, np.float32), value.dtype)
    return found


def _alike(old: Any, new: Any) -> bool:
    if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        return equal(old, new)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(old, FunctionType) and isinstance(new, FunctionType):
        return (old.__module__, old.__qualname__) == (new.__module__, new.__qualname__)
    return type(old) is type(new) and bool(old == new)  # pyright: ignore[reportUnknownArgumentType]


def _words(value: Any) -> str:
    return describe(value) if isinstance(value, np.ndarray) else f"{value!r:.60}"
