"""Notes on parts of the pair that a run does not compare, as far as they can be detected."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import UserCodeError
from ..frameworks.protocol import prepared
from ..pairs.pair import Batch
from ..records.sides import SIDES
from .findings import Findings


def uncovered(findings: Findings, batch: Batch, varied_weights: bool) -> list[str]:
    """Notes on sample weights of one, and on positions excluded from the comparison.

    Args:
        findings: of the steps so far.
        batch: a batch of the pair.
        varied_weights: whether made batches have different sample weights.
    """
    notes: list[str] = []
    for side in SIDES:
        prepare: Any = getattr(getattr(findings.pair, side), "prepare", None)
        try:
            weights: Any = prepared(prepare, batch, side).sample_weight
        except UserCodeError:
            continue
        if weights is not None and not varied_weights and (np.asarray(weights) == 1).all():
            notes.append(f"not covered: sample weights other than 1 (all that the {side} side prepares are 1)")
    if any(not mask.all() for mask in (batch.compare or {}).values()):
        notes.append("not covered: what outputs are at positions that Batch.compare leaves out")
    return notes
