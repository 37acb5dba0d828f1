"""The first node of a file whose output is not in the other file, by the values of all tensors."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FileError
from ..numerics.compare import measure, nonfinite
from ..numerics.judge import Frame, Item, compare_items
from ..records.result import Verdict
from ..records.trace import Array, Arrays
from .runtime import Session


@dataclass(frozen=True, slots=True)
class ExposedRun:
    """The floating-point tensors of one file while it runs.

    Attributes:
        model: an `onnx.ModelProto`.
        values: of each input, and of each output of a node.
        twins: the same with one rounding error in every weight and input.
    """

    model: Any
    values: Arrays
    twins: tuple[Arrays, ...]


@dataclass(frozen=True, slots=True)
class FirstNode:
    """The first node of a file that differs from the other file.

    Attributes:
        operator, name: of the node.
        output: the tensor without an equal.
        reads: its input tensors that have an equal, or are inputs of the model.
        weights: its constants.
        nearest: the closest tensor of the same size in the other file, and its relative difference.
    """

    operator: str
    name: str
    output: str
    reads: tuple[str, ...]
    weights: tuple[str, ...]
    nearest: tuple[str, float] | None


def expose(model: Any, feeds: Sequence[Arrays], replaced: Sequence[Mapping[str, Array]]) -> ExposedRun:
    """Run a model with every tensor exposed.

    Args:
        model: an `onnx.ModelProto`.
        feeds: the original inputs, then perturbed ones.
        replaced: for each of them, the initializers to replace.

    Raises:
        FileError: the model does not run, or is too large.
    """
    import onnx
    from google.protobuf.message import EncodeError

    exposed = copy.deepcopy(model)
    known = {output.name for output in exposed.graph.output}
    computed = [name for node in exposed.graph.node for name in node.output if name and name not in known]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in computed)
    try:
        data = exposed.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise FileError("A model over 2 GB is not compared node by node.", cause=str(error)) from error
    runs = [{**f, **Session(data, replaced=r).run(f)} for f, r in zip(feeds, replaced, strict=True)]
    floats = [{name: a for name, a in run.items() if a.dtype.kind == "f" and a.size > 1} for run in runs]
    return ExposedRun(model, floats[0], tuple(floats[1:]))


def first_nodes(left: ExposedRun, right: ExposedRun, terms: int) -> tuple[FirstNode | None, FirstNode | None]:
    """In each file, the first node on the way to its outputs whose own output is not in the other file.

    Tensors are matched by their sorted values, within the rounding that perturbed runs show: names and the order of
    axes do not count, and a node that the other file writes as several nodes is not a difference.

    Args:
        left, right: both files on the same inputs.
        terms: n of the noise model.
    """
    equals = _matches(left, right, terms)
    return (
        _first(left, right, set(equals)),
        _first(right, left, {name for names in equals.values() for name in names}),
    )


def _matches(left: ExposedRun, right: ExposedRun, terms: int) -> dict[str, tuple[str, ...]]:
    """Tensor of the left file -> tensors of the right one with the same values."""
    by_size: dict[int, list[str]] = {}
    ordered = {name: np.sort(a, axis=None) for name, a in right.values.items()}
    for name, array in ordered.items():
        by_size.setdefault(array.size, []).append(name)
    matches: dict[str, tuple[str, ...]] = {}
    for name, array in left.values.items():
        values = np.sort(array, axis=None)
        twins = tuple(np.sort(t[name], axis=None) for t in left.twins if name in t and t[name].size == array.size)
        same = tuple(n for n in by_size.get(array.size, ()) if _agree(values, ordered[n], twins, terms))
        if same:
            matches[name] = same
    return matches


def _agree(values: Array, others: Array, twins: tuple[Array, ...], terms: int) -> bool:
    frame = Frame("export", "float32", None, "torch", terms)
    (check,) = compare_items(frame, [Item("", "", "", values, others, twins)], semantic=True)
    return check.verdict is Verdict.EQUIVALENT


def _first(run: ExposedRun, other: ExposedRun, matched: set[str]) -> FirstNode | None:
    """The first node on the way back from outputs without an equal to tensors with one."""
    graph = run.model.graph
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    waiting = [o.name for o in graph.output if o.name in run.values and o.name not in matched]
    visited: set[int] = set()
    while waiting:
        name = waiting.pop()
        number = makers.get(name)
        if name in matched or number is None or number in visited or _returns_integers(run, graph.node[number]):
            continue
        visited.add(number)
        waiting += [n for n in graph.node[number].input if n]
    if not visited:
        return None
    node = graph.node[min(visited)]
    output = next(name for name in node.output if name)
    constants = {tensor.name for tensor in graph.initializer}
    reads = tuple(n for n in node.input if n and n not in constants)
    return FirstNode(
        node.op_type,
        node.name,
        output,
        reads,
        tuple(n for n in node.input if n in constants),
        _nearest(run.values.get(output), other),
    )


def _returns_integers(run: ExposedRun, node: Any) -> bool:
    """Whether a node only returns integers, such as shapes and indices, which are not compared."""
    return all(name not in run.values for name in node.output if name)


def _nearest(value: Array | None, other: ExposedRun) -> tuple[str, float] | None:
    if value is None:
        return None
    values = np.sort(value, axis=None)
    differences = {
        n: measure(values, ordered).norm
        for n, a in other.values.items()
        if a.size == value.size and not any(nonfinite(values, ordered := np.sort(a, axis=None)))
    }
    return min(differences.items(), key=lambda item: item[1]) if differences else None
