"""What each use of a parameter contributes to its gradient, under names that both frameworks can be asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .trace import Array

PENALTY, LOSS = "penalty", "loss"
"""Names of the uses outside of every layer."""


@dataclass(frozen=True, slots=True)
class Touch:
    """One place where a parameter's value enters the computation.

    Attributes:
        parameter: its canonical path.
        owner: path of the innermost layer that is being called, or `PENALTY` or `LOSS`.
        call: number of that call of the layer, from 1; 0 outside of every layer.
        gradient: of the total loss through this place alone; None where nothing comes back.
        shape: of the parameter.
    """

    parameter: str
    owner: str
    call: int
    gradient: Array | None
    shape: tuple[int, ...]


def uses_of(touches: Iterable[Touch], tied: Collection[str]) -> dict[str, dict[str, Array]]:
    """Parameter -> name of the use -> gradient through that use, in the order of the forward pass.

    A call of a layer is one use, or as many as it has places where a gradient comes back. A call that reads the
    parameter though no gradient comes back is a use of gradient zero; outside of every layer it is none, since there
    is more than the loss that reads a parameter.

    Args:
        touches: in the order of the forward pass.
        tied: parameters that are reported though they have a single use.

    Returns:
        The parameters that are tied or have several uses.
    """
    calls: dict[str, dict[tuple[str, int], list[Touch]]] = {}
    for touch in touches:
        if touch.call or touch.gradient is not None:
            calls.setdefault(touch.parameter, {}).setdefault((touch.owner, touch.call), []).append(touch)
    found = {parameter: _named(by_call) for parameter, by_call in calls.items()}
    return {parameter: uses for parameter, uses in found.items() if len(uses) > 1 or parameter in tied}


def _named(calls: Mapping[tuple[str, int], list[Touch]]) -> dict[str, Array]:
    uses: dict[str, Array] = {}
    for (owner, call), touches in calls.items():
        gradients = [t.gradient for t in touches if t.gradient is not None and t.gradient.any()]
        gradients = gradients or [np.zeros(touches[0].shape)]
        for number, gradient in enumerate(gradients, 1):
            words = [f"call {call}"] if call else []
            words += [f"use {number}"] if len(gradients) > 1 else []
            uses[f"{owner} ({', '.join(words)})" if words else owner] = gradient
    return uses


Group = tuple[tuple[int, ...], tuple[int, ...]]
"""Uses of one side and the uses of the other that do the same together, each by its place."""

CLOSE = 1e-6
"""Relative difference up to which two uses are taken for the same one. Which are compared is decided by it, never
whether they agree: real differences between ports are smaller as well as larger."""

MOST = 4096
"""Sums of uses that are tried at most to see how two groupings fit."""


def paired(left: Sequence[Array], right: Sequence[Array], *, agree: bool, floor: float = 0.0) -> list[Group]:
    """Which uses of one side are which of the other: by order first, by value where the order does not fit.

    Two calls of one side may be one call of the other, so uses may belong together in groups. A use of gradient zero
    that fits none is left out.

    Args:
        left, right: gradients of each use, all of one shape, in the order of the forward passes.
        agree: whether all of them have the same sum on both sides.
        floor: least size of a gradient that is told from zero.
    """
    allowed = CLOSE * max(floor, *(float(np.abs(g).max(initial=0)) for g in (*left, *right)))
    if len(left) == len(right) and all(_gap(a, b) <= allowed for a, b in zip(left, right, strict=True)):
        return [((i,), (i,)) for i in range(len(left))]
    groups: list[Group] = []
    mine, theirs = list(range(len(left))), list(range(len(right)))
    for i in range(len(left)):
        gap, j = min(((_gap(left[i], right[j]), j) for j in theirs), default=(np.inf, -1))
        if gap <= allowed:
            groups.append(((i,), (j,)))
            mine.remove(i)
            theirs.remove(j)
    if not agree and len(mine) == len(theirs):
        groups += [((i,), (j,)) for i, j in zip(mine, theirs, strict=True)]
        return sorted(groups)
    mine, theirs = [i for i in mine if left[i].any()], [j for j in theirs if right[j].any()]
    if agree:
        groups += _in_sum([(i, left[i]) for i in mine], [(j, right[j]) for j in theirs], allowed)
    else:
        groups += [((i,), ()) for i in mine] + [((), (j,)) for j in theirs]
    return sorted(groups, key=lambda g: (g[0] or (len(left),), g[1]))


def _in_sum(left: list[tuple[int, Array]], right: list[tuple[int, Array]], allowed: float) -> list[Group]:
    """The finest groups of neighbours that have equal sums, where all of both have."""
    groups: list[Group] = []
    tried = 0
    while left or right:
        whole = a, b = len(left), len(right)
        ends = [(i, j) for i in range(1, a + 1) for j in range(1, b + 1)] or [whole]
        for a, b in sorted(ends, key=sum):
            tried += 1
            if (a, b) == whole or _gap(_sum(left[:a]), _sum(right[:b])) <= allowed:
                break
            if tried == MOST:
                a, b = whole
                break
        groups.append((tuple(i for i, _ in left[:a]), tuple(j for j, _ in right[:b])))
        left, right = left[a:], right[b:]
    return groups


def _sum(uses: Sequence[tuple[int, Array]]) -> Array:
    return np.asarray(sum(gradient for _, gradient in uses))


def _gap(a: Array, b: Array) -> float:
    return float(np.abs(a - b).max(initial=0))
