"""A copy of a float32 model that computes in float64, to tell what a file means from how a runtime rounds."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from .files import graphs, nodes


def in_float64(model: Any, folder: str = "") -> Any:
    """The model with its float32 constants, inputs and casts in float64; whole numbers and narrower floats stay.

    The copy is for the evaluator of the standard, which takes operators in every type; it need not be valid.

    Args:
        model: an `onnx.ModelProto`.
        folder: where the files beside it are, for one loaded without them.
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
        made = [a for a in node.attribute if a.name in ("value_float", "value_floats")]
        if node.op_type == "Constant" and made:
            held = made[0].f if made[0].name == "value_float" else list(made[0].floats)
            tensor = numpy_helper.from_array(np.asarray(held, np.float64))
            made[0].Clear()
            made[0].name, made[0].type = "value", 4  # AttributeProto.TENSOR
            made[0].t.CopyFrom(tensor)
        for attribute in node.attribute:
            if attribute.HasField("t"):
                widen(attribute.t)
            if attribute.name in ("to", "dtype") and attribute.i == single:
                attribute.i = double
    return wide
