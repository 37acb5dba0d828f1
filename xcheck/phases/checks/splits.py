"""The gradient of a parameter on both sides, whole and by use, in one layout."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ...matching import Match, MatchPlan, Piece
from ...records.trace import Array, Arrays, StepRecord

WHOLE = "its only use"
"""Name of the use of a parameter whose side did not split its gradient."""


@dataclass(frozen=True, slots=True)
class Split:
    """The gradient of one match, whole and by use, in the reference's layout.

    Attributes:
        match: whose gradient.
        total, other: of the reference and of the other side.
        uses, other_uses: by name of the use.
    """

    match: Match
    total: Array
    other: Array
    uses: Arrays
    other_uses: Arrays


def splits(plan: MatchPlan, record: StepRecord, other: StepRecord) -> list[Split]:
    """The gradients that a side told apart by use, but for those of untied copies: no copy has all uses."""
    copies = [
        [path for path, n in Counter(m.path(side) for m in plan.parameters if m.plain).items() if n > 1]
        for side in (plan.reference, plan.follower)
    ]
    found: list[Split] = []
    for match in plan.trained:
        mine, theirs = match.piece(plan.reference), match.piece(plan.follower)
        total, port = mine.total(record.gradients.get), theirs.total(other.gradients.get)
        if match.plain and any(p.paths[0] in many for p, many in zip((mine, theirs), copies, strict=True)):
            continue
        if total is None or port is None or port.shape != theirs.shape:
            continue
        uses, ported = by_use(mine, record), by_use(theirs, other)
        if uses or ported:
            moved = {name: match.to(plan.reference, gradient) for name, gradient in (ported or {WHOLE: port}).items()}
            found.append(Split(match, total, match.to(plan.reference, port), uses or {WHOLE: total}, moved))
    return found


def by_use(piece: Piece, record: StepRecord) -> dict[str, Array]:
    """Name of each use of a piece that a side told apart -> gradient; empty where it did not."""
    return {name: piece.part.select(g) for name, g in record.uses.get(piece.paths[0], {}).items()}
