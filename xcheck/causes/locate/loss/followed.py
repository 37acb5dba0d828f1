"""A loss followed call by call: the first values in it that differ, and why, seen on several inputs.

A loss is a function like a model: what it calls is recorded on both sides and aligned by value. Most of its values are
few numbers, or one; so the same place is looked at on other weights too, and what it took and gave there is stacked
along a first axis. What explains the stack explains every input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ....frameworks.protocol import Runner
from ....matching import MatchPlan
from ....numerics.align import Alignment, Place, Suspect
from ....numerics.align.graph import Graph
from ....numerics.align.orders import Order
from ....records.calls import LOSS, Calls
from ....records.isolated_hypotheses import isolated, nothing
from ....records.result import Cause
from ....records.sides import SIDES
from ....records.trace import Arrays
from ....stepping.lockstep import StepPair
from ...forward.families import value_causes
from ...forward.one_computation import Local, Seen
from ..axes import order_of
from ..forward import Parting, local_of, parting_of
from ..replay import Name, Scene, at_other_weights, named
from ..tries import NEIGHBOURS, best_of, ends_of, neighbours, suspects_of
from .one_sided import losses_without, one_sided, one_sided_causes

SEEDS = (1, 2, 3, 4)
"""Other weights that the places are looked at on: two numbers more than two terms and an offset are solved from."""

MOST = 6
"""Places in one loss that are followed."""


def _nothing_in_models(_: str) -> bool:
    """The functions of the loss are recorded, and none of the model."""
    return False


class LossScene(Scene):
    """Both sides at the start of a step, of which the loss alone is looked at."""

    def graph_of(self, calls: Calls) -> Graph:
        """The values of one side's loss."""
        return Graph(of_loss(calls), self.mask, lone=True)


def of_loss(calls: Calls) -> Calls:
    """The loss and what was called in it.

    Args:
        calls: of a training step.
    """
    loss = next((call for call in calls if call.path == LOSS and call.parent is None), None)
    return () if loss is None else tuple(c for c in calls if c.path == LOSS and c.index >= loss.index)


@dataclass(frozen=True, slots=True)
class Followed:
    """Where two losses first differ.

    Attributes:
        places: the first values that differ, each made of what agrees.
        causes: why.
    """

    places: Sequence[Parting]
    causes: Sequence[Cause]


@isolated(nothing)
def followed_loss(name: str, plan: MatchPlan, step: StepPair, reference: Runner, follower: Runner) -> Followed | None:
    """The first values that differ in a loss; None where it cannot be followed, or all of it agrees.

    Args:
        name: of the loss.
        plan: of the run.
        step: whose losses differ.
        reference, follower: the sides.
    """
    scene = _scene(plan, step, reference, follower)
    places, settled = _places(scene)
    if not places:
        return None
    # One after the other: a scene leaves the follower at its start.
    moved = (at_other_weights(step, seed) for seed in SEEDS)
    again = [_seen_again(_scene(plan, at, reference, follower), places) for at in moved]
    found: list[Cause] = []
    known = settled
    for i, place in enumerate(places):
        seen = [local_of(scene, place), *(local for at in again if (local := at[i]) is not None)]
        stack = _stacked(seen)
        made = [] if stack is None else value_causes(stack)
        known = known and any(cause.confirmed for cause in made)
        # What explains a place explains the loss only where nothing is left of its difference.
        lines = {"torch_line": place.torch.line, "keras_line": place.keras.line}
        made = [
            replace(c, phase="loss", evidence={**c.evidence, **{k: v for k, v in lines.items() if v}}) for c in made
        ]
        found += made if settled else [replace(c, confirmed=False) for c in made]
    return Followed(places, found if known else _left_out(name, scene, places[0].alignment) or found)


