"""A summary of the exports for a result: a table of the files, the copies of tied weights, notes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from ..records.result import Tie
from .run import STANDARD, Export, Exports


def tables(exports: Exports) -> list[dict[str, Any]]:
    """One entry of `Result.exports` per file: plain data."""
    return [_table(file) for file in exports.files if file.structure is not None]


def _table(file: Export) -> dict[str, Any]:
    assert file.structure is not None
    return {
        "side": file.side,
        "route": file.route,
        **asdict(file.structure),
        "storages": [asdict(storage) for storage in file.storages],
        "wasted_bytes": sum(storage.wasted for storage in file.storages),
    }


def duplicated(ties: Sequence[Tie], exports: Exports) -> tuple[Tie, ...]:
    """The tie groups; those that some file stores more than once are marked."""
    copied = {(f.side, path) for f in exports.files for s in f.storages if len(s.names) > 1 for path in s.paths}

    def is_copied(tie: Tie) -> bool:
        return any(("torch", p) in copied for p in tie.torch) or any(("keras", p) in copied for p in tie.keras)

    return tuple(replace(t, status="duplicated") if t.status == "same" and is_copied(t) else t for t in ties)


def export_notes(exports: Exports) -> list[str]:
    """Notes that do not change the verdict."""
    skipped = [f"{route} was not tried: the model is large, and the usual route works" for route in exports.skipped]
    return [note for file in exports.files for note in _notes(file)] + skipped


def _notes(file: Export) -> Iterator[str]:
    route = f"{file.side} {file.route}"
    copied = [s for s in file.storages if s.wasted]
    if file.written is not None and file.written.by_design:
        yield f"{route} was compared for one batch size: {file.fixed}"
    if copied:
        paths = ", ".join(s.paths[0] for s in copied[:4]) + (", ..." if len(copied) > 4 else "")
        wasted = sum(s.wasted for s in copied)
        yield f"{route} stores {paths} more than once, wasting {wasted} bytes: `xcheck retie` stores each once"
    if file.structure is not None and not any(runtime == STANDARD for runtime, _ in file.outputs):
        yield f"{route} is too large for onnx.reference and was run only in onnxruntime"
    for (runtime, _), outputs in file.outputs.items():
        if runtime == STANDARD and isinstance(outputs, str):
            yield f"{route}: {outputs}"
