"""Export of both sides from one state in float32; every file is run, and so is its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadInput, FileError, SetupError, UserCodeError
from ..frameworks.protocol import Exported, Exporter, Runner
from ..matching import MatchPlan
from ..numerics.tolerance import TWINS
from ..pairs.pair import Batch
from ..records.inventory import Inventory
from ..records.sides import SideName
from ..records.trace import Array, Arrays, State
from ..stepping.lockstep import perturbed, perturbed_batch
from .files import invalid, load, weights
from .parameters import Located, locate
from .probe import probe
from .runtime import Session, assigned, reference_outputs
from .structure import Structure, Tied, structure, tied, untranslated

PLAIN, OPTIMIZED, STANDARD = "onnxruntime", "onnxruntime, optimized", "onnx.reference, float64"
"""The runtimes of a file: node by node, rewritten, and the evaluator of the standard."""

SMALL = 2_000_000
"""Largest number of weights for which the evaluator of the standard, which is plain NumPy, and all routes are used:
tf2onnx needs some hundred bytes of memory per byte of weights."""


@dataclass(frozen=True, slots=True)
class Native:
    """The outputs of the models for one batch.

    Attributes:
        batch: in the neutral layout.
        truth: side -> float64 outputs to compare with, from the same float32 numbers: those of the reference, or the
            side's own if the sides are compared separately.
        outputs: of each side in float32.
        twins: side -> float32 outputs of the model of `truth`, perturbed by one rounding error.
    """

    batch: Batch
    truth: Mapping[SideName, Arrays]
    outputs: Mapping[SideName, Arrays]
    twins: Mapping[SideName, tuple[Arrays, ...]]


@dataclass(frozen=True, slots=True)
class Export:
    """One file.

    Attributes:
        side, route: side and route of the export.
        path: of the file.
        problem: why there is no file, or why it cannot be read.
        fixed: why the batch size is not free.
        invalid: the error of `onnx.checker`.
        structure: its contents.
        located: the location of each parameter of the side.
        storages: its copies of each storage.
        outputs: (runtime, size of the batch) -> outputs, or why there are none.
        written: names of its inputs and outputs on the side.
    """

    side: SideName
    route: str
    path: Path
    problem: str | None = None
    fixed: str | None = None
    invalid: str | None = None
    structure: Structure | None = None
    located: tuple[Located, ...] = ()
    storages: tuple[Tied, ...] = ()
    outputs: Mapping[tuple[str, int], Arrays | str] = field(default_factory=dict[tuple[str, int], "Arrays | str"])
    written: Exported | None = None


@dataclass(frozen=True, slots=True)
class Exports:
    """The results of exporting a pair.

    Attributes:
        natives: per batch size, the full one first.
        files: of both sides, the usual route of each side first.
        terms: n of the noise model.
        skipped: routes that were not used, since the model is large and the usual one works.
        separate_reason: why the sides were not compared with each other; empty where they were.
    """

    natives: tuple[Native, ...]
    files: tuple[Export, ...]
    terms: int
    skipped: tuple[str, ...] = ()
    separate_reason: str = ""


def exported(
    truth: Runner, reference: Runner, follower: Runner, plan: MatchPlan, batch: Batch, folder: Path, seed: int
) -> Exports:
    """Export both sides from one state by every route, and run the files.

    Args:
        truth: the reference in float64.
        reference: the reference in float32.
        follower: the other side in float32.
        plan: of the pair.
        batch: to trace and to run with.
        folder: for the files.
        seed: of the parameter values.
    """
    reference.write(
        probe(reference.read(), seed, [path for m in plan.matches for path in m.piece(plan.reference).paths])
    )
    state = _copied_state(reference, truth)
    follower.write(plan.for_follower(state, slots=False))
    batch = _in_float32(batch)
    natives = [_native(truth, (reference, follower), each, seed) for each in (batch, resized(batch))]
    return _export_all((reference, follower), natives, folder)


def exported_apart(
    truths: Sequence[Runner], runners: Sequence[Runner], batch: Batch, folder: Path, seed: int, reason: str
) -> Exports:
    """Export both sides, each from its own state and compared only with its own model.

    Args:
        truths: both sides in float64.
        runners: both in float32, in the same order.
        batch: to trace and to run with.
        folder: for the files.
        seed: of the parameter values.
        reason: why the sides are not compared with each other.
    """
    for truth, runner in zip(truths, runners, strict=True):
        state = runner.read()
        runner.write(probe(state, seed, state.values()))
        _copied_state(runner, truth)
    batch = _in_float32(batch)
    natives: list[Native] = []
    for each in (batch, resized(batch)):
        first, second = (_native(truth, (runner,), each, seed) for truth, runner in zip(truths, runners, strict=True))
        outputs: dict[SideName, Arrays] = {**first.outputs, **second.outputs}
        natives.append(Native(each, {**first.truth, **second.truth}, outputs, {**first.twins, **second.twins}))
    return replace(_export_all(runners, natives, folder), separate_reason=reason)


def _copied_state(runner: Runner, truth: Runner) -> State:
    """The state of a side, which `truth` receives, too; parameters that share memory have one value by then."""
    state = runner.read()
    truth.write(State(state.parameters, state.buffers))
    return state


def _export_all(runners: Sequence[Runner], natives: Sequence[Native], folder: Path) -> Exports:
    """The files of both sides by every route, and their outputs for the batches of their models."""
    batch, smaller = (native.batch for native in natives)
    state = runners[0].read()
    files: list[Export] = []
    skipped: list[str] = []
    large = sum(array.size for array in state.values().values()) > SMALL
    for runner in runners:
        exporter = runner.exporter()
        for number, route in enumerate(exporter.routes()):
            if large and any(f.side == runner.side and f.problem is None for f in files):
                skipped.append(f"{runner.side} {route}")
                continue
            path = folder / f"{runner.side}_{number}.onnx"
            files.append(_one_file(runner, exporter, route, path, batch, smaller))
    outputs = [array for by_name in natives[0].truth.values() for array in by_name.values()]
    terms = max([batch.terms(), *(array.size for array in (*state.values().values(), *outputs))])
    return Exports(tuple(natives), tuple(files), terms, tuple(skipped))


def _native(truth: Runner, runners: Sequence[Runner], batch: Batch, seed: int) -> Native:
    """The outputs of models for a batch; the first runner is the float32 version of `truth`."""
    first = runners[0]
    start = first.read()
    twins: list[Arrays] = []
    for twin in range(TWINS):
        rng = np.random.default_rng([seed, twin])
        first.write(State(perturbed(start.parameters, rng, "float32")))
        twins.append(first.exporter().infer(perturbed_batch(batch, rng, "float32")))
    first.write(State(start.parameters, start.buffers))
    exact = truth.exporter().infer(batch)
    return Native(
        batch,
        {runner.side: exact for runner in runners},
        {runner.side: runner.exporter().infer(batch) for runner in runners},
        {runner.side: tuple(twins) for runner in runners},
    )


def _one_file(runner: Runner, exporter: Exporter, route: str, path: Path, batch: Batch, smaller: Batch) -> Export:
    export = Export(runner.side, route, path)
    try:
        written = exporter.export(route, path, batch, smaller)
        model = load(path)
    except (UserCodeError, FileError, SetupError) as error:
        return replace(export, problem=message_of(error))
    foreign = untranslated(model)
    if foreign:
        problem = (
            f"the exporter cannot translate {', '.join(foreign)}; the file contains it, but ONNX has no such operator"
        )
        return replace(export, problem=problem)
    constants = weights(model)
    state, inventory = runner.read().values(), runner.inventory()
    located = locate(_canonical(state, inventory), constants)
    outputs: dict[tuple[str, int], Arrays | str] = {}
    for runtime, each in ((PLAIN, batch), (PLAIN, smaller), (OPTIMIZED, batch)):
        if written.by_design and each is smaller:
            continue
        outputs[runtime, each.size] = in_onnxruntime(path, written, each, optimized=runtime == OPTIMIZED)
    if sum(weight.value.size for weight in constants) <= SMALL:
        outputs[STANDARD, batch.size] = by_the_standard(path, model, written, batch)
    return replace(
        export,
        fixed=written.fixed,
        invalid=invalid(path),
        structure=structure(model, constants),
        located=tuple(located),
        storages=tuple(tied(inventory.tie_groups(), located)),
        outputs=outputs,
        written=written,
    )


def _canonical(state: Arrays, inventory: Inventory) -> dict[str, Array]:
    return {entry.path: state[entry.path] for entry in inventory.canonical() if entry.path in state}


def in_onnxruntime(
    path: Path, written: Exported, batch: Batch, *, optimized: bool, replaced: Mapping[str, Array] | None = None
) -> Arrays | str:
    """The outputs of a file in onnxruntime by the side's names, or why there are none.

    Args:
        path: of the file.
        written: by the side's exporter.
        batch: in the neutral layout.
        optimized: let onnxruntime rewrite the graph.
        replaced: initializer -> value to use instead.
    """
    try:
        session = Session(path, optimized=optimized, replaced=replaced)
        return written.outputs(session.run(assigned(session.inputs, written.inputs(batch), str(path.name))))
    except (FileError, UserCodeError) as error:
        return message_of(error)


def by_the_standard(path: Path, model: Any, written: Exported, batch: Batch) -> Arrays | str:
    """The outputs of a file in float64 as the standard defines them, or why there are none."""
    try:
        ports = Session(path).inputs
        return written.outputs(reference_outputs(model, assigned(ports, written.inputs(batch))))
    except (FileError, UserCodeError) as error:
        return message_of(error)


def message_of(error: BadInput) -> str:
    """The message of an error on one line, without its advice."""
    text = " ".join(f"{error.what} {error.parts['cause'] or error.parts['numbers'] or ''}".split())
    return text if len(text) <= 500 else f"{text[:400]} ... {text[-90:]}"


def _in_float32(batch: Batch) -> Batch:
    """The batch rounded to float32 numbers, so that every side and file starts from the same ones."""
    return _each(batch, lambda a: a.astype(np.float32).astype(a.dtype) if a.dtype.kind == "f" else a)


def resized(batch: Batch) -> Batch:
    """The batch without its last example, or with its only example twice."""
    if batch.size > 1:
        return _each(batch, lambda a: a[:-1])
    return _each(batch, lambda a: np.concatenate([a, a]))


def _each(batch: Batch, change: Callable[[Array], Array]) -> Batch:
    def changed(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: change(item) for key, item in value.items()}  # pyright: ignore
        if isinstance(value, tuple):
            return tuple(change(item) for item in value)  # pyright: ignore
        return None if value is None else change(value)

    return Batch(changed(batch.inputs), changed(batch.targets), changed(batch.compare))
