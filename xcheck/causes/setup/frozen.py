"""Parameters that one side trains and the other does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...matching import Match, MatchPlan
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SideName, other_side
from ...records.trace import Array, StepRecord
from ..prove import read_off
from ..text import listed


@isolated(list[Cause])
def frozen_causes(plan: MatchPlan) -> list[Cause]:
    """One cause for each side that leaves parameters frozen which the other trains.

    Args:
        plan: of the run.
    """
    return _causes(
        (match, bool(match.torch_piece.trained), any(m.keras_piece.trained for m in plan.copies_of(match) or (match,)))
        for match in plan.parameters
    )


@isolated(list[Cause])
def frozen_later(plan: MatchPlan, records: Mapping[SideName, StepRecord]) -> list[Cause]:
    """The same for parameters that one side freezes or unfreezes after the start.

    Args:
        plan: of the run.
        records: the step of each side.
    """
    torch, keras = records["torch"], records["keras"]
    return _causes((m, _moved(m, "torch", torch), _moved(m, "keras", keras)) for m in plan.parameters)


def _moved(match: Match, side: SideName, record: StepRecord) -> bool | None:
    """Whether a step trained a parameter; None if it may have had no reason to move it."""
    paths = match.piece(side).paths
    if all(record.gradients.get(path) is None for path in paths):
        return None if any(_any(record.update(path)) for path in paths) else False
    return True if any(_any(record.gradients.get(path)) for path in paths) else None


def _any(array: Array | None) -> bool:
    return array is not None and bool(array.any())


def _causes(trained: Iterator[tuple[Match, bool | None, bool | None]]) -> list[Cause]:
    """One cause for each side of the parameters that only the other side trains.

    Args:
        trained: match, and whether PyTorch and whether Keras trains it.
    """
    found: dict[SideName, list[tuple[str, str]]] = {}
    for match, torch, keras in trained:
        if {torch, keras} == {True, False}:
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
