"""The first node of a file whose output is nowhere in another file, by the values of everything in between."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FileError
from ..numerics.compare import measure
from ..numerics.judge import Frame, Item, compare_items
from ..records.result import Verdict
from ..records.trace import Array, Arrays
from .runtime import Session


@dataclass(frozen=True, slots=True)
class Inside:
    """The floating-point tensors of one file while it runs.

    Attributes:
        model: an `onnx.ModelProto`.
        values: of each input, and of each tensor that a node makes.
        twins: the same with every weight and input moved by one rounding error.
    """

    model: Any
    values: Arrays
    twins: tuple[Arrays, ...]


@dataclass(frozen=True, slots=True)
class FirstNode:
    """Where a file leaves the other one.

    Attributes:
        operator, name: of the node.
        output: the tensor that has no equal.
        reads: tensors it reads that have an equal, or are inputs of the model.
        weights: constants it reads.
        nearest: tensor of the other file, of the same size, that comes closest, and how far it is off, relative.
    """

    operator: str
    name: str
    output: str
    reads: tuple[str, ...]
    weights: tuple[str, ...]
    nearest: tuple[str, float] | None


def inside(model: Any, feeds: Sequence[Arrays], replaced: Sequence[Mapping[str, Array]]) -> Inside:
    """Run a model with every tensor exposed.

    Args:
        model: an `onnx.ModelProto`.
        feeds: the inputs as they are, then perturbed ones.
        replaced: for each of them the initializers to use instead.

    Raises:
        FileError: it does not run so, or is too large.
    """
    import onnx
    from google.protobuf.message import EncodeError

    exposed = copy.deepcopy(model)
    known = {output.name for output in exposed.graph.output}
    made = [name for node in exposed.graph.node for name in node.output if name and name not in known]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    try:
        data = exposed.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise FileError("A model over 2 GB is not looked into node by node.", cause=str(error)) from error
    runs = [{**f, **Session(data, replaced=r).run(f)} for f, r in zip(feeds, replaced, strict=True)]
    floats = [{name: a for name, a in run.items() if a.dtype.kind == "f" and a.size > 1} for run in runs]
    return Inside(model, floats[0], tuple(floats[1:]))


def first_nodes(left: Inside, right: Inside, terms: int) -> tuple[FirstNode | None, FirstNode | None]:
    """In each file, the first node on the way to its outputs whose own output is nowhere in the other file.

    Tensors are matched by their sorted values, within the rounding that perturbed runs show: neither names nor the
    order of axes count, and a node that one file has and the other spells out is no difference.

    Args:
        left, right: both files on the same inputs.
        terms: n of the noise model.
    """
    equals = _matches(left, right, terms)
    return (
        _first(left, right, set(equals)),
        _first(right, left, {name for names in equals.values() for name in names}),
    )


def _matches(left: Inside, right: Inside, terms: int) -> dict[str, tuple[str, ...]]:
    """Tensor of the left file -> those of the right one that have its values."""
    by_size: dict[int, list[str]] = {}
    ordered = {name: np.sort(a, axis=None) for name, a in right.values.items()}
    for name, array in ordered.items():
        by_size.setdefault(array.size, []).append(name)
    found: dict[str, tuple[str, ...]] = {}
    for name, array in left.values.items():
        mine = np.sort(array, axis=None)
        twins = tuple(np.sort(t[name], axis=None) for t in left.twins if name in t and t[name].size == array.size)
        same = tuple(n for n in by_size.get(array.size, ()) if _agree(mine, ordered[n], twins, terms))
        if same:
            found[name] = same
    return found


def _agree(mine: Array, theirs: Array, twins: tuple[Array, ...], terms: int) -> bool:
    frame = Frame("export", "float32", None, "torch", terms)
    (check,) = compare_items(frame, [Item("", "", "", mine, theirs, twins)], semantic=True)
    return check.verdict is Verdict.EQUIVALENT


def _first(of: Inside, other: Inside, agreed: set[str]) -> FirstNode | None:
    """Walk back from the outputs that have no equal to tensors that have one; the first node passed is the one."""
    graph = of.model.graph
    maker = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    waiting = [o.name for o in graph.output if o.name in of.values and o.name not in agreed]
    passed: set[int] = set()
    while waiting:
        name = waiting.pop()
        number = maker.get(name)
        if name in agreed or number is None or number in passed or _whole_numbers(of, graph.node[number]):
            continue
        passed.add(number)
        waiting += [n for n in graph.node[number].input if n]
    if not passed:
        return None
    node = graph.node[min(passed)]
    output = next(name for name in node.output if name)
    constants = {tensor.name for tensor in graph.initializer}
    reads = tuple(n for n in node.input if n and n not in constants)
    return FirstNode(
        node.op_type,
        node.name,
        output,
        reads,
        tuple(n for n in node.input if n in constants),
        _nearest(of.values.get(output), other),
    )


def _whole_numbers(of: Inside, node: Any) -> bool:
    """Shapes and indices have no equal to be looked for."""
    return all(name not in of.values for name in node.output if name)


def _nearest(value: Array | None, other: Inside) -> tuple[str, float] | None:
    if value is None:
        return None
    mine = np.sort(value, axis=None)
    near = {n: measure(mine, np.sort(a, axis=None)).norm for n, a in other.values.items() if a.size == value.size}
    return min(near.items(), key=lambda item: item[1]) if near else None
