"""Convert a checkpoint of one side to the other side: tensor by tensor through the match plan, with a proof."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ...errors import FileError, InequivalenceError, PairError, UnprovenError
from ...frameworks.canary import refuse_broken
from ...frameworks.checkpoints import ENDINGS, FLOATS
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
from ...matching import MatchPlan
from ...matching.proof import Prover
from ...pairs.batches import batches_of
from ...pairs.pair import Pair
from ...phases.findings import Findings
from ...phases.match import plan_of
from ...records.result import Check, Verdict
from ...records.sides import SIDES, SideName, other_side
from ..match import is_open, remarks
from .fitting import fit
from .script import script_of, write_script
from .values import COMPUTED, Values, Written

LISTED = 12
"""A message lists at most this many open matches."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A converted file and its proof.

    Attributes:
        pair: its name.
        source, target, script: the files; no script by default.
        tensors: of the written file.
        left_out: tensors of the source that are not in the target -> why.
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
    """Convert a checkpoint of one side to the other side through the match of the pair, and prove the result.

    Args:
        pair: with the match of the parameters.
        source: `.safetensors`, its index, `.pt`, `.pth`, `.bin`, `.weights.h5` or `.keras`.
        target: the file to write, for the other side.
        dtype: float type to write; None keeps the type of each tensor.
        script: also write a conversion script that needs no xcheck to this file; None for none.
        prefix: that the keys of the source begin with, but those of the model do not.
        key: the key of a wrapped checkpoint that holds the weights.
        waive: patterns of keys of the source that may be missing or left over.
        seed, device, keras_backend, progress: as for `check`.

    Raises:
        FileError: the source cannot be read or does not fit this model, or the target cannot be written.
        UnprovenError: the parameter match is not proven.
        InequivalenceError: with these weights, the outputs of the two models differ.
        BadInput: the pair or an argument cannot be used.
    """
    source, target = Path(source), Path(target)
    script = None if script is None else Path(script)
    of, to = _sides_of(pair, source, target)
    if dtype is not None and dtype not in FLOATS:
        raise PairError("Unknown float type.", numbers=f"got {dtype!r}; types: {', '.join(FLOATS)}")
    choose_backend(pair, keras_backend)
    refuse_broken(canaries(pair))
    sides = Sides(Findings(pair, seed, 1, (), complete=False), choose_device(pair, device), progress)
    with ExitStack() as opened:
        order: tuple[SideName, SideName] = (pair.reference, other_side(pair.reference))
        runners: dict[SideName, Runner] = {side: opened.enter_context(sides.open(side)) for side in order}
        files = {side: checkpoints_of(runner) for side, runner in runners.items()}
        stored = opened.enter_context(files[of].open(source, key))
        fitted = fit(source, stored, files[of].keys(), runners[of].inventory(), prefix, waive)
        progress("matching")
        reference, follower = (runners[side] for side in order)
        plan = _without(plan_of(pair, seed, reference.inventory(), follower, reference), waive)
        if is_open(plan):
            raise _unproven(pair, plan)
        values = Values(replace(plan, reference=of), stored, fitted, runners, dtype)
        if values.lost():
            with sides.open(of, values.held) as again:
                values.know_constants(again.read())
        with _beside(target) as file:
            progress("writing")
            names = files[to].keys()
            # Values from building the model have the float type of the weights; a .keras file is the whole model.
            anew = file.suffix == ".keras" or not all(
                values.matches(e.path) for e in runners[to].inventory().canonical()
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
            prover = Prover(reference, follower, next(batches_of(pair, seed, 1)), seed)
            outputs = prover.as_they_stand(plan)
            _refuse_difference(pair, outputs, values.lost())
            if plan.proven is None and (proof := prover.judge(plan)).agrees is False:  # a map needs no proof
                raise _unproven(pair, replace(plan, unproven=proof.detail))
        if script and text:
            write_script(script, text)
        return Conversion(
            pair.name, str(source), str(target), script and str(script), written, values.left_out(), tuple(outputs)
        )


def _sides_of(pair: Pair, source: Path, target: Path) -> tuple[SideName, SideName]:
    """The side of the source file and of the target file."""
    found: list[SideName] = []
    for name, file in (("--from", source), ("--to", target)):
        of: SideName | None = next((side for side in SIDES if file.name.endswith(ENDINGS[side])), None)
        if of is None or (name == "--to" and file.name.endswith(".index.json")):
            legacy = file.suffix in (".h5", ".hdf5")
            raise FileError(
                "Files with this ending cannot be converted.",
                where=f"{name} {file}",
                numbers="; ".join(f"{side}: {', '.join(endings)}" for side, endings in ENDINGS.items()),
                cause="a .h5 file may hold a whole Keras 2 model; only weights in .weights.h5 are read"
                if legacy
                else None,
                todo=f"save it with model.save_weights('{file.stem}.weights.h5')" if legacy else None,
            )
        found.append(of)
    if found[0] == found[1]:
        raise PairError(
            f"Both files are {found[0]} checkpoints: there is nothing to convert.",
            numbers=f"--from {source} --to {target}",
            todo=f"let --to end in a format of the other framework: {', '.join(ENDINGS[other_side(found[0])])}",
        )
    if not source.is_file():
        raise FileError(
            "The file does not exist." if not source.exists() else "This is not a file.",
            where=f"--from {source}",
            todo="give the index of a sharded checkpoint: --from FOLDER/model.safetensors.index.json",
        )
    return found[0], found[1]


def _without(plan: MatchPlan, waived: Collection[str]) -> MatchPlan:
    """The plan without the waived parameters, of those that no output depends on."""
    meant = {p: "waived" for p in plan.idle if any(fnmatchcase(p, pattern) for pattern in waived)}
    left = {side: tuple(p for p in plan.unmatched(side) if p not in meant) for side in SIDES}
    return replace(plan, waived={**plan.waived, **meant}, unmatched_torch=left["torch"], unmatched_keras=left["keras"])


def _unproven(pair: Pair, plan: MatchPlan) -> UnprovenError:
    lines = [line for line in remarks(plan) if not line.startswith("waived")] + ([plan.proof] if plan.proof else [])
    idle = [p for p in (*plan.unmatched_torch, *plan.unmatched_keras) if p in plan.idle]
    todo = "xcheck match PAIR shows the whole plan; add the open parameters to weight_map, or leave them out with "
    todo += 'xcheck.waive("why")'
    if plan.unproven and not lines[:-1]:
        todo = "fix the port first: xcheck run PAIR shows where the two models differ, and why"
    elif idle and not is_open(_without(plan, idle)):
        todo = "no output depends on it; to leave it out: " + " ".join(f"--waive {p!r}" for p in idle)
    return UnprovenError(
        "Nothing was converted: the match of the parameters is not proven.",
        where=f"Pair({pair.name!r})",
        numbers="\n".join(lines if len(lines) <= LISTED else [*lines[: LISTED - 1], "...", lines[-1]]),
        todo=todo,
    )


def _refuse_difference(pair: Pair, checks: Sequence[Check], lost: Sequence[str]) -> None:
    """Raise if outputs differ or could not be compared.

    Args:
        pair: for the message.
        checks: of the outputs.
        lost: buffers whose values are not transferred.
    """
    bad = [c for c in checks if c.verdict is not Verdict.EQUIVALENT]
    if checks and not bad:
        return
    different = any(c.verdict is Verdict.DIFFERENT for c in bad)
    lines = [
        f"{c.name}: {c.detail}"
        if c.error is None or c.allowed is None
        else f"{c.name}: error {c.error:.1e}, rounding explains {c.allowed:.1e}"
        for c in bad
    ]
    error = UnprovenError(
        f"Nothing was converted: with these weights, the two models {'do not' if different else 'cannot be said to'} "
        "compute the same.",
        where=f"Pair({pair.name!r}), outputs of the first batch",
        numbers="\n".join(lines) or "no output was compared",
        cause=f"buffers without counterpart: {', '.join(lost)}; or the port is not equivalent" if lost else None,
        todo="xcheck run PAIR shows where they differ, and why" if different else "xcheck run PAIR shows why",
    )
    raise InequivalenceError(str(error)) if different else error


@contextmanager
def _beside(target: Path) -> Generator[Path]:
    """A temporary file that replaces the target if the block succeeds, and is removed if not.

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
