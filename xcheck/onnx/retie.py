"""Store each tied weight of an ONNX file once, and prove that the file computes the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError
from .copies import Copy
from .files import LARGEST, Weight, invalid, load
from .inputs import random_inputs
from .runtime import Session

TRIALS = 3
"""Number of random inputs on which the outputs must be equal."""


@dataclass(frozen=True, slots=True)
class OutputProof:
    """The comparison of the outputs of a file before and after.

    Attributes:
        runs: number of inputs.
        outputs: number of compared outputs per input.
        unequal: names of the outputs that are not bit-equal.
    """

    runs: int
    outputs: int
    unequal: tuple[str, ...]


def open_model(path: Path) -> Any:
    """A file as an `onnx_ir.Model`, with its larger Constant nodes turned into initializers.

    Raises:
        FileError: as `load`.
    """
    load(path)  # raises a clear error for an invalid file
    import onnx_ir as ir
    from onnx_ir.passes.common import LiftConstantsToInitializersPass

    model: Any = ir.load(path)
    LiftConstantsToInitializersPass(lift_all_constants=False)(model)
    return model


def movable_weights(model: Any) -> list[Weight]:
    """The floating-point initializers that are neither inputs nor outputs of the graph.

    Args:
        model: an `onnx_ir.Model`.

    Raises:
        FileError: the numbers of one of them do not fill its shape.
    """
    internal = [value for value in model.graph.initializers.values() if not value.is_graph_input()]
    held = [v for v in internal if v.const_value is not None and not v.is_graph_output()]
    try:
        constants = [Weight(v.name, v.const_value.numpy()) for v in held]
    except ValueError as error:
        raise FileError("The data of a weight of this model does not fill its shape.", cause=str(error)) from error
    return [w for w in constants if np.issubdtype(w.value.dtype, np.floating)]


def store_once(model: Any, copies: Sequence[Copy]) -> None:
    """Connect the readers of each copy to the kept constant, through a Transpose if it is transposed.

    Args:
        model: an `onnx_ir.Model`, changed in place.
        copies: the removed constants and their replacements.
    """
    import onnx_ir as ir

    graph = model.graph
    transposed: dict[tuple[str, Any], Any] = {}
    for copy in copies:
        dropped = graph.initializers[copy.dropped]
        replacement: Any = graph.initializers[copy.kept]
        if copy.axes is not None:
            if (copy.kept, copy.axes) not in transposed:
                node = ir.node("Transpose", [replacement], {"perm": copy.axes}, name=f"{copy.kept}/retied/{copy.axes}")
                node.outputs[0].name = f"{copy.dropped}/retied"
                node.outputs[0].shape, node.outputs[0].type = dropped.shape, dropped.type
                graph.insert_before(graph[0], node)
                transposed[copy.kept, copy.axes] = node.outputs[0]
            replacement = transposed[copy.kept, copy.axes]
        dropped.replace_all_uses_with(replacement)
        del graph.initializers[copy.dropped]


def write(model: Any, path: Path) -> None:
    """Write a model, with external weights if they do not fit into one file.

    Raises:
        FileError: it cannot be written, or is not valid ONNX.
    """
    import onnx_ir as ir

    initializers = [v for graph in model.graphs() for v in graph.initializers.values() if v.const_value is not None]
    large = sum(value.const_value.nbytes for value in initializers) > LARGEST
    for value in initializers:
        if not large and isinstance(value.const_value, ir.ExternalTensor):  # in a file of a different folder
            value.const_value = ir.tensor(value.const_value.numpy().copy(), name=value.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        ir.save(model, path, external_data=f"{path.name}.data" if large else None)
    except OSError as error:
        raise FileError("The model cannot be written.", where=str(path), cause=str(error)) from error
    problem = invalid(path)
    if problem is not None:
        todo = "keep the original file; this is a mistake of xcheck, or the original is not valid either"
        raise FileError("The model written is not valid.", where=str(path), cause=problem, todo=todo)


def prove(before: Path, after: Path, seed: int = 0, inputs_file: Path | None = None) -> OutputProof:
    """Run both files on the same random inputs and compare bit for bit.

    onnxruntime runs both node by node and without prepacking weights: it prepacks a constant, but not the output of a
    Transpose, and sums then differ in their last bits although the models are equal.

    Args:
        before, after: the files.
        seed: of the inputs.
        inputs_file: an .npz file with inputs to use instead.

    Raises:
        FileError: one of the files does not run.
    """
    old, new = (Session(path, optimized=False, prepacked=False) for path in (before, after))
    model = load(before, weights=False)
    unequal: dict[str, None] = {}
    trials = 1 if inputs_file is not None else TRIALS
    for trial in range(trials):
        feeds = random_inputs(model, old, seed + trial, inputs_file)
        left, right = old.run(feeds), new.run(feeds)
        for name, array in left.items():
            if not np.array_equal(array, right[name], equal_nan=array.dtype.kind == "f"):
                unequal[name] = None
    return OutputProof(trials, len(old.outputs), tuple(unequal))
