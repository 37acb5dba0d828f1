"""What a file is made of: operators, opset, weights, and what training left in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .files import Weight, graphs, nodes, opsets
from .parameters import Located

RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
"""Operators that draw numbers: in inference there is nothing to draw."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What a file is made of.

    Attributes:
        producer: that wrote it.
        opset: domain -> version.
        operators: name -> how many nodes.
        weights: floating-point constants, and the bytes that they take.
        leftovers: nodes that belong into training, in words.
    """

    producer: str
    opset: Mapping[str, int]
    operators: Mapping[str, int]
    weights: int
    weight_bytes: int
    leftovers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tied:
    """The copies that a file holds of one storage.

    Attributes:
        paths: of the storage on its side.
        names: of the constants that each hold the whole of it.
        layouts: from the first path to each of them.
        wasted: bytes of the copies beyond the first.
    """

    paths: tuple[str, ...]
    names: tuple[str, ...]
    layouts: tuple[str, ...]
    wasted: int


def structure(model: Any, held: Sequence[Weight]) -> Structure:
    """What a model is made of.

    Args:
        model: an `onnx.ModelProto`.
        held: its weights.
    """
    operators = Counter(node.op_type for node in nodes(model) if node.op_type != "Constant")
    return Structure(
        producer=f"{model.producer_name} {model.producer_version}".removesuffix(" None").strip(),
        opset=opsets(model),
        operators=dict(sorted(operators.items())),
        weights=len(held),
        weight_bytes=sum(weight.nbytes for weight in held),
        leftovers=tuple(leftovers(model)),
    )


def untranslated(model: Any) -> list[str]:
    """The operators of a model that claim to be of ONNX and are not: an exporter without a translation left them."""
    import onnx

    of_its_own = {(function.domain, function.name) for function in model.functions}
    found = [
        node.op_type
        for node in nodes(model)
        if node.domain in ("", "ai.onnx")
        and (node.domain, node.op_type) not in of_its_own
        and not onnx.defs.has(node.op_type)
    ]
    return list(dict.fromkeys(found))


def leftovers(model: Any) -> list[str]:
    """The nodes of a model that only a model in training has: active dropout, batch statistics, random draws."""
    constants = _truths(model)
    found: list[str] = []
    for node in nodes(model):
        attributes = {a.name: a.i for a in node.attribute}
        name = f"{node.op_type} {node.name or node.output[0]}"
        if node.op_type == "Dropout" and len(node.input) > 2 and constants.get(node.input[2], True):
            found.append(f"{name} drops at random")
        if node.op_type == "BatchNormalization" and (attributes.get("training_mode") or _many(node)):
            found.append(f"{name} takes the statistics of the batch")
        if node.op_type in RANDOM:
            found.append(f"{name} draws at random")
    return found


def _many(node: Any) -> bool:
    return sum(bool(name) for name in node.output) > 1


def _truths(model: Any) -> dict[str, bool]:
    """The constants of one truth value, such as Dropout's training_mode; empty is no input at all, which is False."""
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
    """The copies of each storage that a file holds.

    Args:
        groups: the paths of each storage.
        located: where its parameters are.
    """
    at = {item.path: item for item in located}
    found: list[Tied] = []
    for paths in groups:
        holders = {h.name: h for path in paths if path in at for h in at[path].holders}
        if holders:
            layouts = tuple(h.layout for h in holders.values())
            sizes = sorted((h.nbytes for h in holders.values()), reverse=True)
            found.append(Tied(tuple(paths), tuple(holders), layouts, sum(sizes[1:])))
    return found
