"""Tables that depend on no input, such as the angles of rotary positions: where both sides part because theirs differ.

A table may be used in many places, so that one value in the place of another proves nothing. All tables of the follower
are replaced by the reference's at once; where the place agrees then that did not before, they are the cause.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ...numerics.align import Alignment, distance
from ...numerics.align.families import family_of
from ...numerics.align.graph import Graph, Key
from ...records.calls import Call
from ...records.isolated_hypotheses import isolated, nothing
from ...records.result import Cause
from ...records.sides import SideName, other_side
from ...records.trace import Array, Arrays
from ..forward.activation import fewest_digits
from ..prove import Trial, prove
from .forward import Parting
from .replay import Name, Scene, named

MOST_ALIKE = 1e-9
"""Largest difference of the angles of a table from those of a base, relative to them."""


@dataclass(frozen=True, slots=True)
class Table:
    """A value that depends on no input, where it is first used with one that does.

    Attributes:
        call: that made it.
        output: its name among the outputs.
        key: of the value.
    """

    call: Call
    output: str
    key: Key

    @property
    def value(self) -> Array:
        """As it was made."""
        return self.call.outputs[self.output]

    @property
    def kind(self) -> tuple[str, tuple[int, ...]]:
        """What made it, and its shape without axes of one."""
        return family_of(self.call.kind), np.squeeze(self.value).shape


@isolated(nothing)
def table_cause(scene: Scene, parting: Parting) -> Cause | None:
    """The tables that make two sides part at a place; None where replacing them does not make it agree.

    Args:
        scene: both sides.
        parting: the place.
    """
    alignment = parting.alignment
    pairs = list(_pairs(alignment))
    swaps: dict[Name, Arrays] = {}
    for mine, theirs in pairs:
        for call in alignment.follower.makers[theirs.key]:  # made again wherever it is used
            made = {n: mine.value.reshape(a.shape) for n, a in call.outputs.items() if a.size == mine.value.size}
            swaps |= {named(call): made} if call.function else {}
    place = parting.suspect.reference.key
    if not pairs or place in alignment.there:
        return None
    after = scene.aligned(swaps)
    won = after.agreeing() - alignment.agreeing()  # what depends on no input is not among them
    at = place if place in after.there else min(won, default=None) if place in alignment.reference.constant else None
    if at is None:
        return None
    gaps = [distance(after.reference.values[at], after.follower.values[key]) for key in after.there[at]]
    mine, theirs = next(((m, t) for m, t in pairs if _base(m) and _base(t)), pairs[0])
    numbers = alignment.reference.values[mine.key], alignment.follower.values[theirs.key]
    reference = scene.plan.reference
    of: dict[SideName, Table] = {reference: mine, other_side(reference): theirs}
    base = {side: _base(table) for side, table in of.items()}
    names = {side: table.call.name for side, table in of.items()}
    told = f"the table of {names['torch']} in torch differs from that of {names['keras']} in keras"
    if base["torch"] is not None and base["keras"] is not None:
        told = f"the base of the rotary angles is {base['torch']:.12g} in torch and {base['keras']:.12g} in keras"
    cause = Cause(
        id="other_table",
        phase="forward",
        torch=names["torch"],
        keras=names["keras"],
        summary=told,
        evidence={
            "torch": base["torch"] or list(of["torch"].value.shape),
            "keras": base["keras"] or list(of["keras"].value.shape),
            "agrees_then": parting.suspect.reference.call.name,
            "tables": len(pairs),
        },
        fix="compute the table from the same numbers on both sides: rope_theta in torch, rope_max_wavelength in keras"
        if all(base.values())
        else "compute the table from the same numbers on both sides",
    )
    apart, left = distance(*numbers), min(gap for gap in gaps if gap is not None)
    made = math.inf if apart is None else apart
    return prove(cause, [Trial(made, left, alignment.allowed(mine.key), numbers[0].numbers.size)])


def _pairs(alignment: Alignment) -> Iterator[tuple[Table, Table]]:
    """The reference's table for each of the follower's that is another; none where it could be one of several."""
    mine = list(_tables(alignment.reference, alignment.there))
    theirs = list(_tables(alignment.follower, alignment.back))
    for kind in dict.fromkeys(table.kind for table in mine):
        ours, others = ([t for t in tables if t.kind == kind] for tables in (mine, theirs))
        if len(ours) == 1:
            yield from ((ours[0], other) for other in others)


def _tables(graph: Graph, shared: Mapping[Key, frozenset[Key]]) -> Iterator[Table]:
    for key in graph.makers:  # in the order in which they were made
        value = graph.values[key]
        if key not in graph.constant or key in shared or value.still or value.exact:
            continue
        users = [user for user in graph.users.get(key, ()) if user.parent is not None]
        if any(_meets_data(graph, user) for user in users):
            call = graph.makers[key][0]
            yield Table(call, next(n for n, k in graph.outputs[call.index].items() if k == key), key)


def _meets_data(graph: Graph, call: Call) -> bool:
    given = graph.inputs[call.index].values()
    return any(key not in graph.constant and not graph.values[key].still for key in given)


def _base(table: Table) -> float | None:
    """The base of a table of cosines of rotary angles; None where it is none."""
    flat = np.squeeze(table.value)
    half = flat.shape[-1] // 2 if flat.ndim == 2 and len(flat) > 1 else 0
    if half < 2 or np.abs(flat[1]).max() > 1.0:
        return None
    angles = np.arccos(flat[1])
    for one in (angles[:half], angles[::2]):  # halves, or pairs
        if abs(one[0] - 1.0) > MOST_ALIKE or one[1] <= 0:
            continue
        base = float(one[1] ** -len(one))
        found = fewest_digits(base, 1e-6)
        if np.allclose(found ** (-np.arange(len(one)) / len(one)), one, rtol=1e-6, atol=1e-9):
            return found
    return None
