"""Where two sides first part on the way back: the gradients with respect to what both compute, the last first.

The forward pass agrees, so that each value of one side is known on the other. Where the gradient of a value differs
though those of all that is made of it agree, what takes the value passes something else back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...numerics.align import Alignment
from ...numerics.align.graph import Graph, Key, value_of
from ...numerics.align.orders import closest
from ...numerics.judge import Frame, Item, compare_items
from ...records.calls import Call, Calls
from ...records.result import Check, Verdict
from ...records.trace import Array
from .replay import Scene, named

HANDING_ON = ("add", "subtract", "concatenate", "stack", "reshape", "transpose", "getitem", "cat")
"""Functions whose way back nobody gets wrong; of several that take a value the others are named first."""

STOPS = ("stop_gradient", "detach")


@dataclass(frozen=True)
class WayBack:
    """The first place on the way back where the gradients part.

    Attributes:
        torch, keras: the calls that take the value and pass something else back.
        check: of the gradients with respect to the value.
        reference, other: these gradients, in the reference's axes.
        agreed: the last pair of tensors whose gradients agree, in words.
    """

    torch: Call
    keras: Call
    check: Check
    reference: Array
    other: Array
    agreed: str


@dataclass(frozen=True)
class _Pair:
    """A value of both sides, and the gradients with respect to it.

    Attributes:
        key, other: of the value on each side.
        index: order in which the reference made it.
        item: to compare.
        missing: the side, reference or follower, that has no gradient of it.
    """

    key: Key
    other: Key
    index: int
    item: Item
    missing: str = ""


def way_back(scene: Scene) -> WayBack | None:
    """The first place on the way back where the gradients part; None where those of all values agree.

    Args:
        scene: both sides in training, with gradients.
    """
    alignment = scene.aligned({})
    pairs = sorted(_pairs(scene, alignment), key=lambda pair: pair.index, reverse=True)
    frame = Frame("gradient", "float64", scene.step.number, scene.plan.reference, *scene.sums)
    checks = compare_items(frame, [pair.item for pair in pairs])
    differing = [c.verdict is Verdict.DIFFERENT and c.error is not None for c in checks]
    wrong = next(
        (i for i, pair in enumerate(pairs) if differing[i] and _goes_on(alignment, pairs, differing, pair)), None
    )
    if wrong is None:
        return None
    wrong = _at_the_stop(scene, alignment, pairs, wrong)
    pair, check = pairs[wrong], checks[wrong]
    assert pair.item.reference is not None
    assert pair.item.other is not None
    calls = {
        scene.plan.reference: _taker(
            alignment.reference, pair.key, pair.item.other, check, pair.missing == "reference"
        ),
        scene.plan.follower: _taker(
            alignment.follower, pair.other, pair.item.reference, check, pair.missing == "follower"
        ),
    }
    after = [i for i in range(wrong) if checks[i].verdict is Verdict.EQUIVALENT]
    made = _made_of(alignment.reference, pair.key)
    last = next((i for i in reversed(after) if pairs[i].key in made), after[-1] if after else None)
    agreed = "the loss"
    if last is not None:
        item, error = pairs[last].item, checks[last].error or 0.0
        agreed = f"the gradients of torch {item.torch} and keras {item.keras}, {error:.1e} apart"
    return WayBack(calls["torch"], calls["keras"], check, pair.item.reference, pair.item.other, agreed)


def _pairs(scene: Scene, alignment: Alignment) -> Iterator[_Pair]:
    order = {id(call): i for i, call in enumerate(alignment.reference.calls)}
    for key in sorted(alignment.agreeing()):
        value = alignment.reference.values[key]
        others = [k for k in alignment.there[key] if k in alignment.follower.makers]
        if value.exact or not others or not all(_used(alignment, key, k) for k in others):
            continue
        mine = _leaves(alignment.reference, key)
        made = mine[0].outputs[_output(alignment.reference, mine[0], key)]
        gradient = _total(alignment.reference, mine, key, made)
        found = [_other(alignment, made, gradient, other) for other in others]
        known = [f for f in found if f is not None and f[1] is not None]
        if not known and gradient is None:
            continue  # nothing that is trained lies before it, on either side
        other, (turned, theirs) = min(
            ((o, f) for o, f in zip(others, found, strict=True) if f is not None),
            key=lambda pair: _apart(pair[1][0], pair[1][1]),
            default=(others[0], (None, None)),
        )
        if turned is None and theirs is None:
            continue
        size = turned if turned is not None else theirs
        assert size is not None
        zero = np.zeros(size.shape)
        names = {
            scene.plan.reference: mine[0].name,
            scene.plan.follower: _leaves(alignment.follower, other)[0].name,
        }
        twins = tuple(_twin(twin, mine, alignment.reference, key) for twin in scene.twins)
        same = turned is gradient
        item = Item(
            f"gradient of the output of {mine[0].name}",
            names["torch"],
            names["keras"],
            zero if turned is None else turned,
            zero if theirs is None else theirs,
            twins if same else tuple(None if t is None else np.sort(t.reshape(-1)) for t in twins),
        )
        missing = "reference" if turned is None else "follower" if theirs is None else ""
        yield _Pair(key, other, order[id(mine[0])], item, missing)


def _at_the_stop(scene: Scene, alignment: Alignment, pairs: list[_Pair], wrong: int) -> int:
    """The value at which the way back is stopped, where one side has no gradients.

    What is made of a detached value alone has none either, since a framework sees nothing to train before it.
    """
    pair = pairs[wrong]
    if not pair.missing:
        return wrong
    graph, key = (alignment.reference, pair.key) if pair.missing == "reference" else (alignment.follower, pair.other)
    stopped = {k for c in graph.calls if c.kind in STOPS for k in graph.outputs[c.index].values()}
    at = {(p.key if pair.missing == "reference" else p.other): i for i, p in enumerate(pairs) if p.missing}
    waiting, seen = [key], {key}
    while waiting:
        key = waiting.pop(0)
        if key in stopped and key in at:
            return at[key]
        needs = [n for call in graph.makers.get(key, ())[:1] for n in graph.needs(call, key)]
        waiting += [n for n in needs if n in at and n not in seen]
        seen.update(needs)
    return wrong


def _used(alignment: Alignment, key: Key, other: Key) -> bool:
    """Whether both sides go on with a value: one that nobody takes, such as a last state, is of no other use."""
    return bool(alignment.reference.users.get(key)) and bool(alignment.follower.users.get(other))


def _goes_on(alignment: Alignment, pairs: list[_Pair], differing: list[bool], pair: _Pair) -> bool:
    """Whether what a value was made from has another gradient too, or none is known of it: else nothing parts there."""
    graph = alignment.reference
    needs = {need for call in _leaves(graph, pair.key) for need in graph.needs(call, pair.key)}
    known = [differing[i] for i, p in enumerate(pairs) if p.key in needs]
    return any(known) or not known


def _leaves(graph: Graph, key: Key) -> list[Call]:
    """The calls that made a value, without those that only contain one that did, or make it of itself again."""
    makers = graph.makers[key]
    around = {above.index for call in makers for above in graph.ancestors(call)}
    leaves = [call for call in makers if call.index not in around] or makers[:1]
    return leaves if len(leaves) == 1 else [c for c in leaves if not _lies_before(graph, key, c)] or leaves[:1]


def _lies_before(graph: Graph, key: Key, call: Call) -> bool:
    """Whether a call was made from a value, by whatever way."""
    waiting = list(graph.inputs[call.index].values())
    seen = set(waiting)
    while waiting:
        at = waiting.pop()
        if at == key:
            return True
        needs = {n for maker in graph.makers.get(at, ())[:1] for n in graph.needs(maker, at)} - seen
        seen |= needs
        waiting += needs
    return False


def _output(graph: Graph, call: Call, key: Key) -> str:
    return next(name for name, k in graph.outputs[call.index].items() if k == key)


def _total(graph: Graph, calls: list[Call], key: Key, like: Array) -> Array | None:
    """The gradient with respect to a value; where it is made several times, of all together."""
    found = [call.gradients.get(_output(graph, call, key)) for call in calls]
    known = [g.reshape(like.shape) for g in found if g is not None and g.size == like.size]
    return np.sum(known, axis=0) if known else None


def _other(
    alignment: Alignment, made: Array, gradient: Array | None, other: Key
) -> tuple[Array | None, Array | None] | None:
    """Both gradients in the reference's axes; in ascending order, where the values have no order of axes."""
    calls = _leaves(alignment.follower, other)
    theirs = calls[0].outputs[_output(alignment.follower, calls[0], other)]
    found = _total(alignment.follower, calls, other, theirs)
    if found is None or gradient is None:
        return gradient, found
    order = closest(made, theirs)
    if order is None:
        return None
    scale = float(np.abs(made).max()) or 1.0
    if float(np.abs(order.apply(made) - theirs).max()) <= 1e-6 * scale:
        return gradient, order.inverse().apply(found)
    return np.sort(gradient.reshape(-1)), np.sort(found.reshape(-1))