def _left_out(name: str, scene: LossScene, alignment: Alignment) -> list[Cause]:
    """The one operation of one side that is the difference, seen on two inputs."""
    groups = one_sided(scene, alignment)
    if not groups:
        return []
    other = _scene(scene.plan, at_other_weights(scene.step, SEEDS[0]), scene.reference, scene.follower)
    return one_sided_causes(name, groups, [losses_without(at, groups) for at in (scene, other)])


def _scene(plan: MatchPlan, step: StepPair, reference: Runner, follower: Runner) -> LossScene:
    return LossScene(reference, follower, plan, step, True, 0, _nothing_in_models, gradients=True)


# Where ------------------------------------------------------------------------------------------------------------


def _places(scene: Scene) -> tuple[list[Parting], bool]:
    """The first values that differ; and whether the losses agree with the reference's values in their places."""
    found: list[Parting] = []
    swaps: dict[Name, Arrays] = {}
    alignment = scene.aligned(swaps)
    while any(ends_of(alignment)) and len(found) < MOST:
        best = best_of(scene, alignment, swaps, NEIGHBOURS)
        if best is not None and (best.proven or not any(ends_of(best.after))):
            chosen, swaps, after = neighbours(scene, alignment, swaps, best) or ([best], best.swaps, best.after)
        else:
            several = neighbours(scene, alignment, swaps, None)
            if several is None:
                return found, False
            chosen, swaps, after = several
        found += [parting_of(scene, alignment, tried.suspect, tried.order, True) for tried in chosen]
        alignment = after
    return found, not any(ends_of(alignment))


# Once more, on other weights --------------------------------------------------------------------------------------


def _seen_again(scene: Scene, places: Sequence[Parting]) -> list[Local | None]:
    """What both sides did at the same places on other weights; None where they are not there."""
    found: list[Local | None] = []
    swaps: dict[Name, Arrays] = {}
    alignment = scene.aligned(swaps)
    for place in places:
        suspect = next((s for s in suspects_of(scene, alignment) if _same(s, place.suspect)), None)
        order = None if suspect is None else order_of(alignment, suspect)
        if suspect is None or order is None:
            found.append(None)
            continue
        order = place.order if (order.source, order.target) == (place.order.source, place.order.target) else order
        found.append(local_of(scene, parting_of(scene, alignment, suspect, order, True)))
    return found


def _same(suspect: Suspect, other: Suspect) -> bool:
    def of(place: Place) -> tuple[Name, str]:
        return named(place.call), place.output

    return all(
        of(a) == of(b) for a, b in ((suspect.reference, other.reference), (suspect.follower, other.follower))
    ) and (suspect.lacking == other.lacking)


def _stacked(seen: Sequence[Local]) -> Local | None:
    """What both sides did on several inputs, along a first axis; None where it was not the same on two of them."""
    first, n = seen[0], len(seen)
    if n < 2:
        return None
    torch, keras = (_stack([local.of(side) for local in seen]) for side in SIDES)
    if torch is None or keras is None:
        return None
    axes = (0, *(a + 1 for a in first.order.axes))
    order = Order((n, *first.order.source), (n, *first.order.target), axes, first.order.after)
    if (order.source, order.target) != (torch.value.shape, keras.value.shape):
        return None
    allowed, error = max(local.allowed for local in seen), max(local.error for local in seen)
    return Local(torch, keras, order, allowed, error, first.partners, True)


def _stack(seen: Sequence[Seen]) -> Seen | None:
    first = seen[0]

    def along(arrays: Sequence[Arrays]) -> Arrays | None:
        if any(
            {k: a.shape for k, a in other.items()} != {k: a.shape for k, a in arrays[0].items()} for other in arrays
        ):
            return None
        return {name: np.stack([other[name] for other in arrays]) for name in arrays[0]}

    given, constants = along([s.given for s in seen]), along([s.constants for s in seen])
    value = along([{"": s.value} for s in seen])
    if given is None or constants is None or value is None:
        return None
    return replace(first, value=value[""], given=given, constants=constants)
