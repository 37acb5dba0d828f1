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
"""Random inputs on which the outputs must be the same."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The outputs of a file before and after.

    Attributes:
        runs: inputs tried.
        outputs: compared in each.
        unequal: names of the outputs that are not bit for bit the same.
    """

    runs: int
    outputs: int
    unequal: tuple[str, ...]


def open_model(path: Path) -> Any:
    """A file as an `onnx_ir.Model`, its larger Constant nodes made initializers.

    Raises:
        FileError: as `load`.
    """
    load(path)  # says what is wrong with a file that is none
    import onnx_ir as ir
    from onnx_ir.passes.common import LiftConstantsToInitializersPass

    model: Any = ir.load(path)
    LiftConstantsToInitializersPass(lift_all_constants=False)(model)
    return model


def movable_weights(model: Any) -> list[Weight]:
    """The floating-point initializers that the graph alone can set: no inputs, no outputs of it.

    Args:
        model: an `onnx_ir.Model`.
    """
    held = [value for value in model.graph.initializers.values() if not value.is_graph_input()]
    found = [
        Weight(v.name, v.const_value.numpy()) for v in held if v.const_value is not None and not v.is_graph_output()
    ]
    return [w for w in found if np.issubdtype(w.value.dtype, np.floating)]


def store_once(model: Any, copies: Sequence[Copy]) -> None:
    """Let the readers of each copy read the one that is kept, through a Transpose where it is transposed.

    Args:
        model: an `onnx_ir.Model`, changed in place.
        copies: what goes, and what it goes to.
    """
    import onnx_ir as ir

    graph = model.graph
    turned: dict[tuple[str, Any], Any] = {}
    for copy in copies:
        dropped = graph.initializers[copy.dropped]
        kept: Any = graph.initializers[copy.kept]
        if copy.axes is not None:
            if (copy.kept, copy.axes) not in turned:
                node = ir.node("Transpose", [kept], {"perm": copy.axes}, name=f"{copy.kept}/retied/{copy.axes}")
                node.outputs[0].name = f"{copy.dropped}/retied"
                node.outputs[0].shape, node.outputs[0].type = dropped.shape, dropped.type
                graph.insert_before(graph[0], node)
                turned[copy.kept, copy.axes] = node.outputs[0]
            kept = turned[copy.kept, copy.axes]
        dropped.replace_all_uses_with(kept)
        del graph.initializers[copy.dropped]


def write(model: Any, path: Path) -> None:
    """Write a model, its weights beside it where they do not fit into one file.

    Raises:
        FileError: it cannot be written, or is not valid ONNX.
    """
    import onnx_ir as ir

    held = [v for graph in model.graphs() for v in graph.initializers.values() if v.const_value is not None]
    large = sum(value.const_value.nbytes for value in held) > LARGEST
    for value in held:
        if not large and isinstance(value.const_value, ir.ExternalTensor):  # in a file that is not beside this one
            value.const_value = ir.tensor(value.const_value.numpy().copy(), name=value.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        ir.save(model, path, external_data=f"{path.name}.data" if large else None)
    except OSError as error:
        raise FileError("The model cannot be written.", where=str(path), cause=str(error)) from error
    wrong = invalid(path)
    if wrong is not None:
        raise FileError("The model written is not valid.", where=str(path), cause=wrong)


def prove(before: Path, after: Path, seed: int = 0, given: Path | None = None) -> Proof:
    """Run both files on the same random inputs and compare bit for bit.

    onnxruntime runs both node by node. It may not lay out weights anew either: it does so with a constant, not with
    the output of a Transpose, and sums then end in other last bits though nothing is different.

    Args:
        before, after: the files.
        seed: of the inputs.
        given: an .npz file with inputs to use instead.

    Raises:
        FileError: one of the files does not run.
    """
    old, new = (Session(path, optimized=False, prepacked=False) for path in (before, after))
    model = load(before, weights=False)
    unequal: dict[str, None] = {}
    trials = 1 if given is not None else TRIALS
    for trial in range(trials):
        feeds = random_inputs(model, old, seed + trial, given)
        left, right = old.run(feeds), new.run(feeds)
        for name, array in left.items():
            if not np.array_equal(array, right[name], equal_nan=array.dtype.kind == "f"):
                unequal[name] = None
    return Proof(trials, len(old.outputs), tuple(unequal))
