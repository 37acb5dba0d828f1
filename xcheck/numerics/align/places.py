"""Places where one side has a value that the other lacks, although both have its dependencies.

From a value that differs, the search goes back to the first values that are in no tensor of the other side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...records.calls import Call, Calls
from ...records.trace import Array
from .graph import Graph, Key


@dataclass(frozen=True, slots=True)
class Place:
    """A value that one side has and the other lacks, although its dependencies agree.

    Attributes:
        call: the call that computed it.
        output: its name among the outputs.
        key: of the value.
        base: the shared keys that it was computed from.
        depth: calls on the longest path from the base to this one; an outermost call counts as one.
        steps: the same, with every innermost call counted.
        parameters: paths of the parameters used on the path from the base.
        behind: keys on that path.
    """

    call: Call
    output: str
    key: Key
    base: frozenset[Key]
    depth: int
    steps: int = 1
    parameters: frozenset[str] = frozenset()
    behind: frozenset[Key] = frozenset()

    @property
    def distance(self) -> float:
        """Distance from the shared values; a module of many calls is further than one of a single call."""
        return self.depth + 0.2 * (self.steps - self.depth)


def unshared_places(graph: Graph, shared: Mapping[Key, frozenset[Key]], ends: Sequence[Key]) -> list[Place]:
    """The values before some ends that the other side does not have, in the order of computation.

    Args:
        graph: of one side.
        shared: its keys that the other side has.
        ends: keys to start from, such as outputs that differ.
    """

    def is_unshared(key: Key) -> bool:
        return key not in shared and key in graph.makers and not graph.values[key].still

    reached: set[Key] = set()
    waiting = [key for key in ends if is_unshared(key)]
    while waiting:
        key = waiting.pop()
        if key not in reached:
            reached.add(key)
            waiting += [need for need in graph.needs(graph.makers[key][0], key) if is_unshared(need)]
    known: dict[Key, Place] = {}
    places: list[Place] = []
    for call in graph.calls:
        for name, key in graph.outputs[call.index].items():
            if key not in reached or call not in graph.makers[key] or call.parent is None:
                continue
            if key not in known:
                needs = graph.needs(call, key)
                below = [known[need] for need in needs if need in known]
                base = frozenset(need for need in needs if need in shared and need not in graph.constant)
                known[key] = Place(
                    call,
                    name,
                    key,
                    base.union(*(place.base for place in below)),
                    _depth(graph, key, shared, known),
                    1 + max((place.steps for place in below), default=0),
                    frozenset(call.parameters).union(*(place.parameters for place in below)),
                    frozenset(place.key for place in below).union(*(place.behind for place in below)),
                )
            places.append(replace(known[key], call=call, output=name))
    return places


@dataclass(frozen=True, slots=True)
class Region:
    """The computation between the shared values and a place.

    Attributes:
        both: tensors that both sides have, as they are used, by the name of the call that returned them.
        constants: tensors that depend on no input of the model, by the same kind of name.
        calls: the innermost calls, the last first.
        made_of: name of a constant -> paths of the parameters that it was computed from.
    """

    both: Mapping[str, Array]
    constants: Mapping[str, Array]
    calls: Calls
    made_of: Mapping[str, tuple[str, ...]]


def region(graph: Graph, shared: Mapping[Key, frozenset[Key]], place: Place, within: Call) -> Region:
    """The computation that led to a place.

    Args:
        graph: of one side.
        shared: its keys that the other side has.
        place: of the side.
        within: a call around it; shared tensors have the shapes of its inputs.
    """
    outer = {key: within.inputs[name] for name, key in graph.inputs[within.index].items()}
    both: dict[str, Array] = {}
    constants: dict[str, Array] = {}
    made_of: dict[str, tuple[str, ...]] = {}
    calls: list[Call] = []
    waiting, visited = [place.key], {place.key}
    while waiting:
        key = waiting.pop(0)
        call = graph.makers[key][0]
        calls.append(call)
        dependencies = [(k, call.inputs[name]) for name, k in graph.inputs[call.index].items()]
        dependencies += graph.unused_outputs(call, key)
        for need, array in dependencies:
            if need in visited:
                continue
            visited.add(need)
            array = outer.get(need, array)
            makers = graph.makers.get(need)
            name = makers[0].name if makers else "(the inputs)"
            outputs = graph.outputs[makers[0].index] if makers else {}
            whole = [makers[0].outputs[n] for n, k in outputs.items() if k == need] if makers else []
            if whole and whole[0].size > array.size:  # packed since: only the positions that count are in it
                array = whole[0]
            if need in graph.constant or (not makers and need not in shared):
                name = _unique_name(name if makers else "(a constant)", constants | both)
                constants[name] = array
                made_of[name] = tuple(graph.parameters_of(need))
            elif need in shared or not makers:
                both[_unique_name(name, constants | both)] = array
            else:
                waiting.append(need)
    return Region(both, constants, tuple(calls), made_of)


def _unique_name(name: str, used: Mapping[str, Array]) -> str:
    return name if name not in used else f"{name} [{len(used)}]"


def _depth(graph: Graph, key: Key, shared: Mapping[Key, frozenset[Key]], known: Mapping[Key, Place]) -> int:
    """The smallest number of calls from the shared values to a value, over all calls that return it."""
    depths: list[int] = []
    for call in graph.makers[key]:
        if call.parent is None:  # the model itself returns everything
            continue
        inner = graph.needs(call, key) if call.function else list(graph.inputs[call.index].values())
        depths.append(1 + max((known[need].depth for need in inner if need in known), default=0))
    return min(depths, default=1)
