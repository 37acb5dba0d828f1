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
        match: the match of the parameter.
        total, other: of the reference and of the other side.
        uses, other_uses: name of the use -> its gradient.
    """

    match: Match
    total: Array
    other: Array
    uses: Arrays
    other_uses: Arrays


def splits(plan: MatchPlan, record: StepRecord, other: StepRecord) -> list[Split]:
    """The gradients that a side split by use, except for those of untied copies: no copy has all uses."""
    copies = [
        [path for path, n in Counter(m.path(side) for m in plan.parameters if m.plain).items() if n > 1]
        for side in (plan.reference, plan.follower)
    ]
    result: list[Split] = []
    for match in plan.trained:
        reference_piece, follower_piece = match.piece(plan.reference), match.piece(plan.follower)
        total, other_total = reference_piece.total(record.gradients.get), follower_piece.total(other.gradients.get)
        if match.plain and any(
            p.paths[0] in repeated for p, repeated in zip((reference_piece, follower_piece), copies, strict=True)
        ):
            continue
        if total is None or other_total is None or other_total.shape != follower_piece.shape:
            continue
        uses, other_uses = by_use(reference_piece, record), by_use(follower_piece, other)
        if uses or other_uses:
            converted = {
                name: match.to(plan.reference, gradient)
                for name, gradient in (other_uses or {WHOLE: other_total}).items()
            }
            result.append(Split(match, total, match.to(plan.reference, other_total), uses or {WHOLE: total}, converted))
    return result


def by_use(piece: Piece, record: StepRecord) -> dict[str, Array]:
    """Name of each use of a piece -> its gradient; empty where the side did not split it."""
    return {name: piece.part.select(g) for name, g in record.uses.get(piece.paths[0], {}).items()}
