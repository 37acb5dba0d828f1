"""The contents of a file: operators, opset, weights, and leftovers of training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .files import Weight, graphs, nodes, opsets
from .parameters import Located

RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
"""Operators that draw random numbers: an inference model has none."""


@dataclass(frozen=True, slots=True)
class Structure:
    """The contents of a file.

    Attributes:
        producer: the exporting program.
        opset: domain -> version.
        operators: name -> number of nodes.
        weights, weight_bytes: number and size of the floating-point constants.
        leftovers: nodes that belong to training, in words.
    """

    producer: str
    opset: Mapping[str, int]
    operators: Mapping[str, int]
    weights: int
    weight_bytes: int
    leftovers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tied:
    """The copies of one storage in a file.

    Attributes:
        paths: of the storage on its side.
        names: of the constants that each store the whole of it.
        layouts: from the first path to each constant.
        wasted: bytes of the copies beyond the first.
    """

    paths: tuple[str, ...]
    names: tuple[str, ...]
    layouts: tuple[str, ...]
    wasted: int


def structure(model: Any, constants: Sequence[Weight]) -> Structure:
    """The contents of a model.

    Args:
        model: an `onnx.ModelProto`.
        constants: its weights.
    """
    operators = Counter(node.op_type for node in nodes(model) if node.op_type != "Constant")
    return Structure(
        producer=f"{model.producer_name} {model.producer_version}".removesuffix(" None").strip(),
        opset=opsets(model),
        operators=dict(sorted(operators.items())),
        weights=len(constants),
        weight_bytes=sum(weight.nbytes for weight in constants),
        leftovers=tuple(leftovers(model)),
    )


def untranslated(model: Any) -> list[str]:
    """The operators of a model in the ONNX domain that ONNX does not define: the exporter could not translate them."""
    import onnx

    defined = {(function.domain, function.name) for function in model.functions}
    unknown = [
        node.op_type
        for node in nodes(model)
        if node.domain in ("", "ai.onnx")
        and (node.domain, node.op_type) not in defined
        and not onnx.defs.has(node.op_type)
    ]
    return list(dict.fromkeys(unknown))


def leftovers(model: Any) -> list[str]:
    """The nodes that only a training model has: active dropout, batch statistics, random draws."""
    constants = _boolean_constants(model)
    result: list[str] = []
    for node in nodes(model):
        attributes = {a.name: a.i for a in node.attribute}
        name = f"{node.op_type} {node.name or node.output[0]}"
        if node.op_type == "Dropout" and len(node.input) > 2 and constants.get(node.input[2], True):
            result.append(f"{name} drops at random")
        if node.op_type == "BatchNormalization" and (attributes.get("training_mode") or _has_several_outputs(node)):
            result.append(f"{name} uses batch statistics")
        if node.op_type in RANDOM:
            result.append(f"{name} draws random numbers")
    return result


def _has_several_outputs(node: Any) -> bool:
    return sum(bool(name) for name in node.output) > 1


def _boolean_constants(model: Any) -> dict[str, bool]:
    """The boolean scalar constants, such as Dropout's training_mode; "" is a missing input, which is False."""
    from onnx import TensorProto, numpy_helper

    tensors = [t for graph in graphs(model) for t in graph.initializer]
    named = [(t.name, t) for t in tensors]
    named += [
        (n.output[0], a.t) for n in nodes(model) if n.op_type == "Constant" for a in n.attribute if a.name == "value"
    ]
    return {"": False} | {
        name: bool(numpy_helper.to_array(t)) for name, t in named if t.data_type == TensorProto.BOOL and not t.dims
    }


def tied(groups: Sequence[Sequence[str]], located: Sequence[Located]) -> list[Tied]:
    """The copies of each storage in a file.

    Args:
        groups: the paths of each storage.
        located: locations of its parameters.
    """
    locations = {item.path: item for item in located}
    result: list[Tied] = []
    for paths in groups:
        holders = {h.name: h for path in paths if path in locations for h in locations[path].holders}
        if holders:
            layouts = tuple(h.layout for h in holders.values())
            sizes = sorted((h.nbytes for h in holders.values()), reverse=True)
            result.append(Tied(tuple(paths), tuple(holders), layouts, sum(sizes[1:])))
    return result
