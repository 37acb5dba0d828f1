"""The contribution of each use of a parameter to its gradient, under names common to both frameworks."""

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
        owner: path of the innermost layer being called, or `PENALTY` or `LOSS`.
        call: number of that call of the layer, from 1; 0 outside of every layer.
        gradient: of the total loss through this place only; None where no gradient comes back.
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
    parameter without a gradient coming back is a use of gradient zero; outside of every layer it is not a use, since
    other code than the loss may read a parameter.

    Args:
        touches: in the order of the forward pass.
        tied: parameters reported even with a single use.

    Returns:
        The parameters that are tied or have several uses.
    """
    calls: dict[str, dict[tuple[str, int], list[Touch]]] = {}
    for touch in touches:
        if touch.call or touch.gradient is not None:
            calls.setdefault(touch.parameter, {}).setdefault((touch.owner, touch.call), []).append(touch)
    named = {parameter: _named(by_call) for parameter, by_call in calls.items()}
    return {parameter: uses for parameter, uses in named.items() if len(uses) > 1 or parameter in tied}


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
"""Indices of uses of one side, and of the uses of the other side with the same total effect."""

CLOSE = 1e-6
"""Relative difference up to which two uses are taken to be the same. It decides which uses are compared, never whether
they agree: real differences between ports may be smaller or larger."""

MOST = 4096
"""Most sums of uses tried to match two groupings."""


def paired(left: Sequence[Array], right: Sequence[Array], *, agree: bool, floor: float = 0.0) -> list[Group]:
    """Match the uses of one side with those of the other: by order first, by value where the order does not fit.

    Two calls of one side may be one call of the other, so the result has groups of uses. A use of gradient zero
    without a match is left out.

    Args:
        left, right: gradients of each use, all of one shape, in the order of the forward passes.
        agree: whether all of them have the same sum on both sides.
        floor: least size of a gradient that is distinguished from zero.
    """
    allowed = CLOSE * max(floor, *(float(np.abs(g).max(initial=0)) for g in (*left, *right)))
    if len(left) == len(right) and all(_gap(a, b) <= allowed for a, b in zip(left, right, strict=True)):
        return [((i,), (i,)) for i in range(len(left))]
    groups: list[Group] = []
    left_open, right_open = list(range(len(left))), list(range(len(right)))
    for i in range(len(left)):
        gap, j = min(((_gap(left[i], right[j]), j) for j in right_open), default=(np.inf, -1))
        if gap <= allowed:
            groups.append(((i,), (j,)))
            left_open.remove(i)
            right_open.remove(j)
    if not agree and len(left_open) == len(right_open):
        groups += [((i,), (j,)) for i, j in zip(left_open, right_open, strict=True)]
        return sorted(groups)
    left_open, right_open = [i for i in left_open if left[i].any()], [j for j in right_open if right[j].any()]
    if agree:
        groups += _in_sum([(i, left[i]) for i in left_open], [(j, right[j]) for j in right_open], allowed)
    else:
        groups += [((i,), ()) for i in left_open] + [((), (j,)) for j in right_open]
    return sorted(groups, key=lambda g: (g[0] or (len(left),), g[1]))


def _in_sum(left: list[tuple[int, Array]], right: list[tuple[int, Array]], allowed: float) -> list[Group]:
    """The finest groups of neighbours with equal sums, given that the total sums are equal."""
    groups: list[Group] = []
    attempts = 0
    while left or right:
        whole = a, b = len(left), len(right)
        ends = [(i, j) for i in range(1, a + 1) for j in range(1, b + 1)] or [whole]
        for a, b in sorted(ends, key=sum):
            attempts += 1
            if (a, b) == whole or _gap(_sum(left[:a]), _sum(right[:b])) <= allowed:
                break
            if attempts == MOST:
                a, b = whole
                break
        groups.append((tuple(i for i, _ in left[:a]), tuple(j for j, _ in right[:b])))
        left, right = left[a:], right[b:]
    return groups


def _sum(uses: Sequence[tuple[int, Array]]) -> Array:
    return np.asarray(sum(gradient for _, gradient in uses))


def _gap(a: Array, b: Array) -> float:
    return float(np.abs(a - b).max(initial=0))
