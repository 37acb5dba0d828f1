"""Comparison of two arbitrary ONNX files: their outputs and their contents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import FileError
from ..numerics.compare import measurable, rms
from ..numerics.judge import Frame, Item, compare_items
from ..numerics.tolerance import TWINS, epsilon
from ..records.memory_needed import available
from ..records.result import Check, Verdict
from ..records.trace import Array, Arrays
from ..stepping.lockstep import perturbed
from .files import LARGEST, Weight, invalid, load, weights
from .first_node import FirstNode, expose, first_nodes
from .inputs import from_file, whole_number_bounds, working_inputs
from .pairing import Pairing, paired
from .parameters import Located, locate
from .runtime import Session, assigned, reference_outputs
from .structure import Structure, structure

FLOAT64 = 5
"""Free bytes needed per byte of weights for the evaluator of the standard: two files of 2.2 GB took 4."""


@dataclass(frozen=True, slots=True)
class File:
    """One of the two files.

    Attributes:
        path: of the file.
        model: an `onnx.ModelProto`, without its external data.
        weights: its floating-point constants.
        contents: its structure.
    """

    path: Path
    model: Any
    weights: tuple[Weight, ...]
    contents: Structure


@dataclass(frozen=True, slots=True)
class Comparison:
    """The results of a comparison of two files.

    Attributes:
        files: both files.
        inputs, outputs: pairs of ports; empty where they do not fit.
        checks: their `torch` is the first file, their `keras` the second.
        located: location of each weight of the first file in the second.
        first: in each file, the first node without an equal in the other; None where there is none.
        sizes: shapes of the inputs of both runs.
    """

    files: tuple[File, File]
    inputs: tuple[Pairing, ...] = ()
    outputs: tuple[Pairing, ...] = ()
    checks: tuple[Check, ...] = ()
    located: tuple[Located, ...] = ()
    first: tuple[FirstNode | None, FirstNode | None] = (None, None)
    sizes: Mapping[str, tuple[int, ...]] | None = None

    @property
    def verdict(self) -> Verdict:
        """The worst of the checks."""
        return Verdict.worst([c.verdict for c in self.checks])


def compare_models(left: Path, right: Path, seed: int = 0, inputs_file: Path | None = None) -> Comparison:
    """Run two files on the same random inputs and compare all that they contain.

    Args:
        left, right: the files.
        seed: of the inputs.
        inputs_file: an .npz file with the inputs of the first file by name, used instead of random ones.

    Raises:
        FileError: a file cannot be read.
    """
    files = (_opened(left), _opened(right))
    weights_by_name = {w.name: w.value for w in files[0].weights if w.value.size > 1 and w.value.min() != w.value.max()}
    located = tuple(locate(weights_by_name, files[1].weights))
    comparison = Comparison(files, located=located, checks=(*_file_checks(files), *_weight_checks(located)))
    try:
        return _run(comparison, seed, inputs_file)
    except FileError as error:
        reason = " ".join(f"{error.what} {error.parts['numbers'] or ''} {error.parts['cause'] or ''}".split())
        return replace(comparison, checks=(*comparison.checks, _check("outputs", Verdict.INCONCLUSIVE, reason)))


def _opened(path: Path) -> File:
    model = load(path, weights=False)
    constants = weights(model, path)
    return File(path, model, tuple(constants), structure(model, constants))


def _file_checks(files: tuple[File, File]) -> list[Check]:
    checks: list[Check] = []
    for file in files:
        error, leftovers = invalid(file.path), file.contents.leftovers
        name = file.path.name
        checks.append(
            _check(f"{name}: onnx.checker", Verdict.DIFFERENT if error else Verdict.EQUIVALENT, error or "valid")
        )
        detail = (
            f"{len(leftovers)} nodes from training: {'; '.join(leftovers[:3])}"
            if leftovers
            else "none are left from training"
        )
        checks.append(_check(f"{name}: operators", Verdict.DIFFERENT if leftovers else Verdict.EQUIVALENT, detail))
    return checks


def _weight_checks(located: Sequence[Located]) -> list[Check]:
    """Checks of weights: an altered copy is a fault; a missing weight may be folded, so the outputs decide."""
    altered = [
        _check(f"weight {weight.path}", Verdict.DIFFERENT, weight.altered) for weight in located if weight.altered
    ]
    rounded = [
        _check(f"weight {weight.path}", Verdict.NUMERIC, f"stored in {weight.rounded}")
        for weight in located
        if weight.rounded
    ]
    return altered + rounded


def _check(name: str, verdict: Verdict, detail: str) -> Check:
    return Check("export", None, None, name, name, name, verdict, detail=detail)


def _run(comparison: Comparison, seed: int, inputs_file: Path | None) -> Comparison:
    inputs = _common_inputs(comparison.files, seed, inputs_file)
    noise = _PerturbedRuns(comparison.files[0], inputs.left, seed)
    checks: list[Check] = []
    for runtime, optimized in (("onnxruntime", False), ("onnxruntime, optimized", True)):
        outputs = [
            Session(file.path, optimized=optimized).run(feeds)  # one session at a time: each may take gigabytes
            for file, feeds in zip(comparison.files, (inputs.left, inputs.right), strict=True)
        ]
        checks += noise.judge(runtime, inputs.outputs, outputs[0], outputs[1])
    if any(c.verdict is Verdict.DIFFERENT for c in checks):
        checks = _arbitrated(comparison, noise, inputs, checks)
    # Exposing every tensor requires a single file.
    if max(file.contents.weight_bytes for file in comparison.files) > LARGEST:
        note = "the first differing node is not searched for in files over 2 GB"
        checks = [
            c if c.verdict is Verdict.EQUIVALENT else replace(c, detail="; ".join(filter(None, (c.detail, note))))
            for c in checks
        ]
    sizes = {name: array.shape for name, array in inputs.left.items()}
    result = replace(
        comparison, inputs=inputs.inputs, outputs=inputs.outputs, checks=(*comparison.checks, *checks), sizes=sizes
    )
    if all(c.verdict is Verdict.EQUIVALENT for c in checks):
        return result
    return replace(result, first=_first_nodes(comparison, noise, inputs))


class _Inputs(NamedTuple):
    """The inputs of both files.

    Attributes:
        inputs, outputs: pairs of ports.
        left, right: the input arrays of each file by name.
    """

    inputs: tuple[Pairing, ...]
    outputs: tuple[Pairing, ...]
    left: Arrays
    right: Arrays


def _common_inputs(files: tuple[File, File], seed: int, inputs_file: Path | None) -> _Inputs:
    """Inputs that both files accept."""
    left, right = (Session(file.path) for file in files)
    inputs = tuple(paired(left.inputs, right.inputs, "inputs"))
    outputs = tuple(paired(left.outputs, right.outputs, "outputs"))

    def to_right(feeds: Arrays) -> dict[str, Array]:
        return assigned(right.inputs, [(p.right.name, p.to_right(feeds[p.left.name])) for p in inputs])

    def run(feeds: Arrays) -> None:
        left.run(feeds)
        right.run(to_right(feeds))

    if inputs_file is not None:
        feeds = assigned(left.inputs, list(from_file(inputs_file).items()), str(inputs_file))
        run(feeds)
    else:
        bounds, right_bounds = (whole_number_bounds(file.model) for file in files)
        for p in inputs:
            if p.right.name in right_bounds:
                bounds[p.left.name] = min(
                    bounds.get(p.left.name, right_bounds[p.right.name]), right_bounds[p.right.name]
                )
        feeds = working_inputs([p.both() for p in inputs], bounds, run, seed)
    return _Inputs(inputs, outputs, feeds, to_right(feeds))


class _PerturbedRuns:
    """The effect of one rounding error in every weight and input of the first file on its outputs."""

    def __init__(self, file: File, feeds: Arrays, seed: int) -> None:
        initializers = {i.name for i in file.model.graph.initializer}
        self._weights = {
            w.name: w.value for w in file.weights if w.name in initializers and w.value.dtype == np.float32
        }
        self._seed = seed
        self.feeds: list[Arrays] = []
        self.outputs: list[Arrays] = []
        for twin in range(TWINS):
            weights, rng = self._drawn(twin)
            self.feeds.append({n: a.astype(feeds[n].dtype) for n, a in perturbed(feeds, rng, "float32").items()})
            self.outputs.append(Session(file.path, replaced=weights).run(self.feeds[-1]))
            del weights  # before the next ones are drawn
        self.terms = max([1, *(a.size for a in (*self._weights.values(), *feeds.values()))])

    def _drawn(self, twin: int) -> tuple[Arrays, np.random.Generator]:
        rng = np.random.default_rng([self._seed, twin])
        return perturbed(self._weights, rng, "float32"), rng

    def weights(self) -> list[Arrays]:
        """The weights of each twin, drawn again: storing them would take several times the model."""
        return [self._drawn(twin)[0] for twin in range(TWINS)]

    def judge(self, runtime: str, outputs: Sequence[Pairing], left: Arrays, right: Arrays) -> list[Check]:
        """One check per output, in the layout of the first file."""
        back = {"channels last": "channels first", "channels first": "channels last"}
        items: list[Item] = []
        for p in outputs:
            other = replace(p, layout=back.get(p.layout, p.layout)).to_right(right[p.right.name])
            twins = tuple(t[p.left.name] for t in self.outputs)
            name = f"{p.left.name} in {runtime}"
            items.append(Item(name, p.left.name, p.right.name, left[p.left.name], other, twins))
        sizes = [rms(i.reference) for i in items if i.reference is not None and measurable(i.reference)]
        frame = Frame("export", "float32", None, "torch", self.terms)
        return compare_items(frame, items, floor=epsilon("float32") * max(sizes, default=0.0), semantic=True)


def _arbitrated(comparison: Comparison, noise: _PerturbedRuns, inputs: _Inputs, checks: list[Check]) -> list[Check]:
    """Checks in which a float32 difference that vanishes in float64 is a loss of precision."""
    required, free = FLOAT64 * sum(file.contents.weight_bytes for file in comparison.files), available()
    if free is not None and required > free:
        detail = f"not evaluated in float64: that needs {required / 2**30:.0f} GiB, and {free / 2**30:.0f} GiB are free"
        return [replace(c, detail=detail) if c.verdict is Verdict.DIFFERENT else c for c in checks]
    try:
        outputs = [
            reference_outputs(file.model, feeds, str(file.path.parent))
            for file, feeds in zip(comparison.files, (inputs.left, inputs.right), strict=True)
        ]
    except FileError:
        return checks  # without float64 values the difference stands
    exact = {c.torch: c.verdict for c in noise.judge("float64", inputs.outputs, outputs[0], outputs[1])}
    detail = "more than rounding explains, but both files agree in float64: one of them loses precision"
    return [
        replace(c, verdict=Verdict.NUMERIC, detail=detail)
        if c.verdict is Verdict.DIFFERENT and exact[c.torch] is Verdict.EQUIVALENT
        else c
        for c in checks
    ]


def _first_nodes(
    comparison: Comparison, noise: _PerturbedRuns, inputs: _Inputs
) -> tuple[FirstNode | None, FirstNode | None]:
    if max(file.contents.weight_bytes for file in comparison.files) > LARGEST:
        return None, None  # exposing every tensor requires a model in one file
    try:
        left = expose(load(comparison.files[0].path), [inputs.left, *noise.feeds], [{}, *noise.weights()])
        right = expose(load(comparison.files[1].path), [inputs.right], [{}])
    except FileError:
        return None, None
    return first_nodes(left, right, noise.terms)
