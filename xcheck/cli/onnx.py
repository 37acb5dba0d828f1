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
"""At most this many checks and weights are listed."""

ModelArgument = Annotated[Path, typer.Argument(help="An ONNX file.")]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="The file to write.")]
InputsOption = Annotated[Path | None, typer.Option(help="An .npz file with the model's inputs by name.")]


def retie(
    model: ModelArgument,
    out: OutOption = None,
    plan: Annotated[Path | None, typer.Option(help="result.json of a run with phase export.")] = None,
    tie: Annotated[list[str] | None, typer.Option(help="Tie two weights of the file: A=B; repeatable.")] = None,
    equal: Annotated[bool, typer.Option("--equal", help="Tie all weights with equal values.")] = False,
    inputs: InputsOption = None,
) -> None:
    """Store each tied weight of an ONNX file once; without --plan, --tie or --equal, only list the duplicates."""
    chosen = sum([plan is not None, bool(tie), equal])
    if chosen > 1:
        raise PairError("--plan, --tie and --equal exclude each other: give only one.")
    opened = open_model(model)
    weights = movable_weights(opened)
    if not chosen:
        _list(model, equal_ones(weights))
        return
    if out is None or out.resolve() == model.resolve():
        raise PairError(
            "The output file is the input file.",
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
    print(
        f"\n{len(copies)} weights duplicate another by value, {saved} bytes. Nothing was changed: equal values do "
        "not prove a tie."
    )
    print(
        f"Remove the duplicates of tied weights: xcheck retie {model} -o OUT.onnx --tie A=B, --plan RESULT.json "
        "or --equal"
    )


def _print(copies: list[Copy], relation: str) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("copy", relation, "as"):
        table.add_column(column, overflow="fold")
    table.add_column("bytes", justify="right")
    for copy in copies:
        table.add_row(Text(copy.dropped), Text(copy.kept), copy.how, str(copy.nbytes))
    Console().print(table)


def _write_proven(model: Path, out: Path, opened: object, copies: list[Copy], inputs: Path | None) -> None:
    """Write the model after proving that it computes the same."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / out.name
        write(opened, trial)
        proof = prove(model, trial, inputs_file=inputs)
        if proof.unequal:
            print(
                f"DIFFERENT  the outputs {', '.join(proof.unequal)} of the retied model differ; nothing was "
                "written. Please report this file."
            )
            raise typer.Exit(EXIT_CODES[Verdict.DIFFERENT])
        after = sum(path.stat().st_size for path in Path(folder).iterdir())
        write(opened, out)
    if copies:
        _print(copies, "now reads")
        print()
    saved = sum(copy.nbytes for copy in copies)
    print(f"copies removed: {len(copies)}, bytes saved: {saved}; {out} has {after}")
    print(
        f"outputs bit-equal in onnxruntime, optimizations and prepacking off: {proof.outputs} of {proof.outputs} "
        f"on {proof.runs} {'random ' if inputs is None else ''}inputs"
    )


def onnx(
    left: ModelArgument,
    right: ModelArgument,
    seed: Annotated[int, typer.Option(help="Seed of the random inputs.")] = 0,
    inputs: InputsOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="NUMERIC also exits with 1.")] = False,
) -> None:
    """Compare two ONNX files: outputs on random inputs, weights, operators, first differing node."""
    comparison = compare_models(left, right, seed, inputs)
    print(f"{comparison.verdict}  {_answer(comparison)}")
    for section in (_inputs, _checks, _structures, _weights, _first):
        section(comparison)
    failed = strict and comparison.verdict is Verdict.NUMERIC
    raise typer.Exit(1 if failed else EXIT_CODES[comparison.verdict])


def _answer(comparison: Comparison) -> str:
    left, right = (file.path for file in comparison.files)
    worst = max(comparison.checks, key=lambda c: (-list(Verdict).index(c.verdict), c.severity))
    if comparison.verdict is Verdict.EQUIVALENT:
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


def _inputs(comparison: Comparison) -> None:
    pairs = [("input", p) for p in comparison.inputs] + [("output", p) for p in comparison.outputs]
    sizes = comparison.sizes or {}
    rows = [
        (what, p.left.name, p.right.name, p.layout, str(sizes[p.left.name]) if p.left.name in sizes else "")
        for what, p in pairs
    ]
    _table("Matched", ("", *_names(comparison), "layout", "run with"), rows)


def _checks(comparison: Comparison) -> None:
    failing = [c for c in comparison.checks if c.verdict is not Verdict.EQUIVALENT]
    measured = (
        [c for c in comparison.checks if c.error is not None and c not in failing] if len(failing) < SHOWN else []
    )
    _table(
        "Checks",
        ("verdict", "what", "evidence"),
        [(c.verdict, c.name, _evidence(c)) for c in (failing + measured)[:SHOWN]],
    )


def _structures(comparison: Comparison) -> None:
    left, right = (file.contents for file in comparison.files)
    rows = [
        ("producer", left.producer, right.producer),
        ("opset", *(", ".join(f"{d} {v}" for d, v in structure.opset.items()) for structure in (left, right))),
        ("weights", *(f"{structure.weights}, {structure.weight_bytes} bytes" for structure in (left, right))),
        ("stored again", *(_duplicates(file.weights) for file in comparison.files)),
    ]
    operators = sorted({*left.operators, *right.operators})
    rows += [(name, *(str(structure.operators.get(name, "")) for structure in (left, right))) for name in operators]
    _table("Structure", ("", *_names(comparison)), rows)


def _duplicates(weights: Sequence[Weight]) -> str:
    copies = equal_ones(weights)
    return f"{len(copies)}, {sum(copy.nbytes for copy in copies)} bytes" if copies else ""


def _weights(comparison: Comparison) -> None:
    left, right = _names(comparison)
    not_located = [
        weight.path
        for weight in comparison.located
        if not (weight.holders or weight.pieces or weight.rounded or weight.altered)
    ]
    located = [weight for weight in comparison.located if weight.holders]
    layouts = Counter(weight.holders[0].layout for weight in located)
    layout_counts = ", ".join(f"{number} {layout}" for layout, number in layouts.most_common())
    print(
        f"\nWeights\n{len(located)} of {len(comparison.located)} of {left} are in {right}"
        + (f": {layout_counts}" if layout_counts else "")
    )
    if not_located:
        more = ", ..." if len(not_located) > SHOWN else ""
        print(f"not in {right}, or folded there: {', '.join(not_located[:SHOWN])}{more}")


def _first(comparison: Comparison) -> None:
    if comparison.first != (None, None):
        print("\nFirst node without an equal in the other file")
    for file, node in zip(comparison.files, comparison.first, strict=True):
        if node is not None:
            near = f"{node.nearest[0]}, {node.nearest[1]:.1e} off" if node.nearest else "no tensor of its size"
            print(f"{file.path.name}: {node.operator} {node.name}".rstrip())
            print(f"  reads    {', '.join((*node.reads, *node.weights))}")
            print(f"  gives    {node.output}; nearest in the other file: {near}")


def _names(comparison: Comparison) -> tuple[str, str]:
    left, right = (file.path.name for file in comparison.files)
    return (left, right) if left != right else (str(comparison.files[0].path), str(comparison.files[1].path))
