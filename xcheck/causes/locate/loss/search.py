"""Why a loss differs though the outputs agree: formulas first, then what both sides say when they are asked again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....frameworks.protocol import Runner
from ....matching import MatchPlan
from ....records.result import Cause
from ....stepping.lockstep import StepPair
from ...loss.formula import LOSS_FACTOR, loss_causes
from ...loss.penalties import penalised_causes
from ...loss.penalty import penalty_causes
from ...recomputed import reproduces
from ...refused_tracing import ended_by_user_code
from ..forward import Parting
from .examples import by_example
from .followed import followed_loss
from .part_weights import weighed_parts
from .position_weights import counted_positions
from .probe import Look, LossProbe


def loss_search(
    plan: MatchPlan,
    step: StepPair,
    reference: Runner | None,
    follower: Runner,
    environments: tuple[Mapping[str, Any], Mapping[str, Any]],
    notes: list[str],
) -> tuple[list[Cause], Parting | None]:
    """The causes of the first loss that differs; and the first place in it, where it had to be followed.

    Args:
        plan: of the run.
        step: whose losses differ.
        reference, follower: the sides; None for one of which there is only a record.
        environments: of torch and of keras.
        notes: told where a model cannot be looked into.
    """
    record, other = step.reference.record, step.follower
    probe = LossProbe(plan, step, reference, follower) if reference is not None else None
    here: Look | None = None
    elsewhere: Look | None = None
    if probe is not None:
        with ended_by_user_code(notes):
            here = probe.look()
            here = here if here is not None and probe.is_of_step(here) else None  # a step of one's own has another loss
            elsewhere = probe.look(1) if here is not None else None
    found = loss_causes(plan, step.reference.batch, record, other, elsewhere) + penalty_causes(plan, record, other)
    found = found or penalised_causes(plan, record, other, *environments)
    known = [cause for cause in found if cause.confirmed and cause.id != LOSS_FACTOR]
    if known or probe is None:
        return found, None
    with ended_by_user_code(notes):
        # A factor may be that of this batch alone, where some positions are left out or weigh more.
        found = (counted_positions(probe, here, elsewhere) if here is not None else []) or found
        found = found or weighed_parts(plan, step, probe.reference, follower)
        if not found and here is not None:
            found = by_example(probe, here, elsewhere)
        if here is not None and not any(cause.confirmed for cause in found if cause.id != LOSS_FACTOR):
            name = "data" if "data" in record.losses else "total"
            mine, theirs = record.losses.get(name), other.losses.get(name)
            if mine is not None and theirs is not None and reproduces(mine, theirs):
                return found, None  # what differs is a penalty, which is none of what the loss calls
            followed = followed_loss(name, plan, step, probe.reference, follower)
            if followed is not None:
                return list(followed.causes) or found, followed.places[0]
    return found, None
