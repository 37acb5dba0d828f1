"""Runs that ask both sides for the loss of one example at a time."""

from __future__ import annotations

from ....records.isolated_hypotheses import isolated
from ....records.result import Cause
from ...loss.examples import Examples, example_causes
from .probe import Look, LossProbe, penalties

MOST = 32
"""Examples beyond which they are not asked for one by one: each is a run of the model on both sides."""


@isolated(list[Cause])
def by_example(probe: LossProbe, here: Look, elsewhere: Look | None) -> list[Cause]:
    """Why losses differ where outputs do not: what the losses of single examples tell.

    Args:
        probe: both sides, of the step whose losses differ.
        here: what they make of it.
        elsewhere: at other weights.
    """
    batch, record = probe.step.reference.batch, probe.step.reference.record
    if elsewhere is None or not 1 < batch.size <= MOST or penalties(probe.step):
        return []
    found: list[Examples] = []
    for look in (here, elsewhere):
        each = probe.each(look)
        if each is None:
            return []
        found.append(Examples(each, look.values))
    return example_causes("data" if "data" in record.losses else "total", batch, found)