def _apart(mine: Array | None, theirs: Array | None) -> float:
    if mine is None or theirs is None:
        known = mine if mine is not None else theirs
        return 0.0 if known is None else float(np.abs(known).max())
    return float(np.abs(mine - theirs).max())


def _twin(twin: Calls, calls: list[Call], graph: Graph, key: Key) -> Array | None:
    by_name = {named(call): call for call in twin}
    found: list[Array] = []
    for call in calls:
        other = by_name.get(named(call))
        gradient = None if other is None else other.gradients.get(_output(graph, call, key))
        if gradient is None:
            return None
        found.append(gradient)
    return np.sum(found, axis=0)


def _made_of(graph: Graph, key: Key) -> set[Key]:
    """What is made of a value directly."""
    return {k for call in graph.users.get(key, ()) for k in graph.outputs[call.index].values()}


def _taker(graph: Graph, key: Key, wanted: Array, check: Check, missing: bool) -> Call:
    """The call that takes a value and passes something else back than is wanted."""
    for call in graph.calls:  # what hands the value on, such as a stop of the gradient
        outputs = [n for n, k in graph.outputs[call.index].items() if k == key]
        if outputs and ((missing and call.kind in STOPS) or _passes(call, outputs[0], wanted, check)):
            return call
    users = [c for c in graph.users.get(key, ()) if key not in graph.outputs[c.index].values()]
    inner = [c for c in users if not any(c in graph.ancestors(other) for other in users)]
    telling = [c for c in inner if c.kind not in HANDING_ON] or inner
    if not telling:
        return graph.makers[key][0]
    call = telling[0]
    if call.function:
        parent = next(graph.ancestors(call), None)
        if parent is not None and parent.parent is not None and parent in users:
            return parent
    return call


def _passes(call: Call, output: str, wanted: Array, check: Check) -> bool:
    """Whether the gradient of what a call gives is the one that is wanted of what it takes."""
    gradient = call.gradients.get(output)
    if gradient is None or gradient.size != wanted.size or check.allowed is None:
        return False
    mine, theirs = value_of(gradient), value_of(wanted)
    return float(np.abs(mine.numbers - theirs.numbers).max()) <= check.allowed * max(theirs.scale, mine.scale)
