"""Matching tensors of both sides: those with the same numbers, as far as rounding allows.

Each side has a graph of values (`graph.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...records.calls import Calls
from ..compare import measure
from ..tolerance import Noise, epsilon
from .graph import Graph, Key, Value


@dataclass(frozen=True)
class Alignment:
    """Both graphs, and their shared values.

    Attributes:
        reference, follower: the sides' graphs.
        there: key of the reference -> keys of the follower with the same numbers.
        back: key of the follower -> keys of the reference with the same numbers.
        conditions: key of the reference -> response to one rounding error, relative to its scale.
        sums: n and m of the noise model.
    """

    reference: Graph
    follower: Graph
    there: Mapping[Key, frozenset[Key]]
    back: Mapping[Key, frozenset[Key]]
    conditions: Mapping[Key, float]
    sums: tuple[int, int]

    def allowed(self, key: Key) -> float:
        """How far rounding may move a value of the reference, relative to its scale."""
        terms, batch_terms = self.sums
        return Noise(terms, 1.0, self.conditions.get(key, 0.0), batch_terms).allowed(epsilon("float64"))

    def same(self, key: Key, other: Key) -> bool:
        """Whether a value of the reference and one of the follower are the same numbers."""
        return other in self.there.get(key, ())

    def agreeing(self) -> set[Key]:
        """Values that the reference computes from its inputs and the follower has, too."""
        graph = self.reference
        return {k for k in self.there if k in graph.makers and k not in graph.constant and not graph.values[k].still}


def align(
    reference: Graph, follower: Graph, conditions: Mapping[Key, float], sums: tuple[int, int] = (1, 1)
) -> Alignment:
    """Find the values that the two sides share.

    Args:
        reference, follower: the graphs of the sides, from one state and one batch.
        conditions: of the reference's values; see `conditions_of`.
        sums: n and m of the noise model.
    """
    unaligned = Alignment(reference, follower, {}, {}, conditions, sums)
    there: dict[Key, frozenset[Key]] = {}
    back: dict[Key, set[Key]] = {}
    sizes: dict[int, list[Value]] = {}
    for value in follower.values.values():
        sizes.setdefault(value.numbers.size, []).append(value)
    ordered = {size: sorted(values, key=lambda v: v.scale) for size, values in sizes.items()}
    scales = {size: np.array([v.scale for v in values]) for size, values in ordered.items()}
    for key, value in reference.values.items():
        size, allowed = value.numbers.size, unaligned.allowed(key)
        if size not in ordered:
            continue
        reach = value.scale * min(2.0 * allowed, 1.0) if allowed < 0.5 else math.inf
        first, last = np.searchsorted(scales[size], [value.scale - reach, value.scale + reach])
        matches = [v.key for v in ordered[size][first : last + 1] if _agree(value, v, allowed)]
        if matches:
            there[key] = frozenset(matches)
            for other in matches:
                back.setdefault(other, set()).add(key)
    reference.know_constants(k for k, others in there.items() if others <= follower.constant)
    follower.know_constants(k for k, others in back.items() if others <= reference.constant)
    return Alignment(reference, follower, there, {k: frozenset(v) for k, v in back.items()}, conditions, sums)


def _agree(value: Value, other: Value, allowed: float) -> bool:
    if value.key == other.key:
        return True
    if value.exact and other.exact:
        return False
    difference = distance(value, other)
    return difference is not None and difference <= allowed


def distance(value: Value, other: Value) -> float | None:
    """The largest difference of two values' numbers, relative to the first's scale; None without a finite one."""
    finite = np.isfinite(value.numbers)
    same = np.array_equal(finite, np.isfinite(other.numbers)) and np.array_equal(
        value.numbers[~finite], other.numbers[~finite], equal_nan=True
    )
    if not same or not finite.any():
        return None
    gap = float(np.abs(value.numbers[finite] - other.numbers[finite]).max())
    return 0.0 if gap == 0.0 else gap / value.scale if value.scale else math.inf


def conditions_of(graph: Graph, twins: Sequence[Calls]) -> dict[Key, float]:
    """The change of each value of the reference by a rounding error at the start, relative to its scale.

    Args:
        graph: of the reference.
        twins: its calls in the perturbed runs.
    """
    conditions: dict[Key, float] = {}
    for twin in twins:
        by_call = {(c.path, c.kind, c.number, c.function): c for c in twin}
        for call in graph.calls:
            other = by_call.get((call.path, call.kind, call.number, call.function))
            for name, key in graph.outputs[call.index].items():
                array, moved = call.outputs[name], None if other is None else other.outputs.get(name)
                if moved is None or moved.shape != array.shape or array.dtype.kind != "f" or not array.size:
                    continue
                if np.isfinite(array).all() and np.isfinite(moved).all():
                    change = measure(array, moved).element
                    conditions[key] = max(conditions.get(key, 0.0), change)
    return conditions
