"""A pair of two existing models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

import numpy as np

from ..errors import BatchError
from ..records.trace import Array
from .pair import Batch, KerasSide, Pair, TorchSide


def pair_of(torch_model: Any, keras_model: Any, inputs: Any, *, name: str, **settings: Any) -> Pair:
    """A pair of two live models without a loss; compares outputs and gradients of a fixed projection of them.

    Args:
        torch_model: a `torch.nn.Module`; copied.
        keras_model: a `keras.Model`, built.
        inputs: one batch: an array, tensor, or a tuple or dict of them, or a `Batch`.
        name: of the pair.
        settings: other fields of `Pair`, such as `weight_map`; `torch` and `keras` take fields of the sides.
    """
    batch = inputs if isinstance(inputs, Batch) else Batch(as_arrays(inputs))
    sides = {side: settings.pop(side, {}) for side in ("torch", "keras")}
    return Pair(
        name=name,
        torch=TorchSide(build=lambda: deepcopy(torch_model), **sides["torch"]),
        keras=KerasSide(build=lambda: keras_model, **sides["keras"]),
        batches=lambda seed: [batch] * 2,
        **settings,
    )


def batches_from(loader: Iterable[Any], split: Callable[[Any], tuple[Any, Any]] | None = None) -> Iterator[Batch]:
    """Batches of a DataLoader, a tf.data.Dataset, or another iterable of arrays or tensors.

    Args:
        loader: yields (inputs, targets), only inputs, or items for `split`.
        split: item of the loader -> (inputs, targets).

    Raises:
        BatchError: an item is not an array, tensor, number, or container of these.
    """
    for item in loader:
        if split is not None:
            inputs, targets = split(item)
        elif issubclass(type(item), tuple | list) and len(item) == 2:
            inputs, targets = item
        else:
            inputs, targets = item, None
        yield Batch(as_arrays(inputs), None if targets is None else as_arrays(targets))


def as_arrays(value: Any) -> Any:
    """Tensors of any framework, in containers, as NumPy arrays.

    Raises:
        BatchError: an item is neither a tensor nor an array of numbers.
    """
    kind: Any = type(value)  # pyright: ignore[reportUnknownVariableType]
    if issubclass(kind, Mapping):
        return {key: as_arrays(item) for key, item in value.items()}
    if issubclass(kind, tuple | list) and not all(isinstance(item, int | float) for item in value):
        return tuple(map(as_arrays, value))
    array: Array = np.asarray(value.detach().cpu() if "detach" in dir(value) else value)
    if array.dtype.kind not in "fiub":
        raise BatchError(
            "A batch contains something that is not an array of numbers.",
            numbers=f"got {kind.__name__}",
            todo="pass `split` to xcheck.batches_from: a function from an item of the loader to (inputs, targets)",
        )
    return array
