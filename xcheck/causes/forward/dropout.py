"""Dropout: layers that drop another share of the same tensor, that only one side has, or that drop at inference too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...numerics.align import Alignment
from ...numerics.align.graph import Graph, Key
from ...records.calls import Call, Calls
from ...records.isolated_hypotheses import isolated
from ...records.result import Cause
from ...records.sides import SIDES, SideName, other_side
from ...records.trace import AT_INFERENCE, Array, Arrays
from ..prove import read_off

FUSED = "scaled_dot_product_attention"
"""A function that drops something within: nothing shows what."""


@dataclass(frozen=True, slots=True)
class Drop:
    """One call that drops something.

    Attributes:
        call: the layer, or the function.
        key: of the value that goes in; None where it is not seen.
        made: keys of what is made of it next.
        rate: that is dropped.
    """

    call: Call
    key: Key | None
    made: frozenset[Key]
    rate: float


def drops(graph: Graph) -> list[Drop]:
    """The calls of a training step that drop something, in order; of a layer not the function that it calls too.

    Args:
        graph: of the step.
    """
    found: list[Drop] = []
    for call in graph.calls:
        fused = call.kind == FUSED
        within = any("dropout" in above.kind.lower() for above in graph.ancestors(call))
        if not (fused or "dropout" in call.kind.lower()) or within or not graph.inputs[call.index]:
            continue
        names = ("dropout_p",) if fused else ("p", "rate", "1")
        rate = next((call.settings[n] for n in names if n in call.settings), None)
        if call.settings.get("training") is False or isinstance(rate, bool) or not isinstance(rate, int | float):
            continue
        outputs = graph.outputs[call.index].values()
        if rate > 0 and fused:
            found.append(Drop(call, None, frozenset(outputs), float(rate)))
        elif rate > 0:
            users = [user for key in outputs for user in graph.users.get(key, ())]
            made = frozenset(key for user in users for key in graph.outputs[user.index].values())
            found.append(Drop(call, next(iter(graph.inputs[call.index].values())), made, float(rate)))
    return found


def hidden_drops(graph: Graph, rates: Sequence[float], seen: Sequence[Drop]) -> list[Drop]:
    """What drops something inside of a layer where no call shows it, such as between the layers of an LSTM.

    Args:
        graph: of the step.
        rates: of all that drops something in it.
        seen: what `drops` finds.
    """
    left = list(rates)
    for drop in seen:
        if drop.rate in left:
            left.remove(drop.rate)
    found: list[Drop] = []
    for rate in left:
        holding = (c for c in graph.calls if rate in (c.settings.get("dropout"), c.settings.get("recurrent_dropout")))
        found.append(Drop(next(holding, graph.calls[-1]), None, frozenset(), rate))
    return found


@isolated(list[Cause])
def dropout_causes(alignment: Alignment, reference: SideName, rates: Mapping[SideName, Sequence[float]]) -> list[Cause]:
    """Which dropout makes the rates of both sides differ; confirmed where nothing else is left.

    Args:
        alignment: of a training step without dropout.
        reference: which side is the reference of it.
        rates: of all that drops something on each side.
    """
    mine, theirs = drops(alignment.reference), drops(alignment.follower)
    mine += hidden_drops(alignment.reference, rates[reference], mine)
    theirs += hidden_drops(alignment.follower, rates[other_side(reference)], theirs)
    others: dict[int, Drop] = {}
    for same in (_drop_the_same, _make_the_same, _hidden_at_one_rate, _hidden):
        for drop in mine:
            if id(drop) in others:
                continue
            close = [d for d in theirs if id(drop) not in others and same(alignment, drop, d)]
            other = next((d for d in close if d.rate == drop.rate), close[0] if close else None)
            if other is not None:
                theirs.remove(other)
                others[id(drop)] = other
    alone = [(drop, others.get(id(drop))) for drop in mine]
    told: list[tuple[Drop | None, Drop | None]] = [(d, o) for d, o in alone if o is None or o.rate != d.rate]
    told += [(None, drop) for drop in theirs]
    groups: dict[tuple[float, float], list[dict[SideName, Drop | None]]] = {}
    for pair in told:
        sides = dict(zip((reference, other_side(reference)), pair, strict=True))
        groups.setdefault((_rate(sides["torch"]), _rate(sides["keras"])), []).append(sides)
    graphs: dict[SideName, Graph] = {
        reference: alignment.reference,
        other_side(reference): alignment.follower,
    }
    return [_cause(pairs, rates, graphs) for rates, pairs in groups.items()]


@isolated(list[Cause])
def dropping_at_inference(rates: Mapping[SideName, Arrays], calls: Mapping[SideName, Calls]) -> list[Cause]:
    """The side that drops something in inference too; none where both do.

    Args:
        rates: settings of the step of both sides.
        calls: of a pass in inference mode, functions included.
    """
    alone: list[tuple[SideName, Array]] = [
        (side, rates[side][AT_INFERENCE]) for side in SIDES if AT_INFERENCE in rates[side]
    ]
    if len(alone) != 1:
        return []
    ((side, found),) = alone
    other = other_side(side)
    told = {own: "dropped" if own == side else "passed on" for own in SIDES}
    drop = next(
        (c for c in calls[side] if "dropout" in c.kind and c.function and c.settings.get("training") is True), None
    )
    shown = ", ".join(f"{rate:g}" for rate in np.unique(found))
    return [
        read_off(
            Cause(
                id="dropout_at_inference",
                phase="forward",
                torch=drop.name if drop is not None and side == "torch" else None,
                keras=drop.name if drop is not None and side == "keras" else None,
                summary=f"the {side} side also applies dropout at inference, at a rate of {shown}; the {other} side "
                "does not",
                evidence={**told, "rates": found.tolist()},
                fix="torch: F.dropout(x, p, training=self.training), since its default ignores eval()"
                if side == "torch"
                else "keras: Dropout(rate)(x, training=training), or no argument, instead of training=True",
            )
        )
    ]


def _rate(drop: Drop | None) -> float:
    return 0.0 if drop is None else drop.rate


def _drop_the_same(alignment: Alignment, drop: Drop, other: Drop) -> bool:
    return drop.key is not None and other.key is not None and alignment.same(drop.key, other.key)


def _make_the_same(alignment: Alignment, drop: Drop, other: Drop) -> bool:
    """Where one of them is within a function."""
    hidden = drop.key is None or other.key is None
    return hidden and any(alignment.same(key, there) for key in drop.made for there in other.made)


def _hidden(alignment: Alignment, drop: Drop, other: Drop) -> bool:
    """Where no call shows what one of them drops, any other without a partner may be its own."""
    return not drop.made or not other.made


def _hidden_at_one_rate(alignment: Alignment, drop: Drop, other: Drop) -> bool:
    return _hidden(alignment, drop, other) and drop.rate == other.rate


def _cause(
    pairs: Sequence[Mapping[SideName, Drop | None]], rates: tuple[float, float], graphs: Mapping[SideName, Graph]
) -> Cause:
    """One cause for all places with the same two rates."""
    first = pairs[0]
    torch, keras = first["torch"], first["keras"]
    lacking = "torch" if torch is None else "keras" if keras is None else None
    side: SideName = "keras" if lacking == "torch" else "torch"
    of = [described(graphs[side], drop) for pair in pairs if (drop := pair[side]) is not None]
    more = f" and in {len(pairs) - 1} more places" if len(pairs) > 2 else " and in one more" if len(pairs) == 2 else ""
    what = (
        f"the {lacking} side has no dropout where the {side} side applies dropout to {of[0]}{more}"
        if lacking
        else f"dropout is applied to {of[0]} at a different rate{more}"
    )
    return read_off(
        Cause(
            id="dropout_missing" if lacking else "dropout_rate",
            phase="forward",
            torch=torch.call.name if torch is not None else None,
            keras=keras.call.name if keras is not None else None,
            summary=f"{what}: {rates[0]:g} in torch and {rates[1]:g} in keras",
            evidence={"torch": rates[0], "keras": rates[1], "places": len(pairs), "dropped": of},
            fix=f"keras: Dropout({rates[0]:g}), or torch: Dropout({rates[1]:g})",
        )
    )


def described(graph: Graph, drop: Drop) -> str:
    """What goes into a dropout, by what made it.

    Args:
        graph: of the step.
        drop: of it.
    """
    if drop.key is None:
        return f"the weights in {drop.call.name}" if drop.made else f"something inside of {drop.call.name}"
    made = graph.makers.get(drop.key)
    around = next((call.path for call in graph.ancestors(drop.call) if call.path), "")
    where = f" in {around}" if around and not (made and made[0].path.startswith(around)) else ""
    return f"the output of {made[0].name}{where}" if made else f"its input{where}"
