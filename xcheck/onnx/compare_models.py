"""Two ONNX files from anywhere: do they compute the same, and what is in them?"""

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
from ..records.result import Check, Verdict
from ..records.room import available
from ..records.trace import Array, Arrays
from ..stepping.lockstep import perturbed
from .files import LARGEST, Weight, invalid, load, weights
from .first_node import FirstNode, first_nodes, inside
from .inputs import from_file, tried, whole_number_bounds
from .pairing import Pairing, paired
from .parameters import Located, locate
from .runtime import Session, assigned, reference_outputs
from .structure import Structure, structure

FLOAT64 = 5
"""Bytes that are to be free per byte of weights for the evaluator of the standard: 4 were taken for two of 2.2 GB."""


@dataclass(frozen=True, slots=True)
class File:
    """One of the two.

    Attributes:
        path: of the file.
        model: an `onnx.ModelProto`, without what it keeps in files beside it.
        weights: its floating-point constants.
        made_of: its structure.
    """

    path: Path
    model: Any
    weights: tuple[Weight, ...]
    made_of: Structure


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two files have shown.

    Attributes:
        files: both.
        inputs, outputs: which is which; empty where they do not fit.
        checks: `torch` is the first file in them, and `keras` the second.
        located: where each weight of the first file is in the second.
        first: in each file, the first node that has no equal in the other; None where there is none.
        sizes: shapes of the inputs that both were run on.
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


def compare_models(left: Path, right: Path, seed: int = 0, given: Path | None = None) -> Comparison:
    """Run two files on the same random inputs and compare everything that they have.

    Args:
        left, right: the files.
        seed: of the inputs.
        given: an .npz file with the inputs of the first file by name, to be used instead.

    Raises:
        FileError: a file cannot be read.
    """
    files = (_opened(left), _opened(right))
    named = {w.name: w.value for w in files[0].weights if w.value.size > 1 and w.value.min() != w.value.max()}
    located = tuple(locate(named, files[1].weights))
    found = Comparison(files, located=located, checks=(*_file_checks(files), *_weight_checks(located)))
    try:
        return _run(found, seed, given)
    except FileError as error:
        why = " ".join(f"{error.what} {error.parts['numbers'] or ''} {error.parts['cause'] or ''}".split())
        return replace(found, checks=(*found.checks, _said("outputs", Verdict.INCONCLUSIVE, why)))


def _opened(path: Path) -> File:
    model = load(path, weights=False)
    held = weights(model, path)
    return File(path, model, tuple(held), structure(model, held))


def _file_checks(files: tuple[File, File]) -> list[Check]:
    checks: list[Check] = []
    for file in files:
        wrong, left = invalid(file.path), file.made_of.leftovers
        name = file.path.name
        checks.append(
            _said(f"{name}: onnx.checker", Verdict.DIFFERENT if wrong else Verdict.EQUIVALENT, wrong or "valid")
        )
        told = f"{len(left)} of training: {'; '.join(left[:3])}" if left else "none belongs into training"
        checks.append(_said(f"{name}: operators", Verdict.DIFFERENT if left else Verdict.EQUIVALENT, told))
    return checks


def _weight_checks(located: Sequence[Located]) -> list[Check]:
    """What is nearly a weight of the other file is a fault; what is nowhere in it may be folded, and outputs decide."""
    altered = [_said(f"weight {at.path}", Verdict.DIFFERENT, at.altered) for at in located if at.altered]
    rounded = [_said(f"weight {at.path}", Verdict.NUMERIC, f"stored in {at.rounded}") for at in located if at.rounded]
    return altered + rounded


def _said(name: str, verdict: Verdict, told: str) -> Check:
    return Check("export", None, None, name, name, name, verdict, detail=told)


def _run(found: Comparison, seed: int, given: Path | None) -> Comparison:
    fed = _fed(found.files, seed, given)
    noise = _Noise(found.files[0], fed.left, seed)
    checks: list[Check] = []
    for runtime, optimized in (("onnxruntime", False), ("onnxruntime, optimized", True)):
        made = [
            Session(file.path, optimized=optimized).run(feeds)  # one after the other: a session may hold gigabytes
            for file, feeds in zip(found.files, (fed.left, fed.right), strict=True)
        ]
        checks += noise.judge(runtime, fed.outputs, made[0], made[1])
    if any(c.verdict is Verdict.DIFFERENT for c in checks):
        checks = _arbitrated(found, noise, fed, checks)
    if max(file.made_of.weight_bytes for file in found.files) > LARGEST:  # to show every tensor takes one file
        told = "the first node that differs is not looked for in files of more than 2 GB"
        checks = [
            c if c.verdict is Verdict.EQUIVALENT else replace(c, detail="; ".join(filter(None, (c.detail, told))))
            for c in checks
        ]
    sizes = {name: array.shape for name, array in fed.left.items()}
    done = replace(found, inputs=fed.inputs, outputs=fed.outputs, checks=(*found.checks, *checks), sizes=sizes)
    if all(c.verdict is Verdict.EQUIVALENT for c in checks):
        return done
    return replace(done, first=_first(found, noise, fed))


