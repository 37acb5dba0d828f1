"""A PyTorch model written to ONNX, by the exporter that PyTorch recommends."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from ...errors import UserCodeError
from ...pairs.pair import Batch
from ...pairs.user_code import calling
from ...records.trace import Array, Arrays
from ..protocol import Exported
from ..quiet import quiet
from .variables import to_numpy

if TYPE_CHECKING:
    from .live import LiveTorch

ROUTE = "torch.onnx.export"
LARGEST = 2**31 - 2**20
"""Bytes of weights that fit into one file: protobuf ends at 2 GiB, and the graph needs some of it."""


class TorchExporter:
    """The model of a runner, for ONNX.

    Args:
        runner: whose model.
    """

    def __init__(self, runner: LiveTorch) -> None:
        self._runner = runner

    def routes(self) -> Sequence[str]:
        """The one there is."""
        return (ROUTE,)

    def infer(self, batch: Batch) -> Arrays:
        """The outputs of the model itself in inference mode."""
        return self._runner._infer(self._runner._ready(batch))[0]

    def export(self, route: str, path: Path, batch: Batch, other: Batch) -> Exported:
        """Write the model; where the exporter cannot leave the batch free, with the batch as it is."""
        runner = self._runner
        args, kwargs = _arguments(runner._ready(batch).inputs)
        others = _arguments(runner._ready(other).inputs)
        with _inference(runner.model), torch.no_grad(), runner._scope():
            raw = runner._call(runner._ready(batch).inputs)
        free = _free_axes(runner.model, (args, kwargs), others, batch.size, other.size)
        fixed = None
        with _inference(runner.model):
            try:
                _write(runner.model, args, kwargs, path, free)
            except UserCodeError as error:
                _write(runner.model, args, kwargs, path, None)
                fixed = f"{error.what} {error.parts['cause'] or ''}".strip()
        leaves, structure = pytree.tree_flatten(raw)

        def inputs(given: Batch) -> list[tuple[str, Array]]:
            flat, _ = pytree.tree_flatten_with_path(_arguments(runner._ready(given).inputs))
            return [(_name(keys), to_numpy(leaf)) for keys, leaf in flat if isinstance(leaf, torch.Tensor)]

        def outputs(found: Arrays) -> Arrays:
            wanted = sum(isinstance(leaf, torch.Tensor) for leaf in leaves)
            if wanted != len(found):
                raise UserCodeError(
                    "The exported file has a different number of outputs than the model returns.",
                    where=ROUTE,
                    numbers=f"{len(found)} in the file, {wanted} tensors returned by the model",
                    cause="an export may merge a tensor that is returned twice, and leave out inputs and constants",
                    todo="let the model return each tensor once, and no inputs or constants",
                )
            arrays = iter(found.values())
            filled = [torch.from_numpy(next(arrays)) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
            named = runner._named_outputs(pytree.tree_unflatten(filled, structure))
            return {name: to_numpy(tensor) for name, tensor in named.items()}

        return Exported(inputs, outputs, fixed)


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (inputs if isinstance(inputs, tuple) else (inputs,)), {}


def _free_axes(model: torch.nn.Module, given: Any, other: Any, size: int, other_size: int) -> Any:
    """For each argument the axes whose size differs between two batches, as `torch.export` takes them."""
    batch = torch.export.Dim("batch")

    def axes(left: Any, right: Any) -> Any:
        if not isinstance(left, torch.Tensor):
            return None
        pairs = enumerate(zip(left.shape, right.shape, strict=True))
        return {i: batch if (m, n) == (size, other_size) else torch.export.Dim.AUTO for i, (m, n) in pairs if m != n}

    bound, others = (
        inspect.signature(model.forward).bind(*args, **kwargs).arguments for args, kwargs in (given, other)
    )
    return {name: pytree.tree_map(axes, value, others[name]) for name, value in bound.items()}


def _write(model: torch.nn.Module, args: Any, kwargs: Any, path: Path, free: Any) -> None:
    size = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    try:
        with calling(ROUTE, todo="export the model by hand, and read what the exporter says"), quiet():
            torch.onnx.export(
                model,
                args,
                path,
                kwargs=kwargs,
                dynamo=True,
                dynamic_shapes=free,
                external_data=size > LARGEST,
                optimize=True,
                verbose=False,
            )
    except UserCodeError as error:
        error.parts["cause"] = _summary(error.parts["cause"] or "")
        raise


def _summary(message: str) -> str:
    """What the exporter says at the end of its advice, under a heading."""
    _, found, rest = message.partition("Exception summary")
    lines = [line.strip() for line in rest.splitlines() if line.strip()]
    return lines[0] if found and lines else message


@contextmanager
def _inference(model: torch.nn.Module) -> Generator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _name(keys: Any) -> str:
    """The argument that leads to a tensor; a position has no name."""
    return str(keys[-1].key) if isinstance(keys[-1], pytree.MappingKey) else ""
