"""Both sides exported from one state in float32, and every file run beside its model."""

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
"""What runs a file: node by node, rewritten, and the evaluator of the standard."""

SMALL = 2_000_000
"""Weights of a model up to which the evaluator of the standard, which is plain NumPy, is asked, and every route is
taken: tf2onnx needs some hundred bytes of memory per byte of weights."""


@dataclass(frozen=True, slots=True)
class Native:
    """What the models themselves make of one batch.

    Attributes:
        batch: in the neutral layout.
        truth: side -> what its outputs are told from: the reference's in float64, from the same float32 numbers; of a
            pair that is apart, its own.
        outputs: of each side in float32.
        twins: side -> those of the model that `truth` is of, in float32, perturbed by one rounding error.
    """

    batch: Batch
    truth: Mapping[SideName, Arrays]
    outputs: Mapping[SideName, Arrays]
    twins: Mapping[SideName, tuple[Arrays, ...]]


@dataclass(frozen=True, slots=True)
class Export:
    """One file.

    Attributes:
        side, route: who wrote it, and how.
        path: of the file.
        problem: why there is none, or why it cannot be read.
        fixed: what kept the batch size from being free.
        invalid: what `onnx.checker` finds wrong.
        structure: what it is made of.
        located: where each parameter of the side is in it.
        storages: the copies that it holds of each storage.
        outputs: (what ran it, size of the batch) -> outputs, or why there are none.
        written: what its inputs and outputs are in the side's words.
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
    """Everything that exporting a pair has shown.

    Attributes:
        natives: per batch size, the full one first.
        files: of both sides, the usual route of each side first.
        terms: n of the noise model.
        skipped: routes that were not taken, since the model is large and the usual one works.
        apart: why nothing of one side was told from the other; empty where it was.
    """

    natives: tuple[Native, ...]
    files: tuple[Export, ...]
    terms: int
    skipped: tuple[str, ...] = ()
    apart: str = ""


def exported(
    truth: Runner, own: Runner, other: Runner, plan: MatchPlan, batch: Batch, folder: Path, seed: int
) -> Exports:
    """Export both sides, from one state, by every route, and run what comes out.

    Args:
        truth: the reference in float64.
        own: the reference in float32.
        other: the other side in float32.
        plan: of the pair.
        batch: to trace and to run with.
        folder: for the files.
        seed: of the values that the parameters get.
    """
    own.write(probe(own.read(), seed, [path for m in plan.matches for path in m.piece(plan.reference).paths]))
    state = _settled(own, truth)
    other.write(plan.for_follower(state, slots=False))
    batch = _in_float32(batch)
    natives = [_native(truth, (own, other), given, seed) for given in (batch, resized(batch))]
    return _told((own, other), natives, folder)


def exported_apart(
    truths: Sequence[Runner], runners: Sequence[Runner], batch: Batch, folder: Path, seed: int, why: str
) -> Exports:
    """Export both sides, each from a state of its own and told from its own model alone.

    Args:
        truths: both sides in float64.
        runners: both in float32, in the same order.
        batch: to trace and to run with.
        folder: for the files.
        seed: of the values that the parameters get.
        why: nothing is told from the other side.
    """
    for truth, runner in zip(truths, runners, strict=True):
        state = runner.read()
        runner.write(probe(state, seed, state.values()))
        _settled(runner, truth)
    batch = _in_float32(batch)
    natives: list[Native] = []
    for given in (batch, resized(batch)):
        one, two = (_native(truth, (runner,), given, seed) for truth, runner in zip(truths, runners, strict=True))
        outputs: dict[SideName, Arrays] = {**one.outputs, **two.outputs}
        natives.append(Native(given, {**one.truth, **two.truth}, outputs, {**one.twins, **two.twins}))
    return replace(_told(runners, natives, folder), apart=why)


def _settled(runner: Runner, truth: Runner) -> State:
    """The state of a side, which `truth` gets as well: what shares memory has settled on one value."""
    state = runner.read()
    truth.write(State(state.parameters, state.buffers))
    return state


def _told(runners: Sequence[Runner], natives: Sequence[Native], folder: Path) -> Exports:
    """The files of both sides by every route, and what they make of the batches of their models."""
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
    """What models make of a batch; the first is that of `truth`."""
    own = runners[0]
    start = own.read()
    twins: list[Arrays] = []
    for twin in range(TWINS):
        rng = np.random.default_rng([seed, twin])
        own.write(State(perturbed(start.parameters, rng, "float32")))
        twins.append(own.exporter().infer(perturbed_batch(batch, rng, "float32")))
    own.write(State(start.parameters, start.buffers))
    exact = truth.exporter().infer(batch)
    return Native(
        batch,
        {runner.side: exact for runner in runners},
        {runner.side: runner.exporter().infer(batch) for runner in runners},
        {runner.side: tuple(twins) for runner in runners},
    )


def _one_file(runner: Runner, exporter: Exporter, route: str, path: Path, batch: Batch, smaller: Batch) -> Export:
    made = Export(runner.side, route, path)
    try:
        written = exporter.export(route, path, batch, smaller)
        model = load(path)
    except (UserCodeError, FileError, SetupError) as error:
        return replace(made, problem=said(error))
    foreign = untranslated(model)
    if foreign:
        told = f"the exporter lacks {', '.join(foreign)}, and left it in the file, where ONNX has no such operator"
        return replace(made, problem=told)
    held = weights(model)
    state, inventory = runner.read().values(), runner.inventory()
    located = locate(_canonical(state, inventory), held)
    outputs: dict[tuple[str, int], Arrays | str] = {}
    for runtime, given in ((PLAIN, batch), (PLAIN, smaller), (OPTIMIZED, batch)):
        outputs[runtime, given.size] = in_onnxruntime(path, written, given, optimized=runtime == OPTIMIZED)
    if sum(weight.value.size for weight in held) <= SMALL:
        outputs[STANDARD, batch.size] = by_the_standard(path, model, written, batch)
    return replace(
        made,
        fixed=written.fixed,
        invalid=invalid(path),
        structure=structure(model, held),
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
    """The outputs of a file in onnxruntime in the side's words, or why there are none.

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
        return said(error)


def by_the_standard(path: Path, model: Any, written: Exported, batch: Batch) -> Arrays | str:
    """The outputs of a file in float64 as the standard defines them, or why there are none."""
    try:
        ports = Session(path).inputs
        return written.outputs(reference_outputs(model, assigned(ports, written.inputs(batch))))
    except (FileError, UserCodeError) as error:
        return said(error)


def said(error: BadInput) -> str:
    """A message on one line, without what to do next."""
    text = " ".join(f"{error.what} {error.parts['cause'] or error.parts['numbers'] or ''}".split())
    return text if len(text) <= 500 else f"{text[:400]} ... {text[-90:]}"


def _in_float32(batch: Batch) -> Batch:
    """The batch in numbers that float32 holds, so that every side and file starts from the very same."""
    return _each(batch, lambda a: a.astype(np.float32).astype(a.dtype) if a.dtype.kind == "f" else a)


def resized(batch: Batch) -> Batch:
    """The batch with one example less, or twice the one that it has."""
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
