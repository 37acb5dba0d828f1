"""Exports of both sides -> checks: is each file valid, whole and free of training, and does it compute the model?

Everything is judged in float32, as files are shipped: an output may be as far from the reference's float64 value as
rounding explains, by the noise that the models themselves show. Where an output is further off, the same file
evaluated in float64 decides: if it computes the model there, the runtime loses precision (NUMERIC), else the file is
another computation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ...numerics.compare import masked, measurable, rms
from ...numerics.judge import Frame, Item, compare_items
from ...numerics.tolerance import epsilon
from ...onnx.run import OPTIMIZED, PLAIN, STANDARD, Export, Exports, Native
from ...onnx.structure import Tied
from ...records.result import Check, Tie, Verdict
from ...records.sides import SideName, other_side
from ...records.trace import Array, Arrays

PRECISION = "float32"


def export_checks(found: Exports, reference: SideName, ties: Sequence[Tie] = ()) -> list[Check]:
    """Every file against the model it was written from, file against file, and model against model.

    Args:
        found: by `export.run.exported`.
        reference: side of the pair.
        ties: groups that are one storage on a side.
    """
    checks: list[Check] = []
    for side in (reference, other_side(reference)):
        files = [f for f in found.files if f.side == side]
        if not files:
            checks.append(_said(side, "export", Verdict.INCONCLUSIVE, "this side has no way to be exported"))
        for file in files:
            checks += file_checks(file)
            checks += _tie_checks(file, [tie.paths(side) for tie in ties if tie.tied(side)])
            if file.problem is None:
                checks += output_checks(found, file)
                checks.append(_free_batch(found, file))
    return checks + between(found, reference)


def file_checks(file: Export) -> list[Check]:
    """What can be said of a file without running it."""
    side, route = file.side, file.route
    if file.problem is not None or file.structure is None:
        return [_said(side, route, Verdict.INCONCLUSIVE, f"not exported: {file.problem}")]
    valid = Verdict.DIFFERENT if file.invalid else Verdict.EQUIVALENT
    opset = ", ".join(f"{domain} {version}" for domain, version in file.structure.opset.items())
    checks = [_said(side, f"{route}: onnx.checker", valid, file.invalid or f"valid, opset {opset}")]
    left = file.structure.leftovers
    told = f"{len(left)} of training: {'; '.join(left[:3])}" if left else "none belongs into training"
    checks.append(_said(side, f"{route}: operators", Verdict.DIFFERENT if left else Verdict.EQUIVALENT, told))
    return checks + list(_weight_checks(file))


def _weight_checks(file: Export) -> Iterator[Check]:
    wasted = {path: s for s in file.storages for path in s.paths}
    for at in file.located:
        verdict, told = Verdict.EQUIVALENT, ""
        if at.altered:
            verdict, told = Verdict.DIFFERENT, at.altered
        elif at.rounded:
            verdict, told = Verdict.NUMERIC, f"stored in {at.rounded}"
        elif at.pieces:
            told = f"in parts, or with others: {', '.join(at.pieces[:4])}"
        elif not at.holders:
            told = "no constant has its values: folded into others, or not used by the outputs"
        else:
            told = _held(wasted[at.path])
        yield _said(file.side, f"{file.route}: {at.path}", verdict, told, at.path)


def _held(storage: Tied) -> str:
    held_in = ", ".join(f"{name} ({how})" for name, how in zip(storage.names, storage.layouts, strict=True))
    copies = f"{len(storage.names)} copies, {storage.wasted} bytes wasted: " if storage.wasted else ""
    return f"{copies}{held_in}"


def _tie_checks(file: Export, groups: Sequence[Sequence[str]]) -> Iterator[Check]:
    """What became of each tie; a copy wastes space and computes the same, so it is told and no failure."""
    for group in groups:
        storage = next((s for s in file.storages if set(group) & set(s.paths)), None)
        if file.problem is None:
            once = "stored once: " if storage and not storage.wasted else ""
            told = f"{once}{_held(storage)}" if storage else "not stored as it is"
            name = f"{file.side}: tie of {group[0]} after {file.route}"
            yield _said(file.side, name, Verdict.EQUIVALENT, told, " = ".join(group))


def output_checks(found: Exports, file: Export) -> list[Check]:
    """A file against the model it was written from, in everything that ran it."""
    whole = found.natives[0]
    standard = file.outputs.get((STANDARD, whole.batch.size))
    exact = _against_model(found, file, whole, STANDARD, standard) if isinstance(standard, Mapping) else {}
    checks: list[Check] = []
    for runtime in (PLAIN, OPTIMIZED):
        outputs = file.outputs.get((runtime, whole.batch.size), "it was not run")
        if isinstance(outputs, str):
            checks.append(_said(file.side, f"{file.route} in {runtime}", Verdict.INCONCLUSIVE, outputs))
        else:
            made = _against_model(found, file, whole, runtime, outputs)
            checks += [_arbitrated(check, exact.get(output)) for output, check in made.items()]
    agreed = all(c.verdict is not Verdict.DIFFERENT for c in checks)
    told = "onnxruntime computes the model from this file, the evaluator of the standard does not"
    return checks + [
        replace(c, verdict=Verdict.INCONCLUSIVE, detail=told) if agreed and c.verdict is Verdict.DIFFERENT else c
        for c in exact.values()
    ]


def _arbitrated(check: Check, exact: Check | None) -> Check:
    """A difference in float32 that is none in float64 is a loss of precision."""
    if check.verdict is not Verdict.DIFFERENT or exact is None or exact.verdict is not Verdict.EQUIVALENT:
        return check
    told = "more than rounding explains, though in float64 the file computes the model: precision is lost"
    return replace(check, verdict=Verdict.NUMERIC, detail=told)


def _against_model(found: Exports, file: Export, native: Native, runtime: str, outputs: Arrays) -> dict[str, Check]:
    """Output -> what is to be said of it."""
    own, truth = native.outputs[file.side], native.truth[file.side]
    frame = Frame("export", PRECISION, None, file.side, found.terms)
    items = [
        Item(
            f"{mine}: {file.route} in {runtime}",
            mine if file.side == "torch" else None,
            mine if file.side == "keras" else None,
            _masked(truth.get(true), native, mine, true),
            _masked(outputs.get(mine), native, mine, true),
            (
                _masked(own.get(mine), native, mine, true),
                *(_masked(twin.get(true), native, mine, true) for twin in native.twins[file.side]),
            ),
        )
        for mine, true in _paired(own, truth)
    ]
    return dict(zip((name for name, _ in _paired(own, truth)), _compared(frame, items), strict=True))


def _free_batch(found: Exports, file: Export) -> Check:
    """Whether the file takes a batch of another size, and computes the model on it."""
    other = found.natives[1]
    name = f"{file.route}: batch of {other.batch.size}"
    outputs = file.outputs.get((PLAIN, other.batch.size), "it was not run")
    if isinstance(outputs, str):
        ran = not isinstance(file.outputs.get((PLAIN, found.natives[0].batch.size)), str)
        why = f"the exporter cannot leave the batch free: {file.fixed}" if file.fixed else outputs
        return _said(file.side, name, Verdict.DIFFERENT if ran and not file.fixed else Verdict.INCONCLUSIVE, why)
    made = _against_model(found, file, other, PLAIN, outputs)
    worst = max(made.values(), key=lambda c: (-list(Verdict).index(c.verdict), c.severity))
    return replace(worst, name=name)


def between(found: Exports, reference: SideName) -> list[Check]:
    """Export against export, and model against model, in float32."""
    if found.apart:
        detail = f"each export was told from its own model alone: {found.apart}"
        return [
            Check(
                "export", None, None, "one side's against the other's", None, None, Verdict.INCONCLUSIVE, detail=detail
            )
        ]
    whole = found.natives[0]
    mine, theirs = whole.outputs[reference], whole.outputs[other_side(reference)]
    checks = _sides("models in float32", found, whole, mine, theirs, reference)
    for runtime in (PLAIN, OPTIMIZED):
        usual = [next((f for f in found.files if f.side == s), None) for s in (reference, other_side(reference))]
        outputs = [f.outputs.get((runtime, whole.batch.size)) if f else None for f in usual]
        left, right = outputs
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            checks += _sides(f"exports in {runtime}", found, whole, left, right, reference)
    return checks


def _sides(what: str, found: Exports, native: Native, mine: Arrays, theirs: Arrays, reference: SideName) -> list[Check]:
    frame = Frame("export", PRECISION, None, reference, found.terms)
    items: list[Item] = []
    for left, right in _paired(mine, theirs):
        names = (left, right) if reference == "torch" else (right, left)
        one, two = (_masked(a, native, left, right) for a in (mine.get(left), theirs.get(right)))
        twins = tuple(_masked(t.get(left), native, left, right) for t in native.twins[reference])
        truth = _masked(native.truth[reference].get(left), native, left, right)
        items.append(Item(f"{left}: {what}", *names, one, two, tuple(_around(one, t, truth) for t in twins)))
    return _compared(frame, items)


def agrees(found: Exports, side: SideName, expected: Arrays, outputs: Arrays) -> bool:
    """Whether outputs on the whole batch are what is expected, but for rounding.

    Args:
        found: shows the rounding.
        side: whose words they are in.
        expected, outputs: in float32.
    """
    checks = _sides("", found, found.natives[0], expected, outputs, side)
    return bool(checks) and all(c.verdict is Verdict.EQUIVALENT for c in checks)


def _around(value: Array | None, twin: Array | None, truth: Array | None) -> Array | None:
    """A value with the rounding errors of a twin: what it might have been as well."""
    if value is None or twin is None or truth is None or value.dtype.kind != "f" or value.shape != truth.shape:
        return None
    return value + (twin - truth)


def _paired(mine: Arrays, theirs: Arrays) -> list[tuple[str, str]]:
    """The outputs of two sides by name; one output each needs none."""
    if len(mine) == len(theirs) == 1:
        return [(next(iter(mine)), next(iter(theirs)))]
    return [(name, name) for name in dict.fromkeys([*mine, *theirs])]


def _masked(array: Array | None, native: Native, *names: str) -> Array | None:
    masks = native.batch.compare or {}
    mask = next((masks[name] for name in names if name in masks), None)
    return None if array is None else masked(array, mask)


def _compared(frame: Frame, items: Sequence[Item]) -> list[Check]:
    """Outputs are quantities of their own: another's size is no excuse, but for what is exactly zero."""
    sizes = [rms(i.reference) for i in items if i.reference is not None and measurable(i.reference)]
    floor = epsilon(PRECISION) * max(sizes, default=0.0)
    return compare_items(frame, items, floor=floor, semantic=True)


def _said(side: SideName, name: str, verdict: Verdict, told: str, path: str | None = None) -> Check:
    torch, keras = (path or name, None) if side == "torch" else (None, path or name)
    return Check("export", None, None, name, torch, keras, verdict, detail=told)
