"""The commands on ONNX files: retie, and onnx."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import PairError
from ..onnx.compare_models import Comparison, compare_models
from ..onnx.copies import Copy, equal_ones, named_ones, planned_ones
from ..onnx.files import Weight
from ..onnx.retie import movable_weights, open_model, prove, store_once, write
from ..records.result import Check, Verdict
from ..report.result import Result

EXIT_CODES = {Verdict.EQUIVALENT: 0, Verdict.NUMERIC: 0, Verdict.DIFFERENT: 1, Verdict.INCONCLUSIVE: 3}
SHOWN = 10
"""Checks and weights that are listed."""

ModelArgument = Annotated[Path, typer.Argument(help="An ONNX file.")]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="The file to write.")]
InputsOption = Annotated[Path | None, typer.Option(help="An .npz file with the model's inputs by name.")]


def retie(
    model: ModelArgument,
    out: OutOption = None,
    plan: Annotated[Path | None, typer.Option(help="result.json of a run with phase export.")] = None,
    tie: Annotated[list[str] | None, typer.Option(help="A=B, two weights of the file; repeatable.")] = None,
    equal: Annotated[bool, typer.Option("--equal", help="Every pair that is equal by value.")] = False,
    inputs: InputsOption = None,
) -> None:
    """Store each tied weight of an ONNX file once; without a choice, list what is stored more than once."""
    chosen = sum([plan is not None, bool(tie), equal])
    if chosen > 1:
        raise PairError("Only one of --plan, --tie and --equal can say what is tied.")
    opened = open_model(model)
    weights = movable_weights(opened)
    if not chosen:
        _list(model, equal_ones(weights))
        return
    if out is None or out.resolve() == model.resolve():
        raise PairError(
            "A retied model needs a file of its own.",
            numbers="no -o" if out is None else f"-o {out}",
            todo=f"xcheck retie {model} -o OTHER.onnx ...",
        )
    if plan is not None:
        copies = planned_ones(weights, Result.from_json(plan).exports, str(plan))
    else:
        copies = named_ones(weights, tie) if tie else equal_ones(weights)
    store_once(opened, copies)
    _write_proven(model, out, opened, copies, inputs)


def _list(model: Path, copies: list[Copy]) -> None:
    if not copies:
        print(f"{model} stores no weight more than once.")
        return
    _print(copies, "equal to")
    saved = sum(copy.nbytes for copy in copies)
    print(f"\n{len(copies)} superfluous by value, {saved} bytes. Nothing was changed: equal now need not mean tied.")
    print(f"Store those that are tied once: xcheck retie {model} -o OUT.onnx --tie A=B, --plan RESULT.json or --equal")


def _print(copies: list[Copy], kept: str) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("copy", kept, "as"):
        table.add_column(column, overflow="fold")
    table.add_column("bytes", justify="right")
    for copy in copies:
        table.add_row(Text(copy.dropped), Text(copy.kept), copy.how, str(copy.nbytes))
    Console().print(table)


def _write_proven(model: Path, out: Path, opened: object, copies: list[Copy], inputs: Path | None) -> None:
    """Write the model once it is proven to compute the same."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / out.name
        write(opened, trial)
        proof = prove(model, trial, inputs_file=inputs)
        if proof.unequal:
            print(f"DIFFERENT  {', '.join(proof.unequal)} changed: nothing was written. Please report this file.")
            raise typer.Exit(EXIT_CODES[Verdict.DIFFERENT])
        after = sum(path.stat().st_size for path in Path(folder).iterdir())
        write(opened, out)
    if copies:
        _print(copies, "now reads")
        print()
    saved = sum(copy.nbytes for copy in copies)
    print(f"copies gone: {len(copies)}, bytes saved: {saved}; {out} has {after}")
    print(
        f"outputs bit-equal in onnxruntime, optimizations and prepacking off: {proof.outputs} of {proof.outputs} "
        f"on {proof.runs} {'random ' if inputs is None else ''}inputs"
    )


