"""Small ONNX files written by hand, and faults planted in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Change = Callable[[onnx.ModelProto], Any]


def model(
    nodes: list[onnx.NodeProto],
    weights: Mapping[str, np.ndarray],
    inputs: Mapping[str, tuple[Any, ...]],
    outputs: Mapping[str, tuple[Any, ...]],
    opset: int = 20,
    types: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of these nodes; inputs and outputs are shapes by name, float32 unless `types` says otherwise."""

    def value(name: str, shape: tuple[Any, ...]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, (types or {}).get(name, TensorProto.FLOAT), shape)

    graph = helper.make_graph(
        nodes,
        "graph",
        [value(*item) for item in inputs.items()],
        [value(*item) for item in outputs.items()],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9, producer_name="hand")


def linear_model(parameters: Mapping[str, np.ndarray], batch: Any = "batch") -> onnx.ModelProto:
    """y = x W + b of a `NumpySide` of either side; a weight (out, in) is used as it is laid out."""
    (weight, kernel), (bias, offset) = list(parameters.items())[:2]
    torch = weight == "linear.weight"
    nodes = [helper.make_node("Gemm", ["x", weight, bias], ["y"], transB=int(torch), name="product")]
    held = {weight: kernel.astype(np.float32), bias: offset.astype(np.float32)}
    return model(nodes, held, {"x": (batch, 3)}, {"y": (batch, 2)})


def writes(change: Change | None = None, batch: Any = "batch") -> Callable[[Path, Mapping[str, np.ndarray]], None]:
    """For `NumpySide.exports`: writes the linear model, after a change to it."""

    def write(path: Path, parameters: Mapping[str, np.ndarray]) -> None:
        made = linear_model(parameters, batch)
        if change is not None:
            change(made)
        onnx.save(made, path)

    return write


def weight_of(made: onnx.ModelProto, name: str) -> np.ndarray:
    return np.array(numpy_helper.to_array(next(i for i in made.graph.initializer if i.name == name)))


def with_weight(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """A fault: one initializer holds something else."""

    def changed(made: onnx.ModelProto) -> None:
        held = next(i for i in made.graph.initializer if i.name == name)
        held.CopyFrom(numpy_helper.from_array(change(weight_of(made, name)), name))

    return changed


def before_output(op: str, *constants: np.ndarray, **attributes: Any) -> Change:
    """A fault: one more node between the model and its output."""

    def changed(made: onnx.ModelProto) -> None:
        graph = made.graph
        graph.node[-1].output[0] = "inner"
        names = [f"extra_{i}" for i in range(len(constants))]
        graph.initializer.extend(numpy_helper.from_array(c, n) for c, n in zip(constants, names, strict=True))
        graph.node.append(helper.make_node(op, ["inner", *names], ["y"], name="extra", **attributes))

    return changed
