"""A Keras model written to ONNX: by Keras itself, and by what it uses on TensorFlow and PyTorch without it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from ...errors import UserCodeError
from ...pairs.pair import Batch
from ...pairs.user_code import calling
from ...records.trace import Array, Arrays
from ..protocol import Exported
from ..quiet import quiet
from .torch_export import by_torch
from .variables import to_numpy

if TYPE_CHECKING:
    from .running_side import LiveKeras

OWN = "Model.export"
DIRECT = "tf2onnx"
BY_TORCH = "torch.onnx.export"
OPSET = 18
"""The newest that tf2onnx 1.17 writes; `Model.export` asks it for 15."""


class KerasExporter:
    """The model of a runner, for ONNX.

    Args:
        runner: whose model.
    """

    def __init__(self, runner: LiveKeras) -> None:
        self._runner = runner

    def routes(self) -> Sequence[str]:
        """Keras's own, and what it uses on TensorFlow and PyTorch; there its own leaves no axis free."""
        return {"tensorflow": (OWN, DIRECT), "torch": (BY_TORCH, OWN)}.get(keras.config.backend(), (OWN,))

    def infer(self, batch: Batch) -> Arrays:
        """The outputs of the model itself in inference mode."""
        with self._runner._scope():
            return self._runner._infer(self._runner._ready(batch))[0]

    def export(self, route: str, path: Path, batch: Batch, other: Batch) -> Exported:
        """Write the model; which axes are free follows from its `Input`s where it has some."""
        runner = self._runner
        with runner._scope():
            given, others = runner._ready(batch).inputs, runner._ready(other).inputs
            raw = runner._call(given, training=False)
            of_torch = keras.config.backend() == "torch"
            signature = _signature(runner.model, given, others) if not of_torch else _sizes(runner.model, given)
            fixed = _NOT_FREE if of_torch and route == OWN else None
            with calling(route, todo="export the model by hand, and read what the exporter says"), quiet():
                if route == DIRECT:
                    _by_tf2onnx(runner.model, signature, path)
                elif route == BY_TORCH:
                    fixed = by_torch(runner.model, given, others, path)
                else:
                    runner.model.export(path, format="onnx", verbose=False, input_signature=signature)
        names = [spec.name or "" if route != BY_TORCH else "" for spec in keras.tree.flatten(signature)]

        def inputs(batch: Batch) -> list[tuple[str, Array]]:
            with runner._scope():
                arrays = [np.asarray(a) for a in keras.tree.flatten(runner._ready(batch).inputs)]
            return list(zip(names if len(names) == len(arrays) else [""] * len(arrays), arrays, strict=True))

        def outputs(found: Arrays) -> Arrays:
            leaves = keras.tree.flatten(raw)
            if len(leaves) != len(found):
                raise UserCodeError(
                    "The exported file has a different number of outputs than the model returns.",
                    where=route,
                    numbers=f"{len(found)} in the file, {len(leaves)} tensors returned by the model",
                    cause="an export may merge a tensor that is returned twice, and leave out inputs and constants",
                    todo="let the model return each tensor once, and no inputs or constants",
                )
            with runner._scope():
                tensors = [keras.ops.convert_to_tensor(array) for array in found.values()]
                named = runner._named_outputs(runner._picked(keras.tree.pack_sequence_as(raw, tensors)))
                return {name: to_numpy(tensor) for name, tensor in named.items()}

        return Exported(inputs, outputs, fixed, fixed == _NOT_FREE)


_NOT_FREE = "Keras documents that on PyTorch its export leaves no axis free"


def _sizes(model: keras.Model, given: Any) -> list[Any]:
    """What the model eats, with the sizes of a batch: where one is left open, Keras on PyTorch takes 1."""
    signature = _signature(model, given, given)
    arrays = iter([np.asarray(a) for a in keras.tree.flatten(given)])
    specs: Any = keras.tree.map_structure(lambda spec: _spec(next(arrays).shape, spec.dtype, spec.name), signature)
    return specs


def _signature(model: keras.Model, given: Any, other: Any) -> list[Any]:
    """What the model eats: as its `Input`s say, or for one without them as two batches of different size show."""
    held = getattr(model, "_inputs_struct", None)  # of a functional model
    if held is None and isinstance(model, keras.Sequential):
        held = model.inputs[0]
    if held is not None:
        return [keras.tree.map_structure(lambda t: _spec(t.shape, t.dtype, t.name), held)]

    def spec(left: Any, right: Any) -> Any:
        left, right = np.asarray(left), np.asarray(right)
        shape = tuple(m if m == n else None for m, n in zip(left.shape, right.shape, strict=True))
        return _spec(shape, left.dtype.name, None)

    return [keras.tree.map_structure(spec, given, other)]


def _spec(shape: Any, dtype: str, name: str | None) -> keras.InputSpec:
    return keras.InputSpec(shape=shape, dtype=dtype, name=name)


def _by_tf2onnx(model: keras.Model, signature: list[Any], path: Path) -> None:
    """The only place that calls tf2onnx, whose maintainers ask for a successor."""
    import tensorflow as tf
    import tf2onnx  # pyright: ignore[reportMissingImports]
    from keras.src.export.tf2onnx_lib import patch_tf2onnx

    patch_tf2onnx()  # by Keras, for NumPy 2
    specs = keras.tree.map_structure(lambda s: tf.TensorSpec(s.shape, s.dtype, s.name), signature)
    options = {"training": False} if model._call_has_training_arg else {}
    function = tf.function(lambda *inputs: model(*inputs, **options), input_signature=specs)
    tf2onnx.convert.from_function(function, specs, opset=OPSET, output_path=str(path))
