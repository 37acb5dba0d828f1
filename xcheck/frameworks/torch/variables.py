"""The parameters and buffers of a PyTorch model, by path and by the memory they lie in."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from ...records.inventory import Entry, Inventory
from ...records.store import Store
from ...records.trace import Array


def inventory(model: torch.nn.Module) -> Inventory:
    """The inventory of a PyTorch model; parameters that overlap in memory are one storage."""
    entries: list[Entry] = []
    kept = {id(b) for _, b in model.named_buffers()}
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    regions = _Regions()
    modules = dict(model.named_modules(remove_duplicate=False))  # get_submodule finds methods of the same name first
    for path, tensor in tensors:
        if is_lazy(tensor):  # without a shape until the model is called
            continue
        owner, _, role = path.rpartition(".")
        buffer = id(tensor) in kept and not isinstance(tensor, torch.nn.Parameter)
        entries.append(
            Entry(
                path=path,
                shape=tuple(tensor.shape),
                dtype=str(tensor.dtype).removeprefix("torch."),
                trainable=tensor.requires_grad,
                buffer=buffer,
                owner=owner,
                kind=kind_of(modules[owner]),
                role=role,
                identity=id(tensor),
                storage=regions.of(tensor),
            )
        )
    return Inventory(tuple(entries))


def kind_of(module: torch.nn.Module) -> str:
    """The nearest class of PyTorch's own that a module is or derives from; its own class if that is none.

    A scripted module is what it was made from.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return str(getattr(module, "original_name", type(module).__name__))
    known = (c for c in type(module).__mro__ if c.__module__.startswith("torch.nn.") and c is not torch.nn.Module)
    return next(known, type(module)).__name__


class _Regions:
    """Which tensors overlap in memory.

    Two views of one storage that do not overlap (the weights of a fused LSTM, the slices of a flat buffer) are
    not tied; a transpose, a slice that overlaps, or the very same tensor are.
    """

    def __init__(self) -> None:
        self._seen: dict[int, list[tuple[int, int, int]]] = {}
        self._groups = 0

    def of(self, tensor: torch.Tensor) -> int:
        base = tensor.untyped_storage().data_ptr()
        start = int(tensor.storage_offset()) * tensor.element_size()
        extent = sum((n - 1) * int(s) for n, s in zip(tensor.shape, tensor.stride(), strict=True)) + 1
        end = start + extent * tensor.element_size() if tensor.numel() else start
        seen = self._seen.setdefault(base, [])
        group = next((g for first, last, g in seen if start < last and first < end), None)
        if group is None:
            group = self._groups
            self._groups += 1
        seen.append((start, end, group))
        return group


def to_numpy(tensor: torch.Tensor, store: Store | None = None) -> Array:
    """What later steps cannot change: a copy of the values, or what the store has of them."""
    values = seen(tensor)
    return np.array(values) if store is None else store.keep(values)


def seen(tensor: torch.Tensor) -> Array:
    """The values, which may change with the tensor."""
    with torch._C.DisableTorchFunction():  # what watches the user's functions need not see this
        detached = tensor.detach().cpu().resolve_conj().resolve_neg()  # NumPy knows no lazy sign
        if detached.dtype in (torch.bfloat16, torch.float16):
            detached = detached.float()
        return detached.numpy()


def as_real(tensor: torch.Tensor) -> torch.Tensor:
    """A complex tensor with one more axis, of its real and its imaginary part; any other as it is."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
