"""A Keras model on PyTorch, written to ONNX by PyTorch's own exporter, with the batch left free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np


def by_torch(model: Any, given: Any, other: Any, path: Path) -> str | None:
    """Write the model in inference mode; the axes whose size differs between two batches are free.

    Args:
        model: built, on PyTorch.
        given: inputs to trace it with.
        other: inputs of another batch size.
        path: of the file.

    Returns:
        Why the batch could not be left free; None if it is free.
    """
    import torch

    flat, others = ([_tensor(a) for a in keras.tree.flatten(inputs)] for inputs in (given, other))
    options = {"training": False} if model._call_has_training_arg else {}
    structure = keras.tree.map_structure(lambda _: None, given)

    class Flat(torch.nn.Module):
        """The model with its inputs and outputs one after the other."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            return keras.tree.flatten(self.model(keras.tree.pack_sequence_as(structure, list(tensors)), **options))

    batch = torch.export.Dim("batch")
    free = [
        {i: batch for i, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)) if m != n}
        for a, b in zip(flat, others, strict=True)
    ]

    def write(axes: Any) -> None:
        with torch.no_grad():
            torch.onnx.export(
                Flat().eval(),
                tuple(flat),
                path,
                dynamo=True,
                dynamic_shapes=axes,
                external_data=False,
                optimize=True,
                verbose=False,
            )

    try:
        write({"tensors": tuple(free)})
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError) as error:
        write(None)
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]:.200}"
    return None


def _tensor(array: Any) -> Any:
    return keras.ops.convert_to_tensor(np.array(array))
