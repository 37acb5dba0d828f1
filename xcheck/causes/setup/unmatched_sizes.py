"""Parameters without a counterpart in layers of one kind: another number of slopes, channels or units.

Nothing can be computed again where a parameter has no counterpart, so that these are not confirmed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ...matching import MatchPlan
from ...numerics.align.families import family_of
from ...records.inventory import Entry, Inventory
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SIDES, SideName

FAMILIES: Mapping[str, tuple[str, str, str]] = {
    "prelu": (
        "shared_slopes",
        "slopes are shared along different axes",
        "keras: PReLU(shared_axes=[1, 2]) has one slope for each channel of an image, and one for each element without "
        "it; torch: PReLU(num_parameters=channels)",
    ),
    "batchnorm": (
        "channel_axis",
        "normalisation runs along a different axis",
        "keras: BatchNormalization(axis=-1) where the channels are the last axis, axis=1 if they are the second; "
        "torch: the channels are the second axis of the input",
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
    families = dict.fromkeys(family_of(e.kind) for e in inventories["torch"].entries if e.path in unmatched["torch"])
    widths: dict[tuple[int, ...], list[tuple[Entry, Entry]]] = {}
    causes: list[Cause] = []
    for family in sorted(families, key=lambda family: family in FAMILIES):
        found = {side: _of_family(inventories[side], unmatched[side], family) for side in SIDES}
        if len(found["torch"]) != len(found["keras"]):
            continue
        pairs = zip(found["torch"], found["keras"], strict=True)
        other = [(t, k) for t, k in pairs if sorted(t.shape) != sorted(k.shape)]
        if other and family in FAMILIES and _width(*other[0]) not in widths:
            causes.append(_cause(*FAMILIES[family], other))
            continue
        for pair in other:
            widths.setdefault(_width(*pair), []).append(pair)
    for width, pairs in widths.items():
        if len(width) == 2:
            words = f"the numbers of channels or units differ: {width[0]} in torch and {width[1]} in keras"
            causes.append(
                _cause(
                    "other_width",
                    words,
                    "give both layers the same number; until then no weights can be transferred",
                    pairs,
                )
            )
    return causes


def _width(torch: Entry, keras: Entry) -> tuple[int, ...]:
    """The one length of each shape that the other does not have; none where there are more."""
    mine, theirs = Counter(torch.shape), Counter(keras.shape)
    left, right = (*(mine - theirs).elements(),), (*(theirs - mine).elements(),)
    return left + right if len(left) == len(right) == 1 else ()


def _cause(cause: str, words: str, fix: str, pairs: Sequence[tuple[Entry, Entry]]) -> Cause:
    torch, keras = pairs[0]
    more = f", and {len(pairs) - 1} more" if len(pairs) > 1 else ""
    return Cause(
        id=cause,
        phase="inventory",
        torch=torch.path,
        keras=keras.path,
        summary=f"{torch.path} is of shape {torch.shape}, {keras.path} of shape {keras.shape}{more}: {words}, if they "
        "belong together",
        evidence={"torch": str(torch.shape), "keras": str(keras.shape), "parameters": len(pairs)},
        confirmed=False,
        fix=fix,
    )


def _of_family(inventory: Inventory, paths: tuple[str, ...], family: str) -> list[Entry]:
    return [e for e in inventory.entries if e.path in paths and family_of(e.kind) == family]
