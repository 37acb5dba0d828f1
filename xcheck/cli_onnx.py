"""The commands on ONNX files: retie, and onnx."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .errors import PairError
from .export.copies import Copy, equal_ones, named_ones, planned_ones
from .export.retie import movable_weights, open_model, prove, store_once, write
from .result import Result

DIFFERENT = 1

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
        proof = prove(model, trial, given=inputs)
        if proof.unequal:
            print(f"DIFFERENT  {', '.join(proof.unequal)} changed: nothing was written. Please report this file.")
            raise typer.Exit(DIFFERENT)
        after = sum(path.stat().st_size for path in Path(folder).iterdir())
        write(opened, out)
    if copies:
        _print(copies, "now reads")
        print()
    saved = sum(copy.nbytes for copy in copies)
    print(f"{len(copies)} copies gone, {saved} bytes saved: {out} has {after}")
    print(
        f"outputs bit-equal in onnxruntime, optimizations and prepacking off: {proof.outputs} of {proof.outputs} "
        f"on {proof.runs} {'random ' if inputs is None else ''}inputs"
    )
