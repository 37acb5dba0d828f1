"""A checkpoint of one side, written as one of the other: through the plan, tensor by tensor, and proven."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FileError, InequivalenceError, PairError, UnprovenError
from ...frameworks.canary import refuse_broken
from ...frameworks.checkpoints import ENDINGS, FLOATS, Stored
from ...frameworks.protocol import Runner
from ...frameworks.sides import (
    Device,
    Progress,
    Sides,
    canaries,
    checkpoints_of,
    choose_backend,
    choose_device,
    silent,
)
from ...matching import Match, MatchPlan
from ...matching.proof import Prover
from ...pairs.batches import batches_of
from ...pairs.pair import Pair
from ...phases.findings import Findings
from ...phases.match import plan_of
from ...records.result import Check, Verdict
from ...records.sides import SIDES, SideName, other_side
from ...records.trace import Array, State
from ..match import is_open, remarks
from .fitting import Fit, fit
from .script import script_of, write_script

COMPUTED = "computed by its layer"


@dataclass(frozen=True, slots=True)
class Written:
    """One tensor of a written file.

    Attributes:
        key: in the file.
        path: of the parameter or buffer.
        source: what it was made from, as a weight map writes it; "" for one that is as the model was built, `COMPUTED`
            for one that its layer computes from its others when it is saved.
        layout: names of the layouts between the two; "" for these.
        shape, dtype: of the tensor.
        rounded: largest relative error of its elements against the exact value; 0 where it is exact.
    """

    key: str
    path: str
    source: str
    layout: str
    shape: tuple[int, ...]
    dtype: str
    rounded: float = 0.0


@dataclass(frozen=True, slots=True)
class Conversion:
    """A file that was written, and what was proven of it.

    Attributes:
        pair: its name.
        source, target, script: the files; no script by default.
        tensors: of the written file.
        left_out: what the source holds and the target does not -> why.
        outputs: checks of the outputs of both models, with the source's weights and with those of the written file.
    """

    pair: str
    source: str
    target: str
    script: str | None
    tensors: tuple[Written, ...]
    left_out: Mapping[str, str]
    outputs: tuple[Check, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        checks = [{"name": c.name, "verdict": c.verdict, "error": c.error, "allowed": c.allowed} for c in self.outputs]
        return {**asdict(self), "outputs": checks}


def convert(
    pair: Pair,
    source: str | Path,
    target: str | Path,
    *,
    dtype: str | None = None,
    script: str | Path | None = None,
    prefix: str = "",
    key: str | None = None,
    waive: Collection[str] = (),
    seed: int = 0,
    device: Device = "auto",
    keras_backend: str | None = None,
    progress: Progress = silent,
) -> Conversion:
    """Write a checkpoint of one side as one of the other side, through the match of the pair, and prove it.

    Args:
        pair: whose match says which weight is which.
        source: `.safetensors`, its index, `.pt`, `.pth`, `.bin`, `.weights.h5` or `.keras`.
        target: to write, a file of the other side.
        dtype: float type of what is written; None keeps that of each tensor.
        script: to write a conversion script to that needs no xcheck; None for none.
        prefix: that the keys begin with in the source, and not in the model.
        key: of a wrapped checkpoint, under which the weights are.
        waive: patterns of keys of the source that may be missing or left over.
        seed, device, keras_backend, progress: as for `check`.

    Raises:
        FileError: the source cannot be read, or is not one of this model, or the target cannot be written.
        UnprovenError: which weight is which is open.
        InequivalenceError: the two models, with these weights, do not compute the same.
        BadInput: another input of the user cannot be used.
    """
    source, target = Path(source), Path(target)
    script = None if script is None else Path(script)
    of, to = _sides_of(pair, source, target)
    if dtype is not None and dtype not in FLOATS:
        raise PairError("There is no such float type.", numbers=f"got {dtype!r}; types: {', '.join(FLOATS)}")
    choose_backend(pair, keras_backend)
    refuse_broken(canaries(pair))
    sides = Sides(Findings(pair, seed, 1, (), complete=False), choose_device(pair, device), progress)
    with ExitStack() as opened:
        runners = {
            side: opened.enter_context(sides.open(side)) for side in (pair.reference, other_side(pair.reference))
        }
        files = {side: checkpoints_of(runner) for side, runner in runners.items()}
        stored = opened.enter_context(files[of].open(source, key))
        fitted = fit(source, stored, files[of].keys(), runners[of].inventory(), prefix, waive)
        progress("matching")
        reference, follower = runners[pair.reference], runners[other_side(pair.reference)]
        plan = plan_of(pair, seed, reference.inventory(), follower, reference)
        plan = _without(plan, waive)
        if is_open(plan):
            raise _unproven(pair, plan)
        values = Values(replace(plan, reference=of), stored, fitted, runners, dtype)
        with _beside(target) as file:
            progress("writing")
            names = files[to].keys()
            # What is as the model was built is so in the float type of the weights; a .keras file is the whole model.
            anew = file.suffix == ".keras" or not all(
                map(values.matches, (e.path for e in runners[to].inventory().canonical()))
            )
            with sides.open(to, values.usual) if anew else nullcontext(runners[to]) as shipped:
                values.built = shipped.read()
                checkpoints_of(shipped).save(file, values.value)
            with files[to].open(file, None) as new:
                written = tuple(values.written(name, path, new) for name, path in names.items() if name in new.shapes)
                built = {w.key: new.get(w.key) for w in written if not w.layout}
            computed = [w.path for w in written if w.source == COMPUTED]
            text = script and script_of(pair.name, source, target, script, values, names, dtype, built, computed)
            progress("proving")
            files[to].load(file)
            values.prove(target)
            outputs = Prover(reference, follower, next(batches_of(pair, seed, 1)), seed).as_they_stand(plan)
            _refuse_difference(pair, outputs, plan)
        if script and text:
            write_script(script, text)
        return Conversion(
            pair.name, str(source), str(target), script and str(script), written, values.left_out(), tuple(outputs)
        )


def _sides_of(pair: Pair, source: Path, target: Path) -> tuple[SideName, SideName]:
    """The sides that the files are of."""
    found: list[SideName] = []
    for name, file in (("--from", source), ("--to", target)):
        of = next((side for side in SIDES if file.name.endswith(ENDINGS[side])), None)
        if of is None or (name == "--to" and file.name.endswith(".index.json")):
            legacy = file.suffix in (".h5", ".hdf5")
            raise FileError(
                "The ending of this file's name is no format of weights that can be converted.",
                where=f"{name} {file}",
                numbers="; ".join(f"{side}: {', '.join(endings)}" for side, endings in ENDINGS.items()),
                cause="a whole model in the form of Keras 2, or weights without the ending .weights.h5"
                if legacy
                else None,
                todo=f"save it with model.save_weights('{file.stem}.weights.h5')" if legacy else None,
            )
        found.append(of)
    if found[0] == found[1]:
        raise PairError(
            f"Both files are of the {found[0]} side, and there is nothing to convert.",
            numbers=f"--from {source} --to {target}",
            todo=f"give --to a file of the other side: {', '.join(ENDINGS[other_side(found[0])])}",
        )
    if not source.is_file():
        raise FileError(
            "There is no such file." if not source.exists() else "This is no file.",
            where=f"--from {source}",
            todo="a sharded checkpoint is read by its index: --from FOLDER/model.safetensors.index.json",
        )
    return found[0], found[1]


def _without(plan: MatchPlan, waived: Collection[str]) -> MatchPlan:
    """The plan without what is waived of the parameters that no output depends on."""
    meant = {p: "waived" for p in plan.idle if any(fnmatchcase(p, pattern) for pattern in waived)}
    left = {side: tuple(p for p in plan.unmatched(side) if p not in meant) for side in SIDES}
    return replace(plan, waived={**plan.waived, **meant}, unmatched_torch=left["torch"], unmatched_keras=left["keras"])


def _unproven(pair: Pair, plan: MatchPlan) -> UnprovenError:
    idle = [p for p in (*plan.unmatched_torch, *plan.unmatched_keras) if p in plan.idle]
    todo = "xcheck match PAIR shows the whole plan; name what is open in weight_map, or leave it out there with "
    todo += 'xcheck.waive("why")'
    if idle and not is_open(_without(plan, idle)):
        todo = "no output depends on it; to leave it out: " + " ".join(f"--waive {p!r}" for p in idle)
    lines = [line for line in remarks(plan) if not line.startswith("waived")] + ([plan.proof] if plan.proof else [])
    return UnprovenError(
        "Nothing is converted: which weight is which is open.",
        where=f"Pair({pair.name!r})",
        numbers="\n".join(lines),
        todo=todo,
    )


def _refuse_difference(pair: Pair, checks: Sequence[Check], plan: MatchPlan) -> None:
    if checks and all(c.verdict is Verdict.EQUIVALENT for c in checks):
        return
    bad = [c for c in checks if c.verdict is not Verdict.EQUIVALENT]
    numbers = "\n".join(
        f"{c.name}: {c.detail}"
        if c.error is None or c.allowed is None
        else f"{c.name} is {c.error:.1e} apart, of which rounding explains {c.allowed:.1e}"
        for c in bad
    )
    text = str(
        PairError(
            "Nothing is converted: with these weights, the two models do not compute the same.",
            where=f"Pair({pair.name!r}), outputs of the first batch",
            numbers=numbers or "no output was compared",
            cause=", ".join(f"{side} {path}" for side, path in plan.unmatched_buffers[:8])
            and "the port differs; or a buffer without counterpart matters: "
            + ", ".join(f"{side} {path}" for side, path in plan.unmatched_buffers[:8]),
            todo="xcheck run PAIR says where they differ, and why",
        )
    )
    if any(c.verdict is Verdict.DIFFERENT for c in bad):
        raise InequivalenceError(text)
    raise UnprovenError(text)


@contextmanager
def _beside(target: Path) -> Generator[Path]:
    """A file to write that becomes the target when the block ends well; else nothing is left of it.

    Raises:
        FileError: it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            file = Path(folder) / target.name
            yield file
            os.replace(file, target)
    except OSError as error:
        raise FileError("This file cannot be written.", where=str(target), cause=str(error)) from error


