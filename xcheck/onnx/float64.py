"""A float64 copy of a float32 model, to distinguish what a file computes from the rounding of a runtime."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from .files import graphs, nodes


def in_float64(model: Any, folder: str = "") -> Any:
    """The model with its float32 constants, inputs and casts in float64; integers and narrower floats stay.

    The copy is for the evaluator of the standard, which accepts operators in every type; it need not be valid.

    Args:
        model: an `onnx.ModelProto`.
        folder: of the external data, for a model loaded without it.
    """
    from onnx import TensorProto, numpy_helper

    single, double = TensorProto.FLOAT, TensorProto.DOUBLE
    wide = copy.deepcopy(model)

    def widen(tensor: Any) -> None:
        if tensor.data_type == single:
            value = numpy_helper.to_array(tensor, folder).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))

    for graph in graphs(wide):
        for tensor in graph.initializer:
            widen(tensor)
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == single:
                value.type.tensor_type.elem_type = double
    for node in nodes(wide):
        literals = [a for a in node.attribute if a.name in ("value_float", "value_floats")]
        if node.op_type == "Constant" and literals:
            number = literals[0].f if literals[0].name == "value_float" else list(literals[0].floats)
            tensor = numpy_helper.from_array(np.asarray(number, np.float64))
            literals[0].Clear()
            literals[0].name, literals[0].type = "value", 4  # AttributeProto.TENSOR
            literals[0].t.CopyFrom(tensor)
        for attribute in node.attribute:
            if attribute.HasField("t"):
                widen(attribute.t)
            if attribute.name in ("to", "dtype") and attribute.i == single:
                attribute.i = double
    return wide
