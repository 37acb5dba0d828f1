"""The command that matches the parameters of a pair: match."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import PairError
from ..matching import Match, MatchPlan
from ..matching.map_file import write_map
from ..pairs.pair import Pair
from ..records.sides import SideName

INCONCLUSIVE = 3


def show_plan(pair: Pair, plan: MatchPlan, write: Path | None, why: str | None = None) -> int:
    """Print a match plan, and save it as a map file if requested; returns the exit code.

    Args:
        pair: of the plan.
        plan: to show.
        write: the file; None to write none.
        why: path of a parameter: print only its evidence; None prints the whole plan.

    Raises:
        PairError: no parameter has that path.
    """
    if why is None:
        _show(plan, Console())
    else:
        print("\n".join(evidence_of(plan, why)))
    if write is not None:
        print(f'\nwritten: {write_map(plan, write, pair.name)}\nuse it: weight_map=xcheck.read_map("{write}")')
    return INCONCLUSIVE if is_open(plan) else 0


def is_open(plan: MatchPlan) -> bool:
    """Whether a match of the plan is missing, doubtful, or not proven."""
    return bool(plan.unmatched_torch or plan.unmatched_keras or plan.doubts) or not (plan.proven or plan.mapped)


def remarks(plan: MatchPlan) -> list[str]:
    """One line for each unmatched, waived or doubtful parameter."""
    by_side = (("torch", plan.unmatched_torch), ("keras", plan.unmatched_keras))
    lines = [
        f"unmatched  {side} {path}" + (" (no compared output depends on it)" if path in plan.idle else "")
        for side, paths in by_side
        for path in paths
    ]
    lines += [f"waived     {path}: {reason}" for path, reason in plan.waived.items()]
    return lines + [f"doubtful   {doubt.torch} -> {doubt.keras}: {doubt.detail}" for doubt in plan.doubts]


def evidence_of(plan: MatchPlan, path: str) -> list[str]:
    """The evidence for the match of one parameter or buffer, as lines.

    Args:
        plan: of a pair.
        path: on either side, with or without the slice in brackets.

    Raises:
        PairError: no parameter has that path.
    """
    sides: tuple[SideName, SideName] = ("torch", "keras")
    lines: list[str] = []
    for m in plan.matches:
        if any(path in (*m.piece(side).paths, m.name(side)) for side in sides):
            lines += [*([""] if lines else []), *_evidence(plan, m)]
    for side in sides:
        if path in plan.unmatched(side):
            does = plan.doings.get(path, "")
            does = "no compared output depends on it" if path in plan.idle else does
            lines.append(f"{side} {path} is unmatched, or a part of it is" + (f": {does}" if does else ""))
    lines += [f"{name} is left out: {reason}" for name, reason in plan.waived.items() if name.startswith(path)]
    if lines:
        return lines
    known = [
        p for side in sides for p in (*plan.unmatched(side), *(q for m in plan.matches for q in m.piece(side).paths))
    ]
    close = get_close_matches(path, known, n=3, cutoff=0.5) or known[:3]
    raise PairError(
        "This pair has no parameter or buffer with this path.",
        where=f"--why {path}",
        numbers=f"{len(known)} paths on both sides",
        cause=f"did you mean {' or '.join(close)}?" if close else "the pair has no parameters",
        todo="xcheck match PAIR lists all paths",
    )


EVIDENCE = {
    "": "by the weight map",
    "by value": "by value: both sides compute the same values with it",
    "by name": "by name: only its name distinguishes it from similar parameters",
    "by structure": "by structure: only layer kinds, shapes and the order of use",
}


def _evidence(plan: MatchPlan, match: Match) -> list[str]:
    offset = f", keras stores the value {match.offset:+g}" if match.offset else ""
    shapes = f"{match.shape('torch')} -> {match.shape('keras')}"
    buffer = match.buffer and not match.evidence
    lines = [
        f"{match.name('torch')} -> {match.name('keras')}",
        f"  layout     {match.layout.name}: {match.layout.summary}; {shapes}{offset}",
        f"  evidence   {'it follows the parameters of its layer' if buffer else EVIDENCE[match.evidence]}",
        *([f"  observed   {match.basis}"] if match.basis else []),
        *(f"  doubtful   {doubt.detail}" for doubt in plan.doubts if doubt.about(match.torch)),
    ]
    if match.name("torch") in plan.open:
        tried = f"; {plan.tried} were tried" if plan.tried else ""
        lines.append(f"  open       other matches are possible{tried}")
    return [*lines, *([f"  plan       {plan.proof}"] if plan.proof else [])]


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
WhyOption = Annotated[str | None, typer.Option("--why", help="Print the evidence for the parameter with this path.")]