class Values:
    """The values of the tensors to write, made one at a time.

    Args:
        plan: from the side of the source to the other.
        stored: the source.
        fitted: which of its tensors is which.
        runners: both sides, in float64.
        dtype: float type to write; None keeps that of each tensor.

    Attributes:
        usual: the float type to write where none is told.
        built: the target's side in the float type of the file, before anything is loaded.
        inexact: canonical path of the target -> largest relative error, of what cannot be written exactly.
    """

    def __init__(
        self, plan: MatchPlan, stored: Stored, fitted: Fit, runners: Mapping[SideName, Runner], dtype: str | None
    ) -> None:
        self.plan, self.stored, self.fitted, self.dtype = plan, stored, fitted, dtype
        self.source, self.target = runners[plan.reference], runners[plan.follower]
        self.unloaded, self.own = self.target.read(), self.source.read()
        self.built = self.unloaded
        sizes = dict.fromkeys(FLOATS, 0)
        for key, name in stored.dtypes.items():
            sizes[name] = sizes.get(name, 0) + int(np.prod(stored.shapes[key]))
        self.usual = dtype or max(FLOATS, key=lambda name: (sizes[name], name == "float32"))
        self.inexact: dict[str, float] = {}

    def get(self, path: str) -> Array:
        """A tensor of the source, in its own float type; what the file does not hold is as the model makes it.

        Raises:
            FileError: a tied tensor is stored several times, with different values.
        """
        keys = self.fitted.keys.get(path)
        if not keys:
            return self.own.value(path)
        array = self.stored.get(keys[0])
        for key in keys[1:]:
            if array.tobytes() != self.stored.get(key).tobytes():
                raise FileError(
                    "The checkpoint holds different values for a weight that the model ties.",
                    where=f"{keys[0]}, {key}",
                    cause="it was saved from a model that does not tie them",
                    todo="let build untie them, on both sides, or save it from the tied model",
                )
        return array

    def matches(self, path: str) -> tuple[Match, ...]:
        """The matches that the target's tensor at a path is made from."""
        return tuple(m for m in self.plan.matches if path in m.piece(self.plan.follower).paths)

    def value(self, path: str) -> Array | None:
        """A tensor of the target; None where nothing of the source belongs to it."""
        matches = self.matches(path)
        if not matches:
            return None
        arrays = {p: self.get(p) for m in matches for p in m.piece(self.plan.reference).paths}
        held = {str(array.dtype) for p, array in arrays.items() if p in self.fitted.keys}
        name = _common(held) if held else self.usual
        if not all(map(is_exact, matches)) or len({array.dtype for array in arrays.values()}) > 1:
            arrays = {p: array.astype(np.float64) for p, array in arrays.items()}
        exact = replace(self.plan, matches=matches).for_follower(State(arrays), slots=False).value(path)
        array = _typed(exact, self.dtype if self.dtype and name in FLOATS else name)
        self._note(path, exact, array)
        return array

    def _note(self, path: str, exact: Array, array: Array) -> None:
        if exact.dtype == array.dtype:
            return
        true, kept = exact.astype(np.float64), array.astype(np.float64)
        off = np.abs(kept - true) / np.where(true == 0, 1.0, np.abs(true))
        if off.size and off.max() > 0:
            self.inexact[path] = float(off.max())

    def prove(self, target: Path) -> None:
        """Compare what was loaded from the written file with what was meant, and bring it back to the source's side.

        The source's side then has the values of the source, and what cannot be written exactly as it was written.

        Raises:
            FileError: a tensor was not loaded as it was written, or the source holds several values for one.
        """
        held = self.target.read()
        for path in dict.fromkeys(p for m in self.plan.matches for p in m.piece(self.plan.follower).paths):
            meant = self.value(path)
            if meant is not None and not _equal(held.value(path), meant):
                raise FileError(
                    "The written file does not load as it was written.",
                    where=f"{target}: {path}",
                    cause="a layer reads its weights in another way than it saves them",
                )
        back = replace(self.plan, reference=self.plan.follower).for_follower(held, slots=False)
        state: dict[str, Array] = {}
        for path in self.own.values():
            ours = [m for m in self.plan.matches if path in m.piece(self.plan.reference).paths]
            state[path] = self.get(path)
            if any(not is_exact(m) or set(m.piece(self.plan.follower).paths) & self.inexact.keys() for m in ours):
                state[path] = back.value(path)
                continue
            if path not in self.fitted.keys and not ours:
                del state[path]  # stays as the model makes it
                continue
            parts = [m.piece(self.plan.reference).part for m in ours]
            if not all(_equal(part.select(back.value(path)), part.select(state[path])) for part in parts):
                raise FileError(
                    "The source holds different values where the target has one weight.",
                    where=f"{self.plan.reference} {path}",
                    numbers=f"{self.plan.follower}: {', '.join(m.name(self.plan.follower) for m in ours)}",
                    cause="copies that are trained apart are not one weight",
                    todo="xcheck run PAIR says what ties them on the other side",
                )
        unloaded = {path: array for path, array in self.unloaded.values().items() if not self.matches(path)}
        self.target.write(State(unloaded))  # in float64 throughout, not as the file rounds it
        self.source.write(State({path: array.astype(_wide(array)) for path, array in state.items()}))

    def written(self, key: str, path: str, new: Stored) -> Written:
        """What is to be said of one tensor of the written file."""
        path = self.target.inventory().canonical_path(path)
        matches = self.matches(path)
        sources = [m.name(self.plan.reference) + (f" {self._offset(m):+g}" if m.offset else "") for m in matches]
        layouts = dict.fromkeys(m.layout.name for m in matches)
        source = "; ".join(sources)
        if not matches and not _equal(_typed(self.built.value(path), new.dtypes[key]), new.get(key)):
            source = COMPUTED
        held = new.shapes[key], new.dtypes[key]
        return Written(key, path, source, ", ".join(layouts), *held, self.inexact.get(path, 0.0))

    def _offset(self, match: Match) -> float:
        return match.offset if self.plan.follower == "keras" else -match.offset

    def left_out(self) -> dict[str, str]:
        """What the source holds and the target does not -> why."""
        used = {p for m in self.plan.matches for p in m.piece(self.plan.reference).paths}
        unused = {key: path for path, keys in self.fitted.keys.items() if path not in used for key in keys}
        why = {key: self.plan.waived.get(path, "a buffer without counterpart") for key, path in unused.items()}
        parts = {p: why for p, why in self.plan.waived.items() if p.partition("[")[0] in used}
        return {**self.fitted.left_out, **why, **parts}


def is_exact(match: Match) -> bool:
    """Whether a value goes through a match bit by bit: nothing is added to it."""
    return not match.offset and len(match.torch_piece.paths) == len(match.keras_piece.paths) == 1


def _common(names: set[str]) -> str:
    """The float type that holds all of several."""
    return names.pop() if len(names) == 1 else "float64" if "float64" in names else "float32"


def _typed(array: Array, name: str) -> Array:
    return array.astype(name) if str(array.dtype) in FLOATS and name in FLOATS else array


def _wide(array: Array) -> Any:
    return np.float64 if str(array.dtype) in FLOATS else array.dtype


def _equal(held: Array, meant: Array) -> bool:
    held, meant = held.astype(_wide(held)), meant.astype(_wide(meant))
    return np.array_equal(held, meant, equal_nan=held.dtype.kind == "f")
