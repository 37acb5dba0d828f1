"""The use of a parameter without a counterpart: which call takes it, what it returns, and where that goes."""

from __future__ import annotations

from ..numerics.align.graph import Graph
from ..records.calls import Call, Calls
from ..records.trace import Array


def doings(calls: Calls, paths: tuple[str, ...]) -> dict[str, str]:
    """Path -> the use of a parameter, in words, for parameters that a recorded call takes.

    Args:
        calls: of one forward pass of the side, with its functions.
        paths: of parameters.
    """
    taken = {path: next((c for c in calls if path in c.parameters and c.outputs), None) for path in paths}
    if not any(taken.values()):
        return {}
    graph = Graph(calls)
    return {path: _told(graph, call) for path, call in taken.items() if call is not None}


def _told(graph: Graph, call: Call) -> str:
    name, made = next(iter(call.outputs.items()))
    key = graph.outputs[call.index][name]
    user = next((u for u in graph.users.get(key, ()) if call not in graph.inside(u)), None)
    if user is None:
        return f"used by {call.name}, which returns {_shown(made)}"
    if not call.inputs:  # only a view of the parameter
        return _told(graph, user)
    told = f"used by {call.name}, which returns {_shown(made)}"
    beside = [k for k in graph.inputs[user.index].values() if k != key and k in graph.makers]
    others = " and ".join(dict.fromkeys(graph.makers[k][0].name for k in beside))
    return f"{told}, an input of {user.name}" + (f" together with the output of {others}" if others else "")


def _shown(array: Array) -> str:
    rows = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array.reshape(1, -1)
    if len(rows) > 1 and bool((rows == rows[0]).all()):
        return f"the same {rows.shape[1]} numbers at every position"
    return f"a tensor of {array.shape}"
