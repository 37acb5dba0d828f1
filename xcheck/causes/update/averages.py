"""Causes in averages of the weights: where they start, their share, and whether they are written over the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...matching import Match, MatchPlan
from ...records.accepted import Deltas
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SIDES, SideName, other_side
from ...records.slots import AVERAGE
from ...records.trace import Array, StepRecord
from ..prove import read_off
from ..recomputed import REPRODUCED, reproduces

OVERWRITE = "ema_overwrite_frequency"
"""How Keras calls the number of updates after which it writes its averages over the weights."""

STARTS = {
    "initial": "from the initial weights",
    "updated": "from the weights after the first update",
    "zero": "from zero",
    "own": "from values of its own",
}
"""Where an average may start."""


class Average(NamedTuple):
    """The average of one weight on one side, in the layout of PyTorch.

    Attributes:
        start: before the step; None where there was none.
        new: after the step.
        old_weight, weight: before and after the step.
    """

    start: Array | None
    new: Array
    old_weight: Array
    weight: Array


Both = dict[SideName, Sequence[Average]]


def average_causes(
    plan: MatchPlan, records: Mapping[SideName, StepRecord], facts: Mapping[SideName, Mapping[str, Any]]
) -> Iterator[Cause]:
    """What makes averages of the weights unlike, or weights that they are written over.

    Args:
        plan: of the run.
        records: the step of each side.
        facts: environments of the sides.
    """
    kept: Both = {side: [a for m in plan.trained if (a := _average(m, records[side], side))] for side in SIDES}
    having: list[SideName] = [side for side in SIDES if kept[side]]
    if len(having) == 1:
        yield from _lone(having[0], kept, facts)
    if len(having) < 2 or len(kept["torch"]) != len(kept["keras"]):
        return
    pairs = list(zip(kept["torch"], kept["keras"], strict=True))
    if not all(reproduces(k.weight, t.weight) for t, k in pairs):
        yield from (cause for side in SIDES for cause in _over(side, kept))
        return
    yield from _other_start(kept)
    yield from _other_share(kept)


@isolated(list[Cause])
def own_average_causes(plan: MatchPlan, record: StepRecord, other: StepRecord, keras: Mapping[str, Any]) -> list[Cause]:
    """What makes averages of the weights differ although their weights differ, too: each is read off its own weights.

    Nothing where weights may be averages themselves: an average that was written over its weight looks like one that
    starts from the updated weight. Keras says whether it does so; of PyTorch's own code nobody does.

    Args:
        plan: of the run.
        record, other: the step of the reference, and of the other side.
        keras: environment of the Keras side.
    """
    records: dict[SideName, StepRecord] = {plan.reference: record, plan.follower: other}
    kept: Both = {side: [a for m in plan.trained if (a := _average(m, records[side], side))] for side in SIDES}
    if not kept["torch"] or len(kept["torch"]) != len(kept["keras"]):
        return []
    start = _start(kept["torch"])
    if keras.get("optimizer_settings", {}).get(OVERWRITE) or (start is not None and start[0] == "updated"):
        return []
    return [*_other_start(kept), *_other_share(kept)]


def moved_averages(record: StepRecord, moved: Deltas) -> dict[tuple[str, str], Array]:
    """What averages change by if the weights after a step change.

    Args:
        record: of the step.
        moved: changes of weights and slots, by path and role.

    Returns:
        The changes of the averages; none where they do not follow from the weights of the step.
    """
    kept = {
        path: Average(record.before.slots.get(path, {}).get(AVERAGE), roles[AVERAGE], before[path], after[path])
        for before, after in [(record.before.parameters, record.after.parameters)]
        for path, roles in record.after.slots.items()
        if AVERAGE in roles and path in before and path in after and roles[AVERAGE].shape == after[path].shape
    }
    averages = list(kept.values())
    share = _kept_share(averages) if averages else None
    if share is None:
        return {}
    return {(path, AVERAGE): (1 - share) * moved[path, ""] for path in kept if (path, "") in moved}


def _average(match: Match, record: StepRecord, side: SideName) -> Average | None:
    def get(slots: Mapping[str, Mapping[str, Array]]) -> Array | None:
        return match.piece(side).total(lambda path: slots.get(path, {}).get(AVERAGE))

    piece = match.piece(side)
    found = [get(record.before.slots), get(record.after.slots), piece.total(record.before.value)]
    start, new, old, weight = [*found, piece.total(record.after.value)]
    if new is None or old is None or weight is None or new.shape != weight.shape:
        return None
    start = None if start is None or start.shape != new.shape else start
    if side == "keras":
        new, old, weight = (match.value_to("torch", a) for a in (new, old, weight))
        start = None if start is None else match.value_to("torch", start)
    return Average(start, new, old, weight)


def _lone(side: SideName, kept: Both, facts: Mapping[SideName, Mapping[str, Any]]) -> Iterator[Cause]:
    every = facts[side].get("optimizer_settings", {}).get(OVERWRITE)
    if isinstance(every, int) and every:
        yield _cause(
            "averages_over_weights",
            kept,
            f"the {side} side writes averages of its weights over the weights every {every} updates; the "
            f"{other_side(side)} side keeps none",
            {"averages": len(kept[side]), "on_the_other_side": 0, OVERWRITE: every},
            f"keras: {OVERWRITE}=None, or torch: copy averages over the weights every {every} updates",
        )


def _over(side: SideName, kept: Both) -> Iterator[Cause]:
    """Averages that one side has written over its weights: its average, made with the other's weight, is its weight."""
    mine, theirs = kept[side], kept[other_side(side)]
    if not all(np.array_equal(a.new, a.weight) for a in mine):
        return
    starts = [np.zeros_like(a.new) if a.start is None else a.start for a in mine]
    share = _share([(s, a.new, b.weight) for s, a, b in zip(starts, mine, theirs, strict=True)])
    if share is None:
        return
    yield _cause(
        "averages_over_weights",
        kept,
        f"in this step the {side} side has written its averages over its weights, the {other_side(side)} side has not",
        {"weights_equal_to_their_average": len(mine), "share": share, "made_again_to": REPRODUCED},
        f"keras: {OVERWRITE} as torch has it (None: never), or torch: copy the averages when keras does",
    )


