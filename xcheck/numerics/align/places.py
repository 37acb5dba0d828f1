"""Where one side has a value that the other does not, though what it was made from is in both.

Where a value is in no tensor of the other side though something that depends on it differs, the search goes back to the
first such values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...records.calls import Call, Calls
from ...records.trace import Array
from .graph import Graph, Key


@dataclass(frozen=True, slots=True)
class Place:
    """Where one side has a value that the other does not, though what it depends on agrees.

    Attributes:
        call: that made it.
        output: its name among the outputs.
        key: of the value.
        base: keys that both sides have and that it was made from.
        depth: calls on the longest way from the base to this one, the outermost of those made from it counted as one.
        steps: the same with every innermost call counted.
        parameters: paths of those that took part on the way from the base.
        behind: keys on that way.
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
    def way(self) -> float:
        """How far it is from what both sides have; a module of many calls is further than one of one."""
        return self.depth + 0.2 * (self.steps - self.depth)


def parting(graph: Graph, shared: Mapping[Key, frozenset[Key]], ends: Sequence[Key]) -> list[Place]:
    """The values behind some ends that the other side does not have, in the order in which they were made.

    Args:
        graph: of one side.
        shared: its keys that the other side has.
        ends: keys to start from, such as outputs that differ.
    """

    def open_(key: Key) -> bool:
        return key not in shared and key in graph.makers and not graph.values[key].still

    reached: set[Key] = set()
    waiting = [key for key in ends if open_(key)]
    while waiting:
        key = waiting.pop()
        if key not in reached:
            reached.add(key)
            waiting += [need for need in graph.needs(graph.makers[key][0], key) if open_(need)]
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
    """What lies between what both sides have and a place.

    Attributes:
        both: tensors that both sides have, as they are used, by the name of the call that they came out of.
        constants: likewise what depends on no input of the model.
        calls: the innermost calls, the last first.
        made_of: name of a constant -> paths of the parameters that it was made of.
    """

    both: Mapping[str, Array]
    constants: Mapping[str, Array]
    calls: Calls
    made_of: Mapping[str, tuple[str, ...]]


def region(graph: Graph, shared: Mapping[Key, frozenset[Key]], place: Place, within: Call) -> Region:
    """What a place was made from.

    Args:
        graph: of one side.
        shared: its keys that the other side has.
        place: of the side.
        within: a call around it, whose inputs have the shapes to show.
    """
    outer = {key: within.inputs[name] for name, key in graph.inputs[within.index].items()}
    both: dict[str, Array] = {}
    constants: dict[str, Array] = {}
    made_of: dict[str, tuple[str, ...]] = {}
    calls: list[Call] = []
    waiting, seen = [place.key], {place.key}
    while waiting:
        key = waiting.pop(0)
        call = graph.makers[key][0]
        calls.append(call)
        given = [(k, call.inputs[name]) for name, k in graph.inputs[call.index].items()]
        given += graph.left_over(call, key)
        for need, array in given:
            if need in seen:
                continue
            seen.add(need)
            array = outer.get(need, array)
            made = graph.makers.get(need)
            name = made[0].name if made else "(the inputs)"
            whole = [made[0].outputs[n] for n, k in graph.outputs[made[0].index].items() if k == need] if made else []
            if whole and whole[0].size > array.size:  # packed since: only the positions that count are in it
                array = whole[0]
            if need in graph.constant or (not made and need not in shared):
                name = _free(name, constants)
                constants[name] = array
                made_of[name] = tuple(graph.parameters_of(need))
            elif need in shared or not made:
                both[_free(name, both)] = array
            else:
                waiting.append(need)
    return Region(both, constants, tuple(calls), made_of)


def _free(name: str, taken: Mapping[str, Array]) -> str:
    return name if name not in taken else f"{name} [{len(taken)}]"


def _depth(graph: Graph, key: Key, shared: Mapping[Key, frozenset[Key]], known: Mapping[Key, Place]) -> int:
    """Over the calls that a value comes out of, the fewest on the way from what both sides have."""
    depths: list[int] = []
    for call in graph.makers[key]:
        if call.parent is None:  # everything comes out of the model itself
            continue
        inner = graph.needs(call, key) if call.function else list(graph.inputs[call.index].values())
        depths.append(1 + max((known[need].depth for need in inner if need in known), default=0))
    return min(depths, default=1)
