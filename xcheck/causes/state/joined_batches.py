"""The cause of a batch normalization that sees as one batch what the other side gives it one after the other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...matching import MatchPlan
from ...records.calls import Call, Calls
from ...records.result import Cause
from ...records.sides import SideName, other_side
from ...records.trace import Array, Arrays, StepRecord
from ..forward.one_computation import role_of
from ..prove import Trial, prove
from ..recomputed import REPRODUCED, gap, reproduces
from .statistics import channels_last, moments, norm_calls, running_means

MOST = 4
"""Calls up to which every order is tried."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A norm that one side calls once for what the other gives it in several calls.

    Attributes:
        cause: of the difference.
        torch, keras: the first call of each side.
        error: how far what comes out of it is apart.
    """

    cause: Cause
    torch: Call
    keras: Call
    error: float


def joined_batches(
    plan: MatchPlan, record: StepRecord, other: StepRecord, calls: Calls, other_calls: Calls
) -> Joined | None:
    """The first norm that normalises by the statistics of several batches at once, on one side alone.

    Args:
        plan: of the run.
        record, calls: of the reference's step.
        other, other_calls: of the other side's.
    """
    found: list[tuple[int, Joined]] = []
    for match in running_means(plan):
        mine = norm_calls(plan.reference, match.path(plan.reference), calls)
        theirs = norm_calls(plan.follower, match.path(plan.follower), other_calls)
        sides: list[tuple[SideName, tuple[Call, ...], StepRecord]] = [
            (plan.reference, mine, record),
            (plan.follower, theirs, other),
        ]
        if len(mine) == len(theirs) or min(len(mine), len(theirs)) != 1:
            continue
        (whole_side, (whole,), whole_record), (side, parts, parts_record) = sorted(sides, key=lambda s: len(s[1]))
        joined = _joined(whole_side, whole, whole_record, side, parts, parts_record)
        if joined is not None:
            found.append((mine[0].index, joined))
    return min(found, key=lambda each: each[0], default=(0, None))[1]


def _joined(
    whole_side: SideName,
    whole: Call,
    whole_record: StepRecord,
    side: SideName,
    parts: Sequence[Call],
    record: StepRecord,
) -> Joined | None:
    pieces = [channels_last(side, call, _first(call.inputs)) for call in parts]
    made = [channels_last(side, call, _first(call.outputs)) for call in parts]
    batch, out = (channels_last(whole_side, whole, _first(arrays)) for arrays in (whole.inputs, whole.outputs))
    order = next((o for o in _orders(len(parts)) if _is(batch, [pieces[i] for i in o])), None)
    if order is None:
        return None
    one_by_one = [_normalised(side, parts[i], record, pieces[i]) for i in order]
    at_once = _normalised(whole_side, whole, whole_record, batch)
    ends = np.cumsum([len(pieces[i]) for i in order])[:-1]
    swapped = [_normalised(whole_side, whole, whole_record, x) for x in np.split(batch, ends)]
    observed = [made[i] for i in order]
    apart, after = (gap(np.concatenate(observed), other) for other in (out, np.concatenate(swapped)))
    if not (reproduces(out, at_once) and all(map(reproduces, observed, one_by_one)) and after <= REPRODUCED < apart):
        return None
    first = {whole_side: whole, side: parts[0]}
    cause = Cause(
        id="joined_batches",
        phase="forward",
        torch=first["torch"].path,
        keras=first["keras"].path,
        summary=f"the {side} side calls the batch normalization {len(parts)} times in a step, once for each batch; the "
        f"{whole_side} side joins the batches and calls it once, so it normalises with the statistics of all of "
        "them and updates its running statistics once",
        evidence={"calls": len(parts)},
        fix=f"{whole_side}: call the model once for each batch, or {other_side(whole_side)}: join the batches",
    )
    made = prove(cause, [Trial(apart, after, REPRODUCED, out.size)])
    return Joined(made, first["torch"], first["keras"], apart)


def _first(arrays: Arrays) -> Array:
    return next(iter(arrays.values()))


def _orders(n: int) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(n))) if n <= MOST else [tuple(range(n)), tuple(range(n))[::-1]]


def _is(batch: Array, pieces: Sequence[Array]) -> bool:
    """Whether a batch is some others one after the other."""
    joined = np.concatenate(pieces) if len({p.shape[1:] for p in pieces}) == 1 else None
    return joined is not None and joined.shape == batch.shape and reproduces(batch, joined)


def _normalised(side: SideName, call: Call, record: StepRecord, x: Array) -> Array:
    """What a norm makes of a batch by the batch's own statistics."""
    found = moments(x)
    epsilon = call.settings.get("eps" if side == "torch" else "epsilon", 1e-5)
    out = (x - found.mean) / np.sqrt(found.variance + epsilon)
    values = record.before.values()
    held = {role_of(path): values[path] for path in call.parameters if path in values}
    scale, shift = (
        next((held[r] for r in roles if r in held), None) for roles in (("weight", "gamma"), ("bias", "beta"))
    )
    out = out * scale if scale is not None else out
    return out + shift if shift is not None else out
