"""PyTorch models that are whole only after a first call, and those that hold no values."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from ...errors import PairError
from ...records.plain_arrays import owned
from ...records.store import Store
from .reachable import held_by


def refuse_without_values(model: torch.nn.Module) -> None:
    """Refuse a model with tensors on the meta device.

    Raises:
        PairError: parameters or buffers have a shape and no values.
    """
    held = [*model.named_parameters(), *model.named_buffers()]
    empty = [path for path, tensor in held if not is_lazy(tensor) and tensor.is_meta]
    if empty:
        raise PairError(
            "The torch model has parameters on the meta device: they have a shape but no values.",
            where="TorchSide.build",
            numbers=f"{len(empty)} of {len(held)}: {', '.join(empty[:3])}{', ...' if len(empty) > 3 else ''}",
            cause="the model was created on device='meta', and the loaded weights do not contain these parameters",
            todo="load all of it with load_state_dict(..., assign=True), or initialize it after to_empty(device='cpu')",
        )


def whole_after_a_call(model: torch.nn.Module, call: Callable[[], Any], store: Store) -> bool:
    """Call a model once, so that it makes what it makes at its first call.

    A model that makes nothing is left as it was, its plain attributes too, and what they hold.

    Args:
        model: to call, `switched` to inference.
        call: makes one forward pass.
        store: keeps what the model holds.

    Returns:
        Whether the call made parameters or buffers, or gave lazy ones their shape.

    Raises:
        PairError: the model makes new parameters at every call.
        UserCodeError: the model cannot be called.
    """
    before = _shapes(model)
    kept = held_by(model, store)
    call()
    made = _shapes(model)
    if made == before:
        kept.restore()
        return False
    call()
    again = sorted(_shapes(model).keys() - made.keys())
    if again:
        raise PairError(
            "The torch model creates new parameters or buffers at every call.",
            where="forward of the torch model",
            numbers=f"created by the first call: {', '.join(sorted(made.keys() - before.keys()))}; by the second: "
            f"{', '.join(again)}",
            cause="forward registers them under a new name each time, and no optimizer gets them",
            todo="create them once, in __init__ or at the first call",
        )
    return True


def _shapes(model: torch.nn.Module) -> Mapping[str, tuple[int, ...] | None]:
    """Path -> shape of each parameter and buffer; None before it has one."""
    held = [*model.named_parameters(), *model.named_buffers()]
    return {path: None if is_lazy(t) else tuple(t.shape) for path, t in held}


def _scripted(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)


def set_training(model: torch.nn.Module, training: bool) -> None:
    """Switch a model to training or to inference, as `model.train(training)` does.

    A submodule called `training` takes the place of the flag, and `train` then raises: such a model has no modes of
    its own, and its other modules are switched one by one.

    Args:
        model: to switch.
        training: whether to train.
    """
    if not any("training" in module._modules for module in model.modules()):
        model.train(training)
        return
    for module in model.modules():
        if "training" not in module._modules:
            module.training = training


@contextmanager
def switched(model: torch.nn.Module, training: bool) -> Generator[None]:
    """A model is in training or in inference while the block runs; then its modules and its buffers are as before.

    Args:
        model: to switch.
        training: whether to train.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, b, b.clone())
        for module in model.modules()
        for name, b in module._buffers.items()
        if b is not None and not is_lazy(b)
    ]
    set_training(model, training)
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                if not _scripted(module):  # a call may have put another tensor in its place
                    module._buffers[name] = buffer
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
        for module, mode in modes:
            module.training = mode


def tensors_of(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """What `prepare` gave, its arrays as tensors on a device, floats in the dtype.

    Args:
        value: an array, a tensor, a mapping or sequence of them, or anything else.
        device: to put them on.
        dtype: of floats.
    """
    if isinstance(value, Mapping):
        return {key: tensors_of(item, device, dtype) for key, item in value.items()}  # pyright: ignore
    if isinstance(value, tuple | list):
        return tuple(tensors_of(item, device, dtype) for item in value)  # pyright: ignore
    if isinstance(value, np.ndarray | torch.Tensor):
        tensor = value if isinstance(value, torch.Tensor) else torch.from_numpy(owned(value))
        return tensor.to(device, dtype if tensor.is_floating_point() else None)
    return value


def has_forward(runner: Any) -> bool:
    """Whether a side can be called: its model has a forward pass, or there is no step to take the place of one."""
    forward = runner.model.forward  # of the class, or of this object alone, as torch.compile sets it
    return runner.declared.step is None or getattr(forward, "__func__", forward) is not torch.nn.Module.forward
