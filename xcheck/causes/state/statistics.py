"""Causes in the running statistics of a batch normalization: what is new in them, how much counts, in which order.

Each side's statistics after the step are made again from those before it and from what went into each call: a share of
the old and a share of the new, call by call. Where both come out as they were observed, what differs between the two
ways is the cause.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...matching import Match, MatchPlan
from ...numerics.align.families import family_of
from ...records.accepted import Deltas, Exchange
from ...records.calls import Call, Calls
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SideName
from ...records.trace import Array, StepRecord
from ..forward.one_computation import role_of
from ..prove import Trial, prove
from ..recomputed import REPRODUCED, gap, reproduces
from ..update.clipping import rounded

MEAN = ("running_mean", "moving_mean")
VARIANCE = ("running_var", "moving_variance")
ORDER, SHARE, DDOF = "order", "share", "ddof"
"""What may differ between two ways."""
FEW = 3
"""Calls up to which every order of every selection is tried."""


@dataclass(frozen=True, slots=True)
class Moments:
    """What a call of the norm finds in its batch: mean and biased variance of each channel, of so many numbers."""

    mean: Array
    variance: Array
    n: int


@dataclass(frozen=True, slots=True)
class Way:
    """How a side moves its statistics in a step.

    Attributes:
        share: of the new in the sum, in each call.
        ddof: what the variance is divided by, n minus this.
        order: which calls move them, and in which order; positions among those of the side.
    """

    share: float
    ddof: int
    order: tuple[int, ...]

    def after(self, before: Array, batches: Sequence[Moments], *, variance: bool) -> Array:
        """The mean or the variance after the step."""
        value = before
        for i in self.order:
            batch = batches[i]
            new = batch.variance * (batch.n / (batch.n - self.ddof)) if variance else batch.mean
            value = (1 - self.share) * value + self.share * new
        return value


@dataclass(frozen=True, slots=True)
class Norm:
    """One batch normalization of one side in one step.

    Attributes:
        side: whose.
        calls: of it, in order.
        batches: what each call found.
        before, after: mean and variance around the step.
    """

    side: SideName
    calls: tuple[Call, ...]
    batches: tuple[Moments, ...]
    before: tuple[Array, Array]
    after: tuple[Array, Array]

    @property
    def said(self) -> float | None:
        """The share of the new that its settings say."""
        momentum = self.calls[0].settings.get("momentum")
        if not isinstance(momentum, int | float):
            return None
        return float(momentum) if self.side == "torch" else 1 - float(momentum)

    @property
    def shown(self) -> str:
        """Path of the layer."""
        return self.calls[0].path

    def made_by(self, way: Way, before: tuple[Array, Array], batches: Sequence[Moments]) -> bool:
        """Whether a way of moving the statistics gives those that were observed."""
        if any(batches[i].n <= way.ddof for i in way.order):
            return False
        made = tuple(way.after(before[k], batches, variance=bool(k)) for k in (0, 1))
        return self.apart(made) <= REPRODUCED

    def apart(self, made: Sequence[Array]) -> float:
        """How far a mean and a variance are from those that were observed; a mean is zero to its deviation."""
        deviation = float(np.sqrt(self.after[1].max(initial=0)))
        return max(gap(self.after[0], made[0], deviation), gap(self.after[1], made[1]))

    def way(self, others: Sequence[float]) -> Way | None:
        """How it moves its statistics; None where no known way gives them.

        Args:
            others: shares worth trying besides its own.
        """
        orders = _orders(len(self.calls))
        shares = [s for s in (self.said, *others, *(1 - s for s in (self.said, *others) if s)) if s is not None]
        ways = (Way(s, ddof, o) for o in orders for s in dict.fromkeys(shares) for ddof in (0, 1))
        found = next((w for w in ways if self.made_by(w, self.before, self.batches)), None)
        return found or next((w for w in self._fitted() if self.made_by(w, self.before, self.batches)), None)

    def _fitted(self) -> Iterator[Way]:
        """Of a norm that is called once: the share that the mean tells of."""
        if len(self.calls) != 1:
            return
        way, moved = self.batches[0].mean - self.before[0], self.after[0] - self.before[0]
        if way.any():
            exact = float(np.vdot(moved, way) / np.vdot(way, way))
            for share in (rounded(exact), exact):
                yield from (Way(share, ddof, (0,)) for ddof in (0, 1) if share is not None)


@isolated(list[Cause])
def statistics_causes(
    plan: MatchPlan, record: StepRecord, other: StepRecord, calls: Calls, other_calls: Calls
) -> list[Cause]:
    """What makes running statistics differ where all else agrees.

    Args:
        plan: of the run.
        record, calls: of the reference's step.
        other, other_calls: of the other side's.
    """
    found: list[Cause] = []
    for mean, variance in _pairs(plan):
        mine = _norm(plan.reference, mean, variance, record, calls)
        theirs = _norm(plan.follower, mean, variance, other, other_calls)
        if mine is None or theirs is None:
            continue
        found += _causes(plan, (mean, variance), mine, theirs)
    return found


def running_means(plan: MatchPlan) -> list[Match]:
    """The matches that are running means; none where no side normalises batches."""
    return [match for match in plan.buffers if match.plain and role_of(match.torch) in MEAN]


def _pairs(plan: MatchPlan) -> list[tuple[Match, Match]]:
    """The matches of the mean and the variance of each norm."""
    by_layer: dict[str, dict[bool, Match]] = {}
    for match in plan.buffers:
        role, layer = role_of(match.torch), match.torch.rpartition(".")[0]
        if match.plain and role in (*MEAN, *VARIANCE):
            by_layer.setdefault(layer, {})[role in VARIANCE] = match
    return [(found[False], found[True]) for found in by_layer.values() if len(found) == 2]


def norm_calls(side: SideName, path: str, calls: Calls) -> tuple[Call, ...]:
    """The calls of the norm that holds a statistic.

    Args:
        side: whose.
        path: of the statistic.
        calls: of a training step of this side.
    """
    found = [c for c in calls if path in c.parameters and not c.function and family_of(c.kind) == "batchnorm"]
    return tuple(sorted(found, key=lambda c: c.index))


def channels_last(side: SideName, call: Call, array: Array) -> Array:
    """What goes into a norm or comes out of it, with the channels as its last axis.

    Args:
        side: whose.
        call: of the norm.
        array: of it.
    """
    axis = call.settings.get("axis", -1) if side == "keras" else 1
    return np.moveaxis(array, axis if isinstance(axis, int) else -1, -1) if array.ndim > 1 else array


def moments(x: Array) -> Moments:
    """Of a batch with the channels last."""
    rows = x.reshape(-1, x.shape[-1])
    return Moments(rows.mean(axis=0), rows.var(axis=0), len(rows))


def _norm(side: SideName, mean: Match, variance: Match, record: StepRecord, calls: Calls) -> Norm | None:
    found = norm_calls(side, mean.path(side), calls)
    if not found or not all(c.inputs for c in found):
        return None
    batches = tuple(moments(channels_last(side, c, next(iter(c.inputs.values())))) for c in found)
    states = [tuple(state.value(m.path(side)) for m in (mean, variance)) for state in (record.before, record.after)]
    (before, after) = ((state[0], state[1]) for state in states)
    return Norm(side, found, batches, before, after)


def _orders(n: int) -> list[tuple[int, ...]]:
    """Which of several calls move the statistics, and in which order; the likelier first."""
    every = tuple(range(n))
    if n > FEW:
        return [every, every[::-1], (), *((i,) for i in every)]
    return [every, *(o for k in range(n, -1, -1) for o in itertools.permutations(every, k) if o != every)]


def _causes(plan: MatchPlan, pair: tuple[Match, Match], mine: Norm, theirs: Norm) -> list[Cause]:
    known = [share for share in (mine.said, theirs.said) if share is not None]
    way, other = mine.way(known), theirs.way(known)
    same = _positions(mine, theirs)
    if way is None or other is None or same is None:
        return []
    moved = tuple(same[i] for i in way.order)  # the reference's order in the follower's positions
    swapped = Way(way.share, way.ddof, moved)
    before = mine.apart(theirs.after)
    after = mine.apart([swapped.after(theirs.before[k], theirs.batches, variance=bool(k)) for k in (0, 1)])
    if swapped == other or before <= REPRODUCED:
        return []
    sides = {plan.reference: (mine, way), plan.follower: (theirs, Way(other.share, other.ddof, other.order))}
    (torch, of_torch), (keras, of_keras) = sides["torch"], sides["keras"]
    told: list[tuple[str, tuple[str, str, str]]] = []
    if moved != other.order:
        same_calls = sorted(moved) == sorted(other.order)
        told.append((ORDER, _order(torch, of_torch, keras, of_keras, same_calls)))
    if way.order and other.order and not math.isclose(way.share, other.share, rel_tol=REPRODUCED):
        told.append((SHARE, _share(of_torch.share, of_keras.share)))
    if way.order and other.order and way.ddof != other.ddof:
        told.append((DDOF, _variance(of_torch.ddof)))

    def deltas(parts: Collection[str]) -> Deltas:
        whole = ORDER in parts and not other.order  # statistics that stand still tell of no share
        tried = replace(
            other,
            order=moved if ORDER in parts else other.order,
            share=way.share if whole or SHARE in parts else other.share,
            ddof=way.ddof if whole or DDOF in parts else other.ddof,
        )
        ways = [[w.after(theirs.before[k], theirs.batches, variance=bool(k)) for k in (0, 1)] for w in (tried, other)]
        return {(m.path(plan.follower), ""): ways[0][k] - ways[1][k] for k, m in enumerate(pair)}

    return [
        prove(
            Cause(
                id=name,
                phase="state",
                torch=torch.shown,
                keras=keras.shown,
                summary=summary,
                evidence={"calls": len(mine.calls)},
                fix=fix,
                exchanges=(Exchange(torch.shown, keras.shown, part, deltas),),
            ),
            [Trial(before, after, REPRODUCED, mine.after[0].size + mine.after[1].size)],
        )
        for part, (name, summary, fix) in told
    ]


def _positions(mine: Norm, theirs: Norm) -> list[int] | None:
    """For each call of one norm the call of the other that finds the same in its batch; None where one has none."""
    found: list[int] = []
    for batch in mine.batches:
        same = (
            i
            for i, other in enumerate(theirs.batches)
            if i not in found and other.n == batch.n and _alike(batch, other)
        )
        at = next(same, None)
        if at is None:
            return None
        found.append(at)
    return found


def _alike(one: Moments, two: Moments) -> bool:
    scale = float(np.sqrt(one.variance.max(initial=0)))
    near = float(np.abs(one.mean - two.mean).max(initial=0)) <= REPRODUCED * max(scale, float(np.abs(one.mean).max()))
    return near and reproduces(one.variance, two.variance)


def _order(torch: Norm, of_torch: Way, keras: Norm, of_keras: Way, same_calls: bool) -> tuple[str, str, str]:
    n, m = len(of_torch.order), len(of_keras.order)
    if same_calls:
        return (
            "call_order",
            f"batch normalization that is called {n} times in a step: the order of the calls differs, and the last "
            "call counts most in the running statistics",
            "keras: make the calls in the order of the torch side, in the call method of a subclassed model: a "
            "functional model runs its nodes by their depth; or torch: make them in the order of the keras side",
        )
    if not n or not m:
        still, side = ("torch", torch) if not n else ("keras", keras)
        return (
            "statistics_not_updated",
            f"the {still} side does not update the running statistics, the other side updates them {max(n, m)} "
            "times in a step",
            f"{still}: {side.shown}: train it: "
            + ("module.train(), track_running_stats=True" if still == "torch" else "trainable=True, training=True"),
        )
    return (
        "statistics_updates",
        f"the running statistics are updated {n} times in a step in torch and {m} times in keras",
        "call the norm in training with the same batches, and the same number of times, on both sides",
    )


def _share(torch: float, keras: float) -> tuple[str, str, str]:
    turned = math.isclose(torch, 1 - keras, rel_tol=REPRODUCED)
    shown, stays = _short(keras), _short(1 - torch)
    summary = f"each batch contributes {_short(torch)} of the running statistics in torch and {shown} in keras"
    if turned:
        summary += ": momentum is the weight of the new value in PyTorch, and of the old value in Keras"
    fix = f"keras: momentum={stays}, or torch: momentum={shown}"
    return "momentum_convention" if turned else "momentum", summary, fix


def _short(share: float) -> str:
    return f"{share:.6g}"


def _variance(torch: int) -> tuple[str, str, str]:
    unbiased, biased = ("torch", "keras") if torch else ("keras", "torch")
    return (
        "biased_variance",
        f"the {unbiased} side stores the unbiased variance of a batch, sum / (n - 1), the {biased} side the biased "
        "one, sum / n",
        "keras: there is no setting for it: write a subclass whose call multiplies the new part of moving_variance "
        "by n / (n - 1)",
    )