class _Fed(NamedTuple):
    """What both files are run on.

    Attributes:
        inputs, outputs: which is which.
        left, right: the inputs of each file by name.
    """

    inputs: tuple[Pairing, ...]
    outputs: tuple[Pairing, ...]
    left: Arrays
    right: Arrays


def _fed(files: tuple[File, File], seed: int, given: Path | None) -> _Fed:
    """Inputs that both files take."""
    left, right = (Session(file.path) for file in files)
    inputs = tuple(paired(left.inputs, right.inputs, "inputs"))
    outputs = tuple(paired(left.outputs, right.outputs, "outputs"))

    def theirs(feeds: Arrays) -> dict[str, Array]:
        return assigned(right.inputs, [(p.right.name, p.to_right(feeds[p.left.name])) for p in inputs])

    def run(feeds: Arrays) -> None:
        left.run(feeds)
        right.run(theirs(feeds))

    if given is not None:
        feeds = assigned(left.inputs, list(from_file(given).items()), str(given))
        run(feeds)
    else:
        bounds, others = (whole_number_bounds(file.model) for file in files)
        for p in inputs:
            if p.right.name in others:
                bounds[p.left.name] = min(bounds.get(p.left.name, others[p.right.name]), others[p.right.name])
        feeds = tried([p.both() for p in inputs], bounds, run, seed)
    return _Fed(inputs, outputs, feeds, theirs(feeds))


class _Noise:
    """What one rounding error in every weight and input of the first file does to its outputs."""

    def __init__(self, file: File, feeds: Arrays, seed: int) -> None:
        initializers = {i.name for i in file.model.graph.initializer}
        self._held = {w.name: w.value for w in file.weights if w.name in initializers and w.value.dtype == np.float32}
        self._seed = seed
        self.feeds: list[Arrays] = []
        self.outputs: list[Arrays] = []
        for twin in range(TWINS):
            weights, rng = self._drawn(twin)
            self.feeds.append({n: a.astype(feeds[n].dtype) for n, a in perturbed(feeds, rng, "float32").items()})
            self.outputs.append(Session(file.path, replaced=weights).run(self.feeds[-1]))
            del weights  # before the next are drawn
        self.terms = max([1, *(a.size for a in (*self._held.values(), *feeds.values()))])

    def _drawn(self, twin: int) -> tuple[Arrays, np.random.Generator]:
        rng = np.random.default_rng([self._seed, twin])
        return perturbed(self._held, rng, "float32"), rng

    def weights(self) -> list[Arrays]:
        """The weights of each twin, drawn again: holding them would take several times the model."""
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


def _arbitrated(found: Comparison, noise: _Noise, fed: _Fed, checks: list[Check]) -> list[Check]:
    """A difference in float32 that is none where both files are evaluated in float64 is a loss of precision."""
    needed, free = FLOAT64 * sum(file.made_of.weight_bytes for file in found.files), available()
    if free is not None and needed > free:
        told = f"not evaluated in float64, which takes {needed / 2**30:.0f} GiB where {free / 2**30:.0f} are free"
        return [replace(c, detail=told) if c.verdict is Verdict.DIFFERENT else c for c in checks]
    try:
        made = [
            reference_outputs(file.model, feeds, str(file.path.parent))
            for file, feeds in zip(found.files, (fed.left, fed.right), strict=True)
        ]
    except FileError:
        return checks  # more than rounding explains, and nothing speaks against it
    exact = {c.torch: c.verdict for c in noise.judge("float64", fed.outputs, made[0], made[1])}
    told = "more than rounding explains, though in float64 both files compute the same: precision is lost"
    return [
        replace(c, verdict=Verdict.NUMERIC, detail=told)
        if c.verdict is Verdict.DIFFERENT and exact[c.torch] is Verdict.EQUIVALENT
        else c
        for c in checks
    ]


def _first(found: Comparison, noise: _Noise, fed: _Fed) -> tuple[FirstNode | None, FirstNode | None]:
    if max(file.made_of.weight_bytes for file in found.files) > LARGEST:
        return None, None  # every tensor is shown by a model of one piece
    try:
        left = inside(load(found.files[0].path), [fed.left, *noise.feeds], [{}, *noise.weights()])
        right = inside(load(found.files[1].path), [fed.right], [{}])
    except FileError:
        return None, None
    return first_nodes(left, right, noise.terms)