def onnx(
    left: ModelArgument,
    right: ModelArgument,
    seed: Annotated[int, typer.Option(help="Of the random inputs.")] = 0,
    inputs: InputsOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="NUMERIC fails too.")] = False,
) -> None:
    """Compare two ONNX files from anywhere: outputs on random inputs, weights, operators, first differing node."""
    found = compare_models(left, right, seed, inputs)
    print(f"{found.verdict}  {_answer(found)}")
    for section in (_inputs, _checks, _structures, _weights, _first):
        section(found)
    failed = strict and found.verdict is Verdict.NUMERIC
    raise typer.Exit(1 if failed else EXIT_CODES[found.verdict])


def _answer(found: Comparison) -> str:
    left, right = (file.path for file in found.files)
    worst = max(found.checks, key=lambda c: (-list(Verdict).index(c.verdict), c.severity))
    if found.verdict is Verdict.EQUIVALENT:
        return f"{left} and {right} compute the same"
    return f"{left} and {right}: {worst.name}, {_evidence(worst)}"


def _evidence(check: Check) -> str:
    if check.error is None or check.allowed is None:
        return check.detail
    more = f" ({check.detail})" if check.detail else ""
    return f"{check.error:.1e} against {check.allowed:.1e} allowed{more}"


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    if table.row_count:
        print(f"\n{title}")
        Console().print(table)


def _inputs(found: Comparison) -> None:
    pairs = [("input", p) for p in found.inputs] + [("output", p) for p in found.outputs]
    sizes = found.sizes or {}
    rows = [
        (what, p.left.name, p.right.name, p.layout, str(sizes[p.left.name]) if p.left.name in sizes else "")
        for what, p in pairs
    ]
    _table("Matched", ("", *_names(found), "layout", "run with"), rows)


def _checks(found: Comparison) -> None:
    bad = [c for c in found.checks if c.verdict is not Verdict.EQUIVALENT]
    shown = [c for c in found.checks if c.error is not None and c not in bad] if len(bad) < SHOWN else []
    _table(
        "Checks", ("verdict", "what", "evidence"), [(c.verdict, c.name, _evidence(c)) for c in (bad + shown)[:SHOWN]]
    )


def _structures(found: Comparison) -> None:
    left, right = (file.contents for file in found.files)
    rows = [
        ("producer", left.producer, right.producer),
        ("opset", *(", ".join(f"{d} {v}" for d, v in made.opset.items()) for made in (left, right))),
        ("weights", *(f"{made.weights}, {made.weight_bytes} bytes" for made in (left, right))),
        ("stored again", *(_again(file.weights) for file in found.files)),
    ]
    operators = sorted({*left.operators, *right.operators})
    rows += [(name, *(str(made.operators.get(name, "")) for made in (left, right))) for name in operators]
    _table("Structure", ("", *_names(found)), rows)


def _again(weights: Sequence[Weight]) -> str:
    copies = equal_ones(weights)
    return f"{len(copies)}, {sum(copy.nbytes for copy in copies)} bytes" if copies else ""


def _weights(found: Comparison) -> None:
    left, right = _names(found)
    lost = [at.path for at in found.located if not (at.holders or at.pieces or at.rounded or at.altered)]
    held = [at for at in found.located if at.holders]
    layouts = Counter(at.holders[0].layout for at in held)
    told = ", ".join(f"{many} {layout}" for layout, many in layouts.most_common())
    print(f"\nWeights\n{len(held)} of {len(found.located)} of {left} are in {right}" + (f": {told}" if told else ""))
    if lost:
        more = ", ..." if len(lost) > SHOWN else ""
        print(f"not in {right}, or folded there: {', '.join(lost[:SHOWN])}{more}")


def _first(found: Comparison) -> None:
    if found.first != (None, None):
        print("\nFirst node without an equal in the other file")
    for file, node in zip(found.files, found.first, strict=True):
        if node is not None:
            near = f"{node.nearest[0]}, {node.nearest[1]:.1e} off" if node.nearest else "no tensor of its size"
            print(f"{file.path.name}: {node.operator} {node.name}".rstrip())
            print(f"  reads    {', '.join((*node.reads, *node.weights))}")
            print(f"  gives    {node.output}; nearest in the other file: {near}")


def _names(found: Comparison) -> tuple[str, str]:
    left, right = (file.path.name for file in found.files)
    return (left, right) if left != right else (str(found.files[0].path), str(found.files[1].path))
