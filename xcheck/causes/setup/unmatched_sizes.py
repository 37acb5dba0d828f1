"""Parameters without a counterpart in layers of one kind: slopes or channels of another number.

Nothing can be computed again where a parameter has no counterpart, so that these are not confirmed.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...matching import MatchPlan
from ...numerics.align.families import family_of
from ...records.inventory import Entry, Inventory
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SIDES, SideName

FAMILIES: Mapping[str, tuple[str, str, str]] = {
    "prelu": (
        "shared_slopes",
        "slopes are shared along other axes",
        "keras: PReLU(shared_axes=[1, 2]) has one slope for each channel of an image, and one for each element without "
        "it; torch: PReLU(num_parameters=channels)",
    ),
    "batchnorm": (
        "channel_axis",
        "each entry of another axis is normalised by itself",
        "keras: BatchNormalization(axis=-1) where the channels are the last axis, axis=1 where they are the second; "
        "torch: the channels are the second axis of what goes in",
    ),
}
"""Family of layers -> id of the cause, what it is, and its fix."""


@isolated(list[Cause])
def size_causes(plan: MatchPlan, inventories: Mapping[SideName, Inventory]) -> list[Cause]:
    """What parameters without a counterpart may be, where both sides have as many of them in layers of one kind.

    Args:
        plan: of the run.
        inventories: of both sides.
    """
    unmatched = {"torch": plan.unmatched_torch, "keras": plan.unmatched_keras}
    causes: list[Cause] = []
    for family, (cause, words, fix) in FAMILIES.items():
        found = {side: _of_family(inventories[side], unmatched[side], family) for side in SIDES}
        if len(found["torch"]) != len(found["keras"]):
            continue
        other = [(t, k) for t, k in zip(found["torch"], found["keras"], strict=True) if t.shape != k.shape]
        if not other:
            continue
        torch, keras = other[0]
        shapes = f"{torch.path} is of shape {torch.shape}, {keras.path} of shape {keras.shape}"
        more = f", and {len(other) - 1} more" if len(other) > 1 else ""
        causes.append(
            Cause(
                id=cause,
                phase="inventory",
                torch=torch.path,
                keras=keras.path,
                summary=f"{shapes}{more}: {words}, if they belong together",
                evidence={"torch": str(torch.shape), "keras": str(keras.shape), "parameters": len(other)},
                confirmed=False,
                fix=fix,
            )
        )
    return causes


def _of_family(inventory: Inventory, paths: tuple[str, ...], family: str) -> list[Entry]:
    return [e for e in inventory.entries if e.path in paths and family_of(e.kind) == family]
