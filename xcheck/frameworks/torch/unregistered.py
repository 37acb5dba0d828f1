"""Parameters that a PyTorch model computes with and does not know of: in a plain list, dict or object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from ...pairs.pair import Batch
from .patches.dropout import DropoutOff


def hidden(runner: Any, batch: Batch) -> dict[str, tuple[int, ...]]:
    """How it is reached -> shape of what would learn and does not, on one batch; the state is as before.

    Args:
        runner: of the side.
        batch: to compute a loss on.

    Raises:
        UserCodeError: the model cannot be called with this batch.
    """
    found = unregistered(runner.model, runner.memory.optimizers)
    if not found:
        return {}
    ready, kept = runner._ready(batch), runner.snapshot()
    try:
        with runner._scope(), DropoutOff():
            return learning(found, lambda: runner._total(runner._call(ready.inputs), ready))
    finally:
        runner.restore(kept)


def unregistered(model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """How it is reached -> each tensor that wants a gradient and is known to neither the model nor its optimizer.

    PyTorch registers what is an attribute of a module itself. What lies in a plain list, tuple or dict it does not see:
    neither `parameters()` nor `state_dict()` nor `to()` have it.

    Args:
        model: to look through.
        optimizers: of it; none where nothing trains.
    """
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    known = {id(p) for p in model.parameters()} | {id(p) for group in groups for p in group["params"]}
    found: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name, tensor in _held(f"{path}." if path else "", vars(module), seen):
            if tensor.requires_grad and tensor.is_leaf and id(tensor) not in known:
                known.add(id(tensor))
                found[name] = tensor
    return found


def _held(start: str, attributes: Mapping[str, Any], seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in attributes.items():
        if name not in ("_parameters", "_buffers", "_modules"):
            yield from _inside(f"{start}{name}", value, seen)


def _inside(name: str, value: Any, seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.nn.Module):
        yield from ((f"{name}.{path}", p) for path, p in value.named_parameters())
    elif isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, list | tuple | dict) and id(value) not in seen:
        seen.add(id(value))
        items = value.items() if isinstance(value, dict) else enumerate(value)  # pyright: ignore
        for key, item in items:  # pyright: ignore[reportUnknownVariableType]
            yield from _inside(f"{name}[{key!r}]", item, seen)


def learning(tensors: Mapping[str, torch.Tensor], total: Callable[[], torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of those of some tensors that a loss has a gradient for.

    Args:
        tensors: by name.
        total: computes the loss.
    """
    with torch.enable_grad():
        loss = total()
    if not loss.requires_grad:
        return {}
    gradients = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)
    found = zip(tensors.items(), gradients, strict=True)
    return {name: tuple(tensor.shape) for (name, tensor), g in found if g is not None and bool(g.any())}
