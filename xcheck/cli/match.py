"""The command that matches the parameters of a pair: match."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..matching import MatchPlan
from ..matching.map_file import write_map
from ..pairs.pair import Pair

INCONCLUSIVE = 3


def show_plan(pair: Pair, plan: MatchPlan, write: Path | None) -> int:
    """Print a plan, and write it as a map file if requested; returns the exit code.

    Args:
        pair: of the plan.
        plan: to show.
        write: the file; None to write none.
    """
    _show(plan, Console())
    if write is not None:
        print(f'\nwritten: {write_map(plan, write, pair.name)}\nuse it: weight_map=xcheck.read_map("{write}")')
    return INCONCLUSIVE if is_open(plan) else 0


def is_open(plan: MatchPlan) -> bool:
    """Whether something of a plan is missing, doubtful, or not proven."""
    return bool(plan.unmatched_torch or plan.unmatched_keras or plan.doubts) or not (plan.proven or plan.mapped)


def remarks(plan: MatchPlan) -> list[str]:
    """What is unmatched, waived or doubtful, a line each."""
    by_side = (("torch", plan.unmatched_torch), ("keras", plan.unmatched_keras))
    lines = [
        f"unmatched  {side} {path}" + (", which reaches no output" if path in plan.idle else "")
        for side, paths in by_side
        for path in paths
    ]
    lines += [f"waived     {path}: {reason}" for path, reason in plan.waived.items()]
    return lines + [f"doubtful   {doubt.torch} -> {doubt.keras}: {doubt.detail}" for doubt in plan.doubts]


def _show(plan: MatchPlan, console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("torch", "layout", "keras", "evidence"):
        table.add_column(column, overflow="fold")
    for m in plan.matches:
        key = m.name("torch") + (f" {m.offset:+g}" if m.offset else "")
        table.add_row(*map(Text, (key, m.layout.name, m.name("keras"), m.evidence or ("layer" if m.buffer else "map"))))
    console.print(table)
    lines = remarks(plan)
    if lines:
        console.print()
    for line in lines:
        console.print(Text(line))
    console.print(f"\n{len(plan.parameters)} matched, {len(plan.unmatched_torch + plan.unmatched_keras)} unmatched")
    if plan.proof:
        console.print(Text(plan.proof))


WriteOption = Annotated[Path | None, typer.Option("--write", help="Save the plan as a map file.")]
