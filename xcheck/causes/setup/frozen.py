"""Parameters that one side trains and the other does not."""

from __future__ import annotations

from ...matching import MatchPlan
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SideName, other_side
from ..prove import read_off
from ..text import listed


@isolated(list[Cause])
def frozen_causes(plan: MatchPlan) -> list[Cause]:
    """One cause for each side that leaves parameters frozen which the other trains.

    Args:
        plan: of the run.
    """
    found: dict[SideName, list[tuple[str, str]]] = {}
    for match in plan.parameters:
        torch = bool(match.torch_piece.trained)
        keras = any(m.keras_piece.trained for m in plan.copies_of(match) or (match,))
        if torch != keras:
            found.setdefault("keras" if torch else "torch", []).append((match.name("torch"), match.name("keras")))
    return [_cause(side, names) for side, names in found.items()]


def _cause(side: SideName, names: list[tuple[str, str]]) -> Cause:
    torch, keras = (listed([pair[i] for pair in names]) for i in (0, 1))
    mine, how = (keras, "layer.trainable = True") if side == "keras" else (torch, "requires_grad_(True)")
    theirs = torch if side == "keras" else keras
    undo = "requires_grad_(False)" if side == "keras" else "trainable = False for its layer"
    return read_off(
        Cause(
            id="frozen_parameters",
            phase="inventory",
            torch=torch,
            keras=keras,
            summary=f"the {side} side does not train {mine}, the {other_side(side)} side does",
            evidence={"parameters": len(names)},
            fix=f"{side}: {how} for {mine}, or {other_side(side)}: {undo} for {theirs}",
        )
    )
