"""What both sides still agree on just before a place where they differ, in words."""

from __future__ import annotations

from ...numerics.align import distance
from ...numerics.align.graph import Graph, Key
from .forward import Parting
from .replay import Scene


def agreed_before(scene: Scene, parting: Parting) -> str:
    """The last tensors before a place that both sides have, in words."""
    alignment, mine = parting.alignment, parting.suspect.reference
    made = [key for key in mine.base if key in alignment.reference.makers]
    if not made:
        return "the inputs of the models"
    order = {id(call): i for i, call in enumerate(alignment.reference.calls)}
    last = max(made, key=lambda key: order[id(alignment.reference.makers[key][0])])
    other = next(iter(sorted(alignment.there[last], key=lambda k: k not in parting.suspect.follower.base)))
    apart = distance(alignment.reference.values[last], alignment.follower.values[other]) or 0.0
    sides = {
        scene.plan.reference: _named(alignment.reference, last),
        scene.plan.follower: _named(alignment.follower, other),
    }
    return f"torch {sides['torch']} and keras {sides['keras']}, {apart:.1e} apart"


def _named(graph: Graph, key: Key) -> str:
    name, shape = (graph.views(key) or [("the input", ())])[0]
    return f"{name} {shape}".replace(",)", ")")
