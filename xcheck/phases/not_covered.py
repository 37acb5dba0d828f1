"""What a run did not compare, so that EQUIVALENT is not read as more than it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import UserCodeError
from ..frameworks.protocol import prepared
from ..pairs.pair import Batch, Pair, Waiver
from ..records.accepted import Accepted
from ..records.result import PHASES, Check, Verdict
from ..records.sides import SIDES

MOST = 20
"""Checks without an answer that are named."""

COMPARED = ("matched", "compared", "waived")
"""Kinds of coverage that are no gap, or named by themselves."""


def batch_notes(pair: Pair, batch: Batch, varied_weights: bool) -> list[str]:
    """Notes on sample weights of one, and on positions excluded from the comparison.

    Args:
        pair: of the run.
        batch: a batch of it.
        varied_weights: whether made batches have different sample weights.
    """
    notes: list[str] = []
    for side in SIDES:
        prepare: Any = getattr(getattr(pair, side), "prepare", None)
        try:
            weights: Any = prepared(prepare, batch, side).sample_weight
        except UserCodeError:
            continue
        if weights is not None and not varied_weights and (np.asarray(weights) == 1).all():
            notes.append(f"not covered: sample weights other than 1 (all that the {side} side prepares are 1)")
    if any(not mask.all() for mask in (batch.compare or {}).values()):
        notes.append("not covered: outputs at positions that Batch.compare excludes")
    return notes


def not_covered(
    pair: Pair,
    phases: Collection[str],
    checks: Sequence[Check],
    coverage: Mapping[str, Mapping[str, int]],
    accepted: Iterable[Accepted],
) -> list[str]:
    """The gaps of a run.

    Args:
        pair: of the run.
        phases: that were asked for.
        checks: that were made.
        coverage: how many of what were compared.
        accepted: the accepted differences, with what became of each.
    """
    ran = {check.phase for check in checks}
    sentences = [f"phase {p}: {'nothing ran' if p in phases else 'not requested'}" for p in PHASES if p not in ran]
    if checks and not any(check.precision == "float32" for check in checks):
        sentences.append("float32: not compared")
    weight_map = pair.weight_map or {}
    sentences += [f"{path}: waived, {t.reason}" for path, t in weight_map.items() if isinstance(t, Waiver)]
    sentences += [f"{name}: not judged, accepted as {a.what}" for a in accepted for name in a.not_judged]
    for what, counts in coverage.items():
        sentences += [
            f"{what}: {n} {kind.replace('_', ' ')}" for kind, n in counts.items() if n and kind not in COMPARED
        ]
    return [*sentences, *_unanswered(checks)]


def _unanswered(checks: Sequence[Check]) -> Iterator[str]:
    open_checks = [check for check in checks if check.verdict is Verdict.INCONCLUSIVE]
    for check in open_checks[:MOST]:
        yield f"{check.phase}: {check.name}: {check.detail or 'no answer'}"
    if len(open_checks) > MOST:
        yield f"{len(open_checks) - MOST} more checks without an answer"
