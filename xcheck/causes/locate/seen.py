"""What one side did at a place: the calls that a reader should know, what went in, and the parameters there."""

from __future__ import annotations

from collections.abc import Mapping

from ...numerics.align import Place
from ...numerics.align.graph import Graph, Key
from ...numerics.align.places import region
from ...records.calls import Call
from ...records.sides import SideName
from ...records.trace import Arrays
from ..forward.one_computation import Seen, role_of


def shown(graph: Graph, place: Place) -> Call:
    """The innermost call that made a value, or the module that does nothing else.

    Args:
        graph: of the side.
        place: where the value is.
    """
    call = graph.makers[place.key][0]
    telling = {key for key in place.base if not graph.values[key].still}
    if call.function:
        for parent in graph.ancestors(call):
            if parent.parent is None or parent not in graph.makers[place.key]:
                break
            if telling <= set(graph.inputs[parent.index].values()):
                return parent
    return call


def seen_at(
    side: SideName, graph: Graph, shared: Mapping[Key, frozenset[Key]], place: Place, values: Arrays, idle: bool
) -> Seen:
    """What one side did at a place.

    Args:
        side: whose.
        graph: of it.
        shared: its keys that the other side has.
        place: where.
        values: of its parameters.
        idle: it has no such operation.
    """
    call = shown(graph, place)
    above = list(graph.ancestors(place.call))
    owner = place.call if not place.call.function else above[0]
    value = place.call.outputs[place.output]
    if idle:
        return Seen(side, call, owner, place.call, value, {place.call.name: value}, idle=True)
    within = region(graph, shared, place, call)
    roles: dict[str, str] = {}
    taken = (*(p for c in within.calls for p in c.parameters), *owner.parameters, *call.parameters)
    taken += tuple(p for c in graph.inside(call) for p in c.parameters)
    for path in taken:
        roles.setdefault(role_of(path), path)
    made_with = frozenset(p for c in within.calls for p in c.parameters).union(*within.made_of.values())
    holders = [next((c for c in graph.ancestors(made) if c.parent is not None), None) for made in within.calls]
    first = next((key for key in graph.inputs[place.call.index].values() if key in place.base), None)
    return Seen(
        side=side,
        call=call,
        owner=owner,
        inner=place.call,
        value=value,
        given=within.both,
        constants=within.constants,
        made_of={name: {p: values[p] for p in paths if p in values} for name, paths in within.made_of.items()},
        calls=within.calls,
        parameters={path: values[path] for path in roles.values() if path in values},
        every={path: values[path] for path in taken if path in values},
        around=tuple(above),
        holders=tuple({c.index: c for c in holders if c is not None and c not in above}.values()),
        views=tuple(graph.views(first)) if first is not None else (),
        taken=made_with,
        ahead=_taken_after(graph, place.call, above[0]) - made_with if above else frozenset(),
    )


def _taken_after(graph: Graph, call: Call, around: Call) -> frozenset[str]:
    """The parameters that a module goes on to take behind a call in it, themselves or as something made of them."""
    last = max(c.index for c in graph.inside(call))
    later = [c for c in graph.inside(around) if c.index > last]
    made_of = (
        p
        for c in later
        for key in graph.inputs[c.index].values()
        if key in graph.constant
        for p in graph.parameters_of(key)
    )
    return frozenset((*made_of, *(p for c in later for p in c.parameters)))
