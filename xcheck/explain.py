"""Why a step differs: the first place where the sides part, and the causes that are found there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .align import distance
from .causes.forward import forward_causes
from .errors import UserCodeError
from .graph import Graph, Key
from .locate import Parting, Scene, local_of, partings
from .lockstep import StepPair
from .matching import MatchPlan
from .result import Cause, Check, Divergence
from .sides.base import Runner


@dataclass(frozen=True, slots=True)
class Explained:
    """What looking inside a step has shown.

    Attributes:
        divergence: the first place where the sides part; None where it was not found.
        causes: of it and of those behind it.
        notes: what a reader should know besides.
    """

    divergence: Divergence | None = None
    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()


def explain(reference: Runner, follower: Runner, plan: MatchPlan, step: StepPair, first: Check, seed: int) -> Explained:
    """Look into the first step that differs; both sides are left at some state of it.

    Args:
        reference, follower: the sides, live.
        plan: of the run.
        step: the step.
        first: the first check that says so.
        seed: of the perturbations.
    """
    try:
        if first.phase == "forward" and first.error is not None:
            scene = Scene(reference, follower, plan, step, "(training)" in first.name, seed)
            return _forward(scene, first)
    except UserCodeError as error:  # a model may refuse to be watched, and the difference stands all the same
        return Explained(notes=(f"the models could not be looked into: {str(error).splitlines()[0]}",))
    return Explained()


def _forward(scene: Scene, first: Check) -> Explained:
    found = partings(scene)
    if not found:
        return Explained()
    causes: list[Cause] = []
    for parting in found:
        causes += forward_causes(local_of(scene, parting))
    top = found[0]
    divergence = Divergence(
        first.phase,
        first.precision,
        first.step,
        top.torch.name,
        top.keras.name,
        top.check.error,
        top.check.allowed,
        first.name,
        _agreed(scene, top),
    )
    return Explained(divergence, tuple(merged(causes)))


def merged(causes: Sequence[Cause]) -> list[Cause]:
    """One cause for several places that have the same."""
    kept: list[Cause] = []
    for cause in causes:
        same = next((k for k in kept if (k.id, k.summary) == (cause.id, cause.summary)), None)
        if same is None:
            kept.append(cause)
        else:
            also = [*same.evidence.get("also", ()), f"{cause.torch} and {cause.keras}"]
            kept[kept.index(same)] = replace(same, evidence={**same.evidence, "also": also})
    return kept


def _agreed(scene: Scene, parting: Parting) -> str:
    """The last tensors before a place that both sides have, in words."""
    alignment, mine = parting.alignment, parting.suspect.reference
    made = [key for key in mine.base if key in alignment.reference.makers]
    if not made:
        return "what goes into the models"
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
