"""The outputs of a file: from onnxruntime, and from `onnx.reference` in float64."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError
from ..records.trace import Array, Arrays
from .files import require_onnx
from .float64 import in_float64


class EndlessModel(FileError):
    """A model did not end in time."""


SECONDS = float(os.environ.get("XCHECK_ONNX_SECONDS", "300"))
"""Time that a model has for one run."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or an output of a graph.

    Attributes:
        name: in the graph.
        dtype: NumPy name.
        shape: a free axis is None or its name in the graph.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


class Session:
    """A model in onnxruntime, on one CPU thread, so that the order of sums is fixed.

    Args:
        model: a file, or a model's bytes.
        optimized: let onnxruntime rewrite the graph; otherwise it runs unchanged, node by node.
        prepacked: let onnxruntime rearrange constant weights, which changes the order of sums.
        replaced: initializer -> the value to use instead.

    Raises:
        FileError: onnxruntime cannot load the model.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        optimized: bool = False,
        prepacked: bool = True,
        replaced: Mapping[str, Array] | None = None,
    ) -> None:
        require_onnx()
        import onnxruntime as ort

        self._where = str(model) if isinstance(model, Path) else None
        options = ort.SessionOptions()
        level = ort.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        if not prepacked:
            options.add_session_config_entry("session.disable_prepacking", "1")
        self._replaced = {
            name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(a)) for name, a in (replaced or {}).items()
        }
        for name, value in self._replaced.items():
            options.add_initializer(name, value)
        source = str(model) if isinstance(model, Path) else model
        try:
            # Without its second try, which prints the first error.
            self._session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        except (*_errors(), ValueError, RuntimeError) as error:  # a message that is not UTF-8 is a ValueError
            raise self._failure("onnxruntime cannot load this model.", error) from error
        self.inputs = tuple(Port(i.name, _dtype(i.type), tuple(i.shape)) for i in self._session.get_inputs())
        self.outputs = tuple(Port(o.name, _dtype(o.type), tuple(o.shape)) for o in self._session.get_outputs())

    def run(self, feeds: Arrays) -> dict[str, Array]:
        """The outputs by name, in the order of the graph.

        Raises:
            FileError: onnxruntime stopped.
        """
        import onnxruntime as ort

        options = ort.RunOptions()
        timer = threading.Timer(SECONDS, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            arrays = self._session.run(None, dict(feeds), options)
        except (*_errors(), ValueError, RuntimeError) as error:
            if options.terminate:
                raise EndlessModel(
                    "This model did not finish in time.",
                    where=self._where,
                    numbers=f"{SECONDS} seconds",
                    cause="an endless Loop, or a model that is too large for this machine",
                    todo="set XCHECK_ONNX_SECONDS for more time",
                ) from error
            raise self._failure("onnxruntime cannot run this model on these inputs.", error) from error
        finally:
            timer.cancel()
        return {port.name: np.asarray(array) for port, array in zip(self.outputs, arrays, strict=True)}

    def _failure(self, what: str, error: BaseException) -> FileError:
        return FileError(what, where=self._where, cause=_short(error))


def _errors() -> tuple[type[Exception], ...]:
    """The exceptions of onnxruntime; they have no common base."""
    import onnxruntime.capi.onnxruntime_pybind11_state as state  # pyright: ignore[reportMissingImports]

    return tuple(e for e in vars(state).values() if isinstance(e, type) and issubclass(e, Exception))


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else f"{text[:300]} ... {text[-90:]}"


def _dtype(onnx_type: str) -> str:
    inner = onnx_type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(inner, inner)


def reference_outputs(model: Any, feeds: Arrays, folder: str = "") -> dict[str, Array]:
    """The outputs of a model in float64, from the evaluator of the standard.

    Args:
        model: an `onnx.ModelProto`.
        feeds: graph input -> array.
        folder: of the external data, for a model loaded without it.

    Raises:
        FileError: the evaluator lacks an operator, or stopped.
    """
    from onnx.reference import ReferenceEvaluator

    float64_feeds = {name: a.astype(np.float64) if a.dtype == np.float32 else a for name, a in feeds.items()}
    failures = (ArithmeticError, AssertionError, AttributeError, ImportError, LookupError)
    try:
        evaluator = ReferenceEvaluator(in_float64(model, folder))
        arrays: Any = evaluator.run(None, float64_feeds)
    except (*failures, RuntimeError, TypeError, ValueError) as error:
        raise FileError("onnx.reference cannot evaluate this model.", cause=_short(error)) from error
    return {o.name: np.asarray(array) for o, array in zip(model.graph.output, arrays, strict=True)}


def assigned(ports: Sequence[Port], given: Sequence[tuple[str, Array]], where: str | None = None) -> dict[str, Array]:
    """Input name -> array: by name if all names are known, else in order if the shapes fit.

    Args:
        ports: inputs of a graph.
        given: names ("" where there is none) and arrays.
        where: for the message.

    Raises:
        FileError: the arrays do not fit the inputs.
    """
    by_name = dict(given)
    if len(by_name) == len(given) and by_name.keys() >= {port.name for port in ports}:
        chosen = [by_name[port.name] for port in ports]
    else:
        chosen = [array for _, array in given]
    if len(chosen) != len(ports) or not all(_fits(p, a) for p, a in zip(ports, chosen, strict=True)):
        raise FileError(
            "The given inputs do not fit the inputs of this model.",
            where=where,
            numbers=f"given {', '.join(f'{name} {a.dtype}{a.shape}' for name, a in given) or 'nothing'}; "
            f"the model takes {', '.join(f'{p.name} {p.dtype}{p.shape}' for p in ports) or 'nothing'}",
        )
    return {port.name: _cast(port, array) for port, array in zip(ports, chosen, strict=True)}


def _fits(port: Port, array: Array) -> bool:
    if len(port.shape) != array.ndim:
        return False
    if any(isinstance(n, int) and n != m for n, m in zip(port.shape, array.shape, strict=True)):
        return False
    cast = _cast(port, array)
    return bool(np.array_equal(cast, array)) or cast.dtype.kind == array.dtype.kind == "f"


def _cast(port: Port, array: Array) -> Array:
    return np.ascontiguousarray(array).astype(np.dtype(port.dtype), copy=False).reshape(array.shape)
