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
"""Most lines on what is open in a message."""


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
            # What is as the model was built is so in the float type of the weights; a .keras file is the whole model.
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
            if plan.proven is None and (proof := prover.judge(plan)).agrees is False:  # a map, of which nobody asked
                raise _unproven(pair, replace(plan, unproven=proof.detail))
        if script and text:
            write_script(script, text)
        return Conversion(
            pair.name, str(source), str(target), script and str(script), written, values.left_out(), tuple(outputs)
        )


def _sides_of(pair: Pair, source: Path, target: Path) -> tuple[SideName, SideName]:
    """The sides that the files are of."""
    found: list[SideName] = []
    for name, file in (("--from", source), ("--to", target)):
        of: SideName | None = next((side for side in SIDES if file.name.endswith(ENDINGS[side])), None)
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
    lines = [line for line in remarks(plan) if not line.startswith("waived")] + ([plan.proof] if plan.proof else [])
    idle = [p for p in (*plan.unmatched_torch, *plan.unmatched_keras) if p in plan.idle]
    todo = "xcheck match PAIR shows the whole plan; name what is open in weight_map, or leave it out there with "
    todo += 'xcheck.waive("why")'
    if plan.unproven and not lines[:-1]:
        todo = "xcheck run PAIR says where the two models differ, and why; mend the port first"
    elif idle and not is_open(_without(plan, idle)):
        todo = "no output depends on it; to leave it out: " + " ".join(f"--waive {p!r}" for p in idle)
    return UnprovenError(
        "Nothing is converted: which weight is which is open.",
        where=f"Pair({pair.name!r})",
        numbers="\n".join(lines if len(lines) <= LISTED else [*lines[: LISTED - 1], "...", lines[-1]]),
        todo=todo,
    )


def _refuse_difference(pair: Pair, checks: Sequence[Check], lost: Sequence[str]) -> None:
    """Raise where outputs differ, or could not be compared.

    Args:
        pair: for the message.
        checks: of the outputs.
        lost: buffers whose values go nowhere.
    """
    bad = [c for c in checks if c.verdict is not Verdict.EQUIVALENT]
    if checks and not bad:
        return
    different = any(c.verdict is Verdict.DIFFERENT for c in bad)
    lines = [
        f"{c.name}: {c.detail}"
        if c.error is None or c.allowed is None
        else f"{c.name} is {c.error:.1e} apart, of which rounding explains {c.allowed:.1e}"
        for c in bad
    ]
    error = UnprovenError(
        f"Nothing is converted: with these weights, the two models {'do not' if different else 'cannot be said to'} "
        "compute the same.",
        where=f"Pair({pair.name!r}), outputs of the first batch",
        numbers="\n".join(lines) or "no output was compared",
        cause=f"buffers without counterpart: {', '.join(lost)}; or the port differs" if lost else None,
        todo="xcheck run PAIR says where they differ, and why" if different else "xcheck run PAIR says more",
    )
    raise InequivalenceError(str(error)) if different else error


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
