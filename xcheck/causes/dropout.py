"""Dropout: layers that drop another share of the same tensor, or that only one side has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..align import Alignment
from ..calls import Call
from ..graph import Graph, Key
from ..matching import SideName, other_side
from ..result import Cause


@dataclass(frozen=True, slots=True)
class Drop:
    """One call that drops something.

    Attributes:
        call: the layer, or the function.
        key: of the value that goes in.
        rate: that is dropped.
    """

    call: Call
    key: Key
    rate: float


def drops(graph: Graph) -> list[Drop]:
    """The calls of a training step that drop something, in order; of a layer not the function that it calls too.

    Args:
        graph: of the step.
    """
    found: list[Drop] = []
    for call in graph.calls:
        within = any("dropout" in above.kind.lower() for above in graph.ancestors(call))
        if "dropout" not in call.kind.lower() or within or not graph.inputs[call.index]:
            continue
        rate = next((call.settings[n] for n in ("p", "rate", "1") if n in call.settings), None)
        if call.settings.get("training") is False or isinstance(rate, bool) or not isinstance(rate, int | float):
            continue
        if rate > 0:
            found.append(Drop(call, next(iter(graph.inputs[call.index].values())), float(rate)))
    return found


def dropout_causes(alignment: Alignment, reference: SideName) -> list[Cause]:
    """Which dropout makes the rates of both sides differ; confirmed where nothing else is left.

    Args:
        alignment: of a training step without dropout.
        reference: which side is the reference of it.
    """
    mine, theirs = drops(alignment.reference), drops(alignment.follower)
    told: list[tuple[Drop | None, Drop | None]] = []
    for drop in mine:
        close = [d for d in theirs if alignment.same(drop.key, d.key)]
        other = next((d for d in close if d.rate == drop.rate), close[0] if close else None)
        if other is not None:
            theirs.remove(other)
        if other is None or other.rate != drop.rate:
            told.append((drop, other))
    told += [(None, drop) for drop in theirs]
    return [_cause(dict(zip((reference, other_side(reference)), pair, strict=True)), len(told)) for pair in told]


def _cause(pair: Mapping[SideName, Drop | None], many: int) -> Cause:
    torch, keras = pair["torch"], pair["keras"]
    rates = {side: drop.rate if drop is not None else 0.0 for side, drop in pair.items()}
    lacking = "torch" if torch is None else "keras" if keras is None else None
    what = f"the {lacking} side has no dropout there" if lacking else "the same tensor is dropped at another rate"
    return Cause(
        id="dropout_missing" if lacking else "dropout_rate",
        phase="forward",
        torch=torch.call.name if torch is not None else None,
        keras=keras.call.name if keras is not None else None,
        summary=f"{what}: {rates['torch']:g} in torch and {rates['keras']:g} in keras",
        evidence={**rates, "places": many},
        confirmed=True,
        fix=f"keras: Dropout({rates['torch']:g}), or torch: Dropout({rates['keras']:g})",
    )
