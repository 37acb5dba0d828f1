"""Runs that show by what factor each position of the output enters the loss: its gradient has the factor too."""

from __future__ import annotations

import numpy as np

from ....records.isolated_hypotheses import isolated
from ....records.result import Cause
from ...loss.positions import counted_causes
from .probe import Look, LossProbe


@isolated(list[Cause])
def counted_positions(probe: LossProbe, here: Look, elsewhere: Look | None) -> list[Cause]:
    """Why losses differ where outputs do not: by which positions count, and how much.

    Args:
        probe: both sides, of the step whose losses differ.
        here: what they make of it.
        elsewhere: at other weights, where the same positions count and weigh the same.
    """
    target = probe.step.reference.batch.targets
    records = probe.step.reference.record, probe.step.follower
    name = next((n for n in ("data", "total") if all(n in record.losses for record in records)), None)
    if name is None or not isinstance(target, np.ndarray):
        return []
    looks = [look for look in (here, elsewhere) if look is not None and look.output is not None and look.gradients]
    return counted_causes(name, target, looks)
