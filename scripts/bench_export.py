#!/usr/bin/env python
"""Measure what exporting a tied language model costs, checking the exports, and storing the tied weight once.

    scripts/bench_export.py                      20 million parameters
    scripts/bench_export.py --parameters 0.1     fewer, in millions
    scripts/bench_export.py --folder DIR         keep the files

Every row is a process of its own, so that its peak of memory is its own; the peak it had before the work began, with
the frameworks imported and the model built, stands beside it. Exits with 1 if the check does not say EQUIVALENT, or if
a file is not retied.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
PAIR = ROOT / "models" / "tied_language_model" / "pair.py"
WIDTH = 512
ROUTES = (("torch", "torch.onnx.export"), ("keras", "Model.export"), ("keras", "tf2onnx"))
Row = dict[str, Any]


def settings(millions: float) -> dict[str, Any]:
    """Sizes with about so many parameters: a table, and eight square matrices of an LSTM."""
    width = WIDTH if millions >= 8 else 64
    return {"width": width, "vocabulary": max(256, round((millions * 1e6 - 8 * width**2) / width)), "batch_size": 2}


def peak() -> float:
    """Largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def measured(work: Callable[[], Row]) -> Row:
    """What some work tells, with its seconds and the peaks of memory before and after it."""
    before, started = peak(), time.perf_counter()
    told = work()
    return {"seconds": time.perf_counter() - started, "before": before, "peak": peak(), **told}


# In a process of its own -------------------------------------------------------------------------------------------


def export(folder: Path, millions: float, side: Any, route: str) -> Row:
    """Write the model of one side by one route."""
    from xcheck.frameworks.sides import Sides
    from xcheck.onnx.run import resized
    from xcheck.pairs.batches import batches_of
    from xcheck.pairs.loading import load_pair
    from xcheck.phases.findings import Findings

    pair = load_pair(str(PAIR), settings(millions))
    batch = next(batches_of(pair, 0, 1))
    with Sides(Findings(pair, 0, 1, (), True), "cpu", lambda _: None).open(side, "float32") as runner:
        path = folder / f"{route}.onnx"

        def work() -> Row:
            runner.exporter().export(route, path, batch, resized(batch))
            return {"told": f"{path.stat().st_size / 1e6:.1f} MB"}

        return measured(work)


def check(folder: Path, millions: float) -> Row:
    """The export phase of the pair, and what it needs before it."""
    import keras
    import torch

    import xcheck
    from xcheck.pairs.loading import load_pair

    assert keras
    assert torch

    def work() -> Row:
        phases = ("inventory", "sync", "export")
        pair = load_pair(str(PAIR), settings(millions))
        result = xcheck.check(pair, steps=1, free_steps=0, phases=phases, precision=("float64",))
        result.to_json(folder / "result.json")
        wasted = sum(export["wasted_bytes"] for export in result.exports)
        seconds = result.timings["export"]
        told = f"{result.verdict}, {wasted / 1e6:.1f} MB stored again; the phase itself {seconds:.1f} s"
        return {"told": told, "held": result.verdict == "EQUIVALENT"}

    return measured(work)


def retie(folder: Path, route: str) -> Row:
    """Store each weight of a file once, as the run's plan says, and prove the outputs."""
    from xcheck.onnx import retie as module
    from xcheck.onnx.copies import planned_ones
    from xcheck.report.result import Result

    path, out = folder / f"{route}.onnx", folder / f"{route}.retied.onnx"

    def work() -> Row:
        opened = module.open_model(path)
        exports = Result.from_json(folder / "result.json").exports
        copies = planned_ones(module.movable_weights(opened), exports, "result.json")
        module.store_once(opened, copies)
        module.write(opened, out)
        proof = module.prove(path, out)
        saved = path.stat().st_size - out.stat().st_size
        told = f"{len(copies)} copies removed, {saved / 1e6:.1f} MB saved, outputs bit-equal: {not proof.unequal}"
        return {"told": told, "held": not proof.unequal and saved >= 0.9 * sum(copy.nbytes for copy in copies)}

    return measured(work)


# The table ---------------------------------------------------------------------------------------------------------


def rows(folder: Path, millions: float) -> list[tuple[str, Row]]:
    """Every piece of work, each in a process of its own, in an order in which each finds its files."""

    def child(what: str, *more: str) -> Row:
        command = [sys.executable, __file__, "--child", what, *more, "--folder", str(folder)]
        command += ["--parameters", str(millions)]
        environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
        ran = subprocess.run(command, capture_output=True, text=True, env=environment)
        if ran.returncode:
            raise SystemExit(f"{what} {' '.join(more)} failed:\n{ran.stderr[-3000:]}")
        return json.loads(ran.stdout.splitlines()[-1])

    found = [(f"export, {route}", child("export", side, route)) for side, route in ROUTES]
    found.append(("check of all exports", child("check")))
    return found + [(f"retie, {route}", child("retie", route)) for _, route in ROUTES]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=float, default=20.0, help="in millions")
    parser.add_argument("--folder", type=Path, help="for the files; a temporary one by default")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        what, *more = given.child
        work = {
            "export": lambda: export(given.folder, given.parameters, *more),
            "check": lambda: check(given.folder, given.parameters),
            "retie": lambda: retie(given.folder, *more),
        }[what]
        print(json.dumps(work()))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = rows(folder, given.parameters)
    sizes = settings(given.parameters)
    parameters = sizes["vocabulary"] * sizes["width"] + 8 * sizes["width"] ** 2
    table = Table(
        title=f"tied language model, {parameters / 1e6:.1f} million parameters", title_justify="left", box=None
    )
    for column in ("", "seconds", "peak MB", "MB before"):
        table.add_column(column, justify="right" if column else "left")
    table.add_column("")
    for name, row in found:
        table.add_row(name, f"{row['seconds']:.1f}", f"{row['peak']:.0f}", f"{row['before']:.0f}", row["told"])
    Console(width=max(Console().width, 130)).print(table)
    return 0 if all(row.get("held", True) for _, row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
