"""Inputs for a model without data: random numbers of the types and sizes in its graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError
from ..records.trace import Array, Arrays
from .files import nodes
from .runtime import EndlessModel, Port, Session, assigned

SIZES = ((2, 4), (3, 8), (2, 16), (1, 32), (4, 4), (1, 1))
"""(size of a free first axis, size of other free axes), working_inputs in this order until the model accepts them."""


def random_inputs(model: Any, session: Session, seed: int, inputs_file: Path | None = None) -> dict[str, Array]:
    """Arrays that a model runs on.

    Args:
        model: the `onnx.ModelProto`, which shows the bounds of integers.
        session: of the model.
        seed: of the draws.
        inputs_file: an .npz file with the inputs by name, used instead.

    Raises:
        FileError: the model runs on none of the tried sizes, or not on the given inputs.
    """
    if inputs_file is not None:
        return assigned(session.inputs, list(from_file(inputs_file).items()), str(inputs_file))
    return working_inputs(session.inputs, whole_number_bounds(model), session.run, seed)


def working_inputs(
    ports: Sequence[Port], bounds: Mapping[str, int], run: Callable[[Arrays], object], seed: int
) -> dict[str, Array]:
    """Random arrays for some inputs, of the first sizes that raise no error.

    Args:
        ports: the inputs.
        bounds: input -> number of possible values, for integers.
        run: called with the arrays.
        seed: of the draws.

    Raises:
        FileError: every size is refused.
    """
    free = any(not isinstance(n, int) for port in ports for n in port.shape)
    refused = ""
    for first_size, other_size in SIZES if free else SIZES[:1]:
        rng = np.random.default_rng([seed, first_size, other_size])
        feeds = {port.name: _drawn(port, bounds.get(port.name, 2), first_size, other_size, rng) for port in ports}
        try:
            run(feeds)
        except EndlessModel:  # with other inputs, too
            raise
        except FileError as error:
            refused = error.parts["cause"] or error.what
        else:
            return feeds
    raise FileError(
        "This model refused all random inputs.",
        numbers="; ".join(f"{p.name} {p.dtype}{p.shape}" for p in ports),
        cause=refused,
        todo="save valid arrays with numpy.savez, by the names of the model's inputs, and pass --inputs FILE.npz",
    )


def from_file(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file by name.

    Raises:
        FileError: it cannot be read.
    """
    try:
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, AttributeError) as error:
        raise FileError(
            "These inputs cannot be read.",
            where=str(path),
            cause=str(error),
            todo="write them with numpy.savez(path, name=array, ...)",
        ) from error


def _drawn(port: Port, bound: int, first_size: int, other_size: int, rng: np.random.Generator) -> Array:
    shape = tuple(n if isinstance(n, int) else other_size if axis else first_size for axis, n in enumerate(port.shape))
    kind = np.dtype(port.dtype).kind
    if kind == "f":
        return rng.standard_normal(shape).astype(port.dtype)
    if kind == "b":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if kind not in "iu":
        raise FileError("No random inputs can be drawn for this model.", numbers=f"{port.name} {port.dtype}{shape}")
    return rng.integers(0, bound, shape).astype(port.dtype)


def whole_number_bounds(model: Any) -> dict[str, int]:
    """Graph input -> number of possible values, where it indexes tables: the smallest length of those tables."""
    readers: dict[str, list[tuple[Any, int]]] = {}
    for node in nodes(model):
        for position, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, position))
    lengths = _lengths(model)
    bounds: dict[str, int] = {}
    for value in model.graph.input:
        sizes = list(_tables(value.name, readers, lengths))
        if sizes:
            bounds[value.name] = min(sizes)
    return bounds


def _lengths(model: Any) -> dict[str, tuple[int, ...]]:
    """Constant -> shape, through the Transposes and casts that some exporters insert."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        shape = shapes.get(node.input[0]) if node.input else None
        if node.op_type == "Transpose" and shape is not None:
            axes = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), tuple(range(len(shape)))[::-1])
            shapes[node.output[0]] = tuple(shape[a] for a in axes)
        elif node.op_type in ("Cast", "Identity") and shape is not None:
            shapes[node.output[0]] = shape
    return shapes


def _tables(name: str, readers: Mapping[str, list[tuple[Any, int]]], shapes: Mapping[str, Any]) -> Iterator[int]:
    """The lengths of the constant tables that a value indexes, directly or through other nodes."""
    waiting, visited = [name], {name}
    while waiting:
        for node, position in readers.get(waiting.pop(), []):
            table = shapes.get(node.input[0])
            if node.op_type == "Gather" and position == 1:
                if table:
                    yield table[next((a.i for a in node.attribute if a.name == "axis"), 0)]
                continue
            waiting += [output for output in node.output if output not in visited]
            visited.update(node.output)
