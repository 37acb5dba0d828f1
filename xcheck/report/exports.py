"""The ONNX files of a result, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..records.result import ResultData
from .words import one_line

Rows = list[tuple[str, ...]]


def export_table(result: ResultData, *, operators: bool) -> Rows:
    """The files as columns: a line of headers, then a line per property; empty without exports.

    Args:
        result: the result with the exports.
        operators: one line per operator in addition to their number.
    """
    files = result.exports
    if not files:
        return []

    def line(name: str, cells: list[str]) -> tuple[str, ...]:
        return name, *map(one_line, cells)

    table = [
        line("", [f"{f['side']} {f['route']}" for f in files]),
        line("producer", [str(f["producer"]) for f in files]),
        line("opset", [", ".join(f"{domain} {version}" for domain, version in f["opset"].items()) for f in files]),
        line("weights", [f"{f['weights']}, {f['weight_bytes']} bytes" for f in files]),
        line("stored again", [_duplicates(f) for f in files]),
        line("of training", [str(len(f["leftovers"]) or "") for f in files]),
        line("operators", [str(sum(f["operators"].values())) for f in files]),
    ]
    if operators:
        names = sorted({name for f in files for name in f["operators"]})
        table += [line(f"  {name}", [str(f["operators"].get(name, "")) for f in files]) for name in names]
    return [row for row in table if any(row[1:])]


def _duplicates(file: Mapping[str, Any]) -> str:
    copies = sum(len(storage["names"]) - 1 for storage in file["storages"])
    return f"{copies}, {file['wasted_bytes']} bytes" if copies else ""
