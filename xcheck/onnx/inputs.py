"""Inputs for a model that comes without data: random numbers of the types and sizes that its graph asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError
from ..records.trace import Array, Arrays
from .files import nodes
from .runtime import Port, Session, assigned

SIZES = ((2, 4), (3, 8), (2, 16), (1, 32), (4, 4), (1, 1))
"""(size of a free first axis, size of other free axes), tried in this order until the model takes them."""


def random_inputs(model: Any, session: Session, seed: int, given: Path | None = None) -> dict[str, Array]:
    """Arrays that a model runs on.

    Args:
        model: the `onnx.ModelProto`, which shows what whole numbers may be.
        session: of the model.
        seed: of the draws.
        given: an .npz file with the inputs by name, to be used instead.

    Raises:
        FileError: the model runs on none of the sizes tried, or not on what is given.
    """
    if given is not None:
        return assigned(session.inputs, list(from_file(given).items()), str(given))
    return tried(session.inputs, whole_number_bounds(model), session.run, seed)


def tried(
    ports: Sequence[Port], bounds: Mapping[str, int], run: Callable[[Arrays], object], seed: int
) -> dict[str, Array]:
    """Random arrays for some inputs, of the first sizes on which nothing is raised.

    Args:
        ports: the inputs.
        bounds: input -> how many values it may have, where it holds whole numbers.
        run: to be tried on the arrays.
        seed: of the draws.

    Raises:
        FileError: every size is refused.
    """
    free = any(not isinstance(n, int) for port in ports for n in port.shape)
    refused = ""
    for first, rest in SIZES if free else SIZES[:1]:
        rng = np.random.default_rng([seed, first, rest])
        feeds = {port.name: _drawn(port, bounds.get(port.name, 2), first, rest, rng) for port in ports}
        try:
            run(feeds)
        except FileError as error:
            refused = error.parts["cause"] or error.what
        else:
            return feeds
    raise FileError(
        "No random inputs were found that this model runs on.",
        numbers="; ".join(f"{p.name} {p.dtype}{p.shape}" for p in ports),
        cause=refused,
        todo="save arrays it takes with numpy.savez, by the names of its inputs, and pass --inputs FILE.npz",
    )


def from_file(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file by name.

    Raises:
        FileError: it cannot be read.
    """
    try:
        with np.load(path) as held:
            return {name: held[name] for name in held.files}
    except (OSError, ValueError, AttributeError) as error:
        raise FileError(
            "These inputs cannot be read.",
            where=str(path),
            cause=str(error),
            todo="write them with numpy.savez(path, name=array, ...)",
        ) from error


def _drawn(port: Port, bound: int, first: int, rest: int, rng: np.random.Generator) -> Array:
    shape = tuple(n if isinstance(n, int) else rest if axis else first for axis, n in enumerate(port.shape))
    kind = np.dtype(port.dtype).kind
    if kind == "f":
        return rng.standard_normal(shape).astype(port.dtype)
    if kind == "b":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if kind not in "iu":
        raise FileError("This model takes inputs that cannot be drawn.", numbers=f"{port.name} {port.dtype}{shape}")
    return rng.integers(0, bound, shape).astype(port.dtype)


def whole_number_bounds(model: Any) -> dict[str, int]:
    """Graph input -> how many values it may have, where it picks rows of a table: the least length of those tables."""
    readers: dict[str, list[tuple[Any, int]]] = {}
    for node in nodes(model):
        for position, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, position))
    lengths = _lengths(model)
    found: dict[str, int] = {}
    for value in model.graph.input:
        sizes = list(_tables(value.name, readers, lengths))
        if sizes:
            found[value.name] = min(sizes)
    return found


def _lengths(model: Any) -> dict[str, tuple[int, ...]]:
    """Constant -> shape, through the Transposes and casts that some exporters put between."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        held = shapes.get(node.input[0]) if node.input else None
        if node.op_type == "Transpose" and held is not None:
            axes = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), tuple(range(len(held)))[::-1])
            shapes[node.output[0]] = tuple(held[a] for a in axes)
        elif node.op_type in ("Cast", "Identity") and held is not None:
            shapes[node.output[0]] = held
    return shapes


def _tables(name: str, readers: Mapping[str, list[tuple[Any, int]]], shapes: Mapping[str, Any]) -> Iterator[int]:
    """The lengths of the constant tables that a value picks from, directly or changed on the way."""
    waiting, seen = [name], {name}
    while waiting:
        for node, position in readers.get(waiting.pop(), []):
            table = shapes.get(node.input[0])
            if node.op_type == "Gather" and position == 1:
                if table:
                    yield table[next((a.i for a in node.attribute if a.name == "axis"), 0)]
                continue
            waiting += [output for output in node.output if output not in seen]
            seen.update(node.output)