def _other_start(kept: Both) -> Iterator[Cause]:
    """Averages of the same weights that start elsewhere: each is what its start gives, with one share."""
    found = {side: _start(kept[side]) for side in SIDES}
    torch, keras = found["torch"], found["keras"]
    if torch is None or keras is None or torch[0] == keras[0] or "own" in (torch[0], keras[0]):
        return
    shares = [share for start, share in (torch, keras) if start != "updated"]  # of itself: any share gives it
    if len(shares) == 2 and abs(shares[0] - shares[1]) > REPRODUCED:
        return
    yield _cause(
        "average_start",
        kept,
        f"the averages of the weights start {STARTS[torch[0]]} in torch, and {STARTS[keras[0]]} in keras",
        {"torch": torch[0], "keras": keras[0], "share": shares[0], "made_again_to": REPRODUCED},
        _START_FIX[keras[0]] + f", or torch: start the averages {STARTS[keras[0]]}",
    )


_START_FIX = {
    "updated": "keras: in a subclass of the optimizer, assign the weights to self._model_variables_moving_average at "
    "the end of build, and let _update_model_variables_moving_average keep ema_momentum in the first update, too",
    "initial": "keras: start the averages where torch does",
    "zero": "keras: start the averages where torch does",
}


def _start(kept: Sequence[Average]) -> tuple[str, float] | None:
    """Where averages have started, if this is the step in which they do, and their share."""
    if all(reproduces(a.new, a.weight) for a in kept):
        return "updated", 0.0
    starts = {
        "initial": [a.old_weight for a in kept],
        "zero": [np.zeros_like(a.new) for a in kept],
    }
    for name, values in starts.items():
        begun = all(a.start is None or reproduces(a.start, s) for a, s in zip(kept, values, strict=True))
        share = _share([(s, a.new, a.weight) for s, a in zip(values, kept, strict=True)]) if begun else None
        if share is not None:
            return name, share
    return None


def _other_share(kept: Both) -> Iterator[Cause]:
    found: dict[SideName, float | None] = {}
    for side in SIDES:
        start = _start(kept[side])
        found[side] = start[1] if start is not None and start[0] != "updated" else _running_share(kept[side])
    torch, keras = found["torch"], found["keras"]
    if torch is None or keras is None or abs(torch - keras) <= REPRODUCED * abs(torch):
        return
    if any((start := _start(kept[side])) is not None and start[0] == "updated" for side in SIDES):
        return  # a start of its own
    yield _cause(
        "average_momentum",
        kept,
        f"the averages of the weights keep {torch:.12g} of their old value in torch and {keras:.12g} in keras",
        {"torch": torch, "keras": keras, "made_again_to": REPRODUCED},
        f"keras: ema_momentum={torch:.12g} in this update, or torch: a share of {keras:.12g}",
    )


def _kept_share(kept: Sequence[Average]) -> float | None:
    """How much of the averages is kept in a step, wherever they start."""
    start = _start(kept)
    return _running_share(kept) if start is None else start[1]


def _running_share(kept: Sequence[Average]) -> float | None:
    return _share([(np.zeros_like(a.new) if a.start is None else a.start, a.new, a.weight) for a in kept])


def _share(steps: Sequence[tuple[Array, Array, Array]]) -> float | None:
    """How much of an average is kept, from (start, new, weight) of each; None where no one number gives them all."""
    start, new, weight = max(steps, key=lambda each: float(np.abs(each[0] - each[2]).max(initial=0)))
    apart = start - weight
    if not apart.any():
        return None
    share = float(np.vdot(new - weight, apart) / np.vdot(apart, apart))
    again = ((n, share * s + (1 - share) * w, float(np.abs(w).max(initial=0))) for s, n, w in steps)
    return share if 0 <= share < 1 and all(reproduces(*each) for each in again) else None


def _cause(name: str, kept: Both, summary: str, evidence: Any, fix: str) -> Cause:
    where = {side: f"averages of {len(kept[side])} weights" if kept[side] else "no averages" for side in SIDES}
    return read_off(Cause(name, "update", where["torch"], where["keras"], summary, evidence, fix=fix))
