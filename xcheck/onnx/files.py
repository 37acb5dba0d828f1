"""ONNX files: reading, validation, and their weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, SetupError
from ..records.trace import Array

LARGEST = 2**31 - 2**20
"""Largest number of bytes of weights in one file; see `frameworks.torch.export`."""


def require_onnx() -> None:
    """Import the packages that read and run ONNX.

    Raises:
        SetupError: one is not installed.
    """
    try:
        import onnx
        import onnxruntime
    except ModuleNotFoundError as error:
        raise SetupError(
            "ONNX files are read with onnx and run with onnxruntime.",
            cause=f"{error.name} is not installed",
            todo="pip install 'xcheck-ports[onnx]'",
        ) from error
    assert onnx
    assert onnxruntime


def load(path: Path, *, weights: bool = True) -> Any:
    """A model from disk, as an `onnx.ModelProto`.

    Args:
        path: of the file.
        weights: whether to load external data, too.

    Raises:
        FileError: the file does not exist, is not a complete ONNX model, or lacks external data.
    """
    require_onnx()
    import onnx
    from google.protobuf.message import DecodeError

    _refuse_endless(path, path)
    try:
        model = onnx.load(str(path), load_external_data=False)
        if (field := _no_text(model)) is not None:
            raise ValueError(f"its field {field} is not text")
        external = _external(model)
        for entries in external.values():
            _refuse_endless(path.parent / entries["location"], path)
        tensors = {tensor.name: tensor for tensor in _tensors(model)}
        if weights:
            onnx.load_external_data_for_model(model, str(path.parent))
            for name, entries in external.items():  # up to onnx 1.20 a short file is not an error
                length, there = int(entries.get("length", 0)), len(tensors[name].raw_data)
                if there < length:
                    raise ValueError(f"{entries['location']} ends early: {there} of {length} bytes of {name}")
    except DecodeError as error:
        raise FileError(
            "This file is not a complete ONNX model.",
            where=str(path),
            numbers=f"{path.stat().st_size} bytes",
            cause=f"it ends early or is something else ({error})",
            todo="export it again",
        ) from error
    except (OSError, ValueError, onnx.checker.ValidationError) as error:  # external data is missing or short
        raise FileError("This ONNX model cannot be read.", where=str(path), cause=str(error)) from error
    if not model.HasField("graph"):
        raise FileError(
            "This file is not an ONNX model.", where=str(path), numbers=f"{path.stat().st_size} bytes, without a graph"
        )
    return model


def _refuse_endless(place: Path, path: Path) -> None:
    """Refuse a path that is not a regular file: reading a pipe could wait forever.

    Raises:
        FileError: it is not a regular file.
    """
    if place.exists() and not place.is_file():
        raise FileError("This ONNX model cannot be read.", where=str(path), cause=f"{place} is not a regular file")


def _no_text(message: Any) -> str | None:
    """The first string of a protobuf message that is not UTF-8 (protobuf returns bytes); None if there is none."""
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        single = isinstance(value, str | bytes) or hasattr(value, "ListFields")
        for each in (value,) if single else value:
            found = _no_text(each) if hasattr(each, "ListFields") else field.full_name * isinstance(each, bytes)
            if found:
                return found
    return None


def _tensors(model: Any) -> list[Any]:
    """The initializers and constants of a model, as `onnx.TensorProto`."""
    tensors = [tensor for graph in graphs(model) for tensor in graph.initializer]
    nodes = [node for graph in graphs(model) for node in graph.node]
    return tensors + [attribute.t for node in nodes for attribute in node.attribute if attribute.HasField("t")]


def _external(model: Any) -> dict[str, dict[str, str]]:
    """Name -> place, for each tensor whose values lie in a file beside the model."""
    placed = {tensor.name: {entry.key: entry.value for entry in tensor.external_data} for tensor in _tensors(model)}
    return {name: entries for name, entries in placed.items() if "location" in entries}


def invalid(path: Path) -> str | None:
    """The error of `onnx.checker` for a file; None if it is valid."""
    import onnx

    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, UnicodeDecodeError) as error:  # its own message may also not be text
        return " ".join(str(error).split())[:300]
    return None


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant of a graph.

    Attributes:
        name: of the initializer, or of the output of a Constant node.
        value: as it is stored.
    """

    name: str
    value: Array

    @property
    def nbytes(self) -> int:
        """Its size in the file, in bytes."""
        return self.value.nbytes


def graphs(model: Any) -> Iterator[Any]:
    """The main graph and the graphs inside its nodes, such as the body of a Loop."""

    def inner(graph: Any) -> Iterator[Any]:
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                for other in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                    yield from inner(other)

    yield from inner(model.graph)


def nodes(model: Any) -> Iterator[Any]:
    """The nodes of all graphs and functions of a model."""
    for graph in graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def weights(model: Any, file: Path | None = None) -> list[Weight]:
    """The floating-point constants of a model: initializers and Constant nodes, in the order of the file.

    Args:
        model: an `onnx.ModelProto`.
        file: its path, if it was loaded without external data; this is mapped, not read.

    Raises:
        FileError: external data is missing or short.
    """
    import onnx_ir as ir
    from onnx import numpy_helper

    constants: list[Weight] = []
    for graph in graphs(model):
        for initializer in graph.initializer:
            try:
                value: Any = ir.serde.deserialize_tensor(initializer, str(file.parent) if file else "").numpy()
            except (OSError, ValueError) as error:
                raise FileError("This ONNX model cannot be read.", where=str(file), cause=str(error)) from error
            constants.append(Weight(initializer.name, value))
    for node in nodes(model):
        if node.op_type == "Constant":
            values = [numpy_helper.to_array(a.t) for a in node.attribute if a.HasField("t")]
            constants += [Weight(node.output[0], value) for value in values]
    return [w for w in constants if np.issubdtype(w.value.dtype, np.floating)]


def opsets(model: Any) -> dict[str, int]:
    """Domain -> version; the standard domain is "ai.onnx"."""
    return {o.domain or "ai.onnx": o.version for o in model.opset_import}
