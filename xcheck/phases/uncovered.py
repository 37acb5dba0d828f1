"""What a run does not compare though the pair has it, so far as that can be seen: said once, in the notes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import UserCodeError
from ..frameworks.protocol import prepared
from ..pairs.pair import Batch
from ..records.sides import SIDES
from .findings import Findings


def uncovered(findings: Findings, batch: Batch, weighed: bool) -> list[str]:
    """Notes on sample weights of one, and positions that are left out of the comparison.

    Args:
        findings: of the steps so far.
        batch: a given one.
        weighed: made batches have other sample weights.
    """
    notes: list[str] = []
    for side in SIDES:
        prepare: Any = getattr(getattr(findings.pair, side), "prepare", None)
        try:
            weights: Any = prepared(prepare, batch, side).sample_weight
        except UserCodeError:
            continue
        if weights is not None and not weighed and (np.asarray(weights) == 1).all():
            notes.append(f"not covered: sample weights other than 1 (all that the {side} side prepares are 1)")
    if any(not mask.all() for mask in (batch.compare or {}).values()):
        notes.append("not covered: what outputs are at positions that Batch.compare leaves out")
    return notes
