"""Exports of both sides -> checks: is each file valid, whole and free of training, and does it compute the model?

Everything is judged in float32, as files are shipped: an output may differ from the model's float64 value by as much
as rounding explains, measured by the noise of the models. For a larger difference the same file is evaluated in
float64: if it computes the model there, the runtime loses precision (NUMERIC), otherwise the file is a different
computation.
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


def export_checks(exports: Exports, reference: SideName, ties: Sequence[Tie] = ()) -> list[Check]:
    """Every file against the model it was exported from, file against file, and model against model.

    Args:
        exports: from `onnx.run.exported`.
        reference: the reference side.
        ties: groups of paths with one storage on a side.
    """
    checks: list[Check] = []
    for side in (reference, other_side(reference)):
        files = [f for f in exports.files if f.side == side]
        if not files:
            checks.append(_check(side, "export", Verdict.INCONCLUSIVE, "this side has no way to be exported"))
        for file in files:
            checks += file_checks(file)
            checks += _tie_checks(file, [tie.paths(side) for tie in ties if tie.tied(side)])
            if file.problem is None:
                checks += output_checks(exports, file)
                if file.written is None or not file.written.by_design:
                    checks.append(_free_batch(exports, file))
    return checks + between(exports, reference)


def file_checks(file: Export) -> list[Check]:
    """The checks of a file that need no run."""
    side, route = file.side, file.route
    if file.problem is not None or file.structure is None:
        return [_check(side, route, Verdict.INCONCLUSIVE, f"not exported: {file.problem}")]
    valid = Verdict.DIFFERENT if file.invalid else Verdict.EQUIVALENT
    opset = ", ".join(f"{domain} {version}" for domain, version in file.structure.opset.items())
    checks = [_check(side, f"{route}: onnx.checker", valid, file.invalid or f"valid, opset {opset}")]
    leftovers = file.structure.leftovers
    detail = (
        f"{len(leftovers)} nodes from training: {'; '.join(leftovers[:3])}"
        if leftovers
        else "none are left from training"
    )
    checks.append(_check(side, f"{route}: operators", Verdict.DIFFERENT if leftovers else Verdict.EQUIVALENT, detail))
    return checks + list(_weight_checks(file))


def _weight_checks(file: Export) -> Iterator[Check]:
    storages = {path: s for s in file.storages for path in s.paths}
    for location in file.located:
        verdict, detail = Verdict.EQUIVALENT, ""
        if location.altered:
            verdict, detail = Verdict.DIFFERENT, location.altered
        elif location.rounded:
            verdict, detail = Verdict.NUMERIC, f"stored in {location.rounded}"
        elif location.pieces:
            detail = f"in parts, or with others: {', '.join(location.pieces[:4])}"
        elif not location.holders:
            detail = "no constant has its values: folded into others, or not used by the outputs"
        else:
            detail = _storage_detail(storages[location.path])
        yield _check(file.side, f"{file.route}: {location.path}", verdict, detail, location.path)


def _storage_detail(storage: Tied) -> str:
    names = ", ".join(f"{name} ({how})" for name, how in zip(storage.names, storage.layouts, strict=True))
    copies = f"{len(storage.names)} copies, {storage.wasted} bytes wasted: " if storage.wasted else ""
    return f"{copies}{names}"


def _tie_checks(file: Export, groups: Sequence[Sequence[str]]) -> Iterator[Check]:
    """The state of each tie; a copy wastes space but computes the same, so it is reported and does not fail."""
    for group in groups:
        storage = next((s for s in file.storages if set(group) & set(s.paths)), None)
        if file.problem is None:
            prefix = "stored once: " if storage and not storage.wasted else ""
            detail = f"{prefix}{_storage_detail(storage)}" if storage else "not stored as it is"
            name = f"{file.side}: tie of {group[0]} after {file.route}"
            yield _check(file.side, name, Verdict.EQUIVALENT, detail, " = ".join(group))


def output_checks(exports: Exports, file: Export) -> list[Check]:
    """A file against the model it was exported from, in every runtime."""
    native = exports.natives[0]
    standard = file.outputs.get((STANDARD, native.batch.size))
    exact = _against_model(exports, file, native, STANDARD, standard) if isinstance(standard, Mapping) else {}
    checks: list[Check] = []
    for runtime in (PLAIN, OPTIMIZED):
        outputs = file.outputs.get((runtime, native.batch.size), "it was not run")
        if isinstance(outputs, str):
            checks.append(_check(file.side, f"{file.route} in {runtime}", Verdict.INCONCLUSIVE, outputs))
        else:
            by_output = _against_model(exports, file, native, runtime, outputs)
            checks += [_arbitrated(check, exact.get(output)) for output, check in by_output.items()]
    runtimes_agree = all(c.verdict is not Verdict.DIFFERENT for c in checks)
    detail = "onnxruntime agrees with the model on this file, onnx.reference does not"
    return checks + [
        replace(c, verdict=Verdict.INCONCLUSIVE, detail=detail)
        if runtimes_agree and c.verdict is Verdict.DIFFERENT
        else c
        for c in exact.values()
    ]


def _arbitrated(check: Check, exact: Check | None) -> Check:
    """A difference in float32 that vanishes in float64 is a loss of precision."""
    if check.verdict is not Verdict.DIFFERENT or exact is None or exact.verdict is not Verdict.EQUIVALENT:
        return check
    detail = "more than rounding explains, but the file agrees with the model in float64: precision is lost"
    return replace(check, verdict=Verdict.NUMERIC, detail=detail)


def _against_model(exports: Exports, file: Export, native: Native, runtime: str, outputs: Arrays) -> dict[str, Check]:
    """Output -> its check."""
    native_outputs, truth = native.outputs[file.side], native.truth[file.side]
    frame = Frame("export", PRECISION, None, file.side, exports.terms)
    items = [
        Item(
            f"{name}: {file.route} in {runtime}",
            name if file.side == "torch" else None,
            name if file.side == "keras" else None,
            _masked(truth.get(exact_name), native, name, exact_name),
            _masked(outputs.get(name), native, name, exact_name),
            (
                _masked(native_outputs.get(name), native, name, exact_name),
                *(_masked(twin.get(exact_name), native, name, exact_name) for twin in native.twins[file.side]),
            ),
        )
        for name, exact_name in _paired(native_outputs, truth)
    ]
    return dict(zip((output for output, _ in _paired(native_outputs, truth)), _compared(frame, items), strict=True))


def _free_batch(exports: Exports, file: Export) -> Check:
    """Whether the file accepts a batch of a different size, and computes the model on it."""
    native = exports.natives[1]
    name = f"{file.route}: batch of {native.batch.size}"
    outputs = file.outputs.get((PLAIN, native.batch.size), "it was not run")
    if isinstance(outputs, str):
        runs_otherwise = not isinstance(file.outputs.get((PLAIN, exports.natives[0].batch.size)), str)
        reason = f"the exporter cannot leave the batch free: {file.fixed}" if file.fixed else outputs
        return _check(
            file.side, name, Verdict.DIFFERENT if runs_otherwise and not file.fixed else Verdict.INCONCLUSIVE, reason
        )
    by_output = _against_model(exports, file, native, PLAIN, outputs)
    worst = max(by_output.values(), key=lambda c: (-list(Verdict).index(c.verdict), c.severity))
    return replace(worst, name=name)


def between(exports: Exports, reference: SideName) -> list[Check]:
    """Export against export, and model against model, in float32."""
    if exports.separate_reason:
        detail = f"each export was compared only with its own model: {exports.separate_reason}"
        return [
            Check(
                "export", None, None, "one side's against the other's", None, None, Verdict.INCONCLUSIVE, detail=detail
            )
        ]
    native = exports.natives[0]
    reference_outputs, follower_outputs = native.outputs[reference], native.outputs[other_side(reference)]
    checks = _side_checks("models in float32", exports, native, reference_outputs, follower_outputs, reference)
    for runtime in (PLAIN, OPTIMIZED):
        files = [next((f for f in exports.files if f.side == s), None) for s in (reference, other_side(reference))]
        outputs = [f.outputs.get((runtime, native.batch.size)) if f else None for f in files]
        left, right = outputs
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            checks += _side_checks(f"exports in {runtime}", exports, native, left, right, reference)
    return checks


def _side_checks(
    label: str,
    exports: Exports,
    native: Native,
    reference_outputs: Arrays,
    follower_outputs: Arrays,
    reference: SideName,
) -> list[Check]:
    frame = Frame("export", PRECISION, None, reference, exports.terms)
    items: list[Item] = []
    for name, other_name in _paired(reference_outputs, follower_outputs):
        names = (name, other_name) if reference == "torch" else (other_name, name)
        value, other = (
            _masked(a, native, name, other_name)
            for a in (reference_outputs.get(name), follower_outputs.get(other_name))
        )
        twins = tuple(_masked(t.get(name), native, name, other_name) for t in native.twins[reference])
        truth = _masked(native.truth[reference].get(name), native, name, other_name)
        items.append(
            Item(f"{name}: {label}", *names, value, other, tuple(_with_rounding(value, t, truth) for t in twins))
        )
    return _compared(frame, items)


def agrees(exports: Exports, side: SideName, expected: Arrays, outputs: Arrays) -> bool:
    """Whether outputs on the whole batch are the expected ones, except for rounding.

    Args:
        exports: their twins show the rounding.
        side: side whose names the outputs have.
        expected, outputs: in float32.
    """
    checks = _side_checks("", exports, exports.natives[0], expected, outputs, side)
    return bool(checks) and all(c.verdict is Verdict.EQUIVALENT for c in checks)


def _with_rounding(value: Array | None, twin: Array | None, truth: Array | None) -> Array | None:
    """A value with the rounding errors of a twin: another possible outcome of it."""
    if value is None or twin is None or truth is None or value.dtype.kind != "f" or value.shape != truth.shape:
        return None
    return value + (twin - truth)


def _paired(outputs: Arrays, others: Arrays) -> list[tuple[str, str]]:
    """The outputs of two sides, paired by name; a single output on each side needs no name."""
    if len(outputs) == len(others) == 1:
        return [(next(iter(outputs)), next(iter(others)))]
    return [(name, name) for name in dict.fromkeys([*outputs, *others])]


def _masked(array: Array | None, native: Native, *names: str) -> Array | None:
    masks = native.batch.compare or {}
    mask = next((masks[name] for name in names if name in masks), None)
    return None if array is None else masked(array, mask)


def _compared(frame: Frame, items: Sequence[Item]) -> list[Check]:
    """Compare outputs, each by its own size; the sizes of others matter only for values that are exactly zero."""
    sizes = [rms(i.reference) for i in items if i.reference is not None and measurable(i.reference)]
    floor = epsilon(PRECISION) * max(sizes, default=0.0)
    return compare_items(frame, items, floor=floor, semantic=True)


def _check(side: SideName, name: str, verdict: Verdict, detail: str, path: str | None = None) -> Check:
    torch, keras = (path or name, None) if side == "torch" else (None, path or name)
    return Check("export", None, None, name, torch, keras, verdict, detail=detail)
