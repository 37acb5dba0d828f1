"""How PyTorch's tensors are saved and put back in place."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import UninitializedTensorMixin

from ...records.store import Store
from ...records.trace import Array
from ..reachable import Leaf


class TorchTensors:
    """As `reachable.Tensors`."""

    opaque = ("torch._", "torch.fx.", "torch.jit.")
    passing: frozenset[str] = frozenset()

    def always(self, thing: Any) -> bool:
        """Modules are looked into, also those that the compiler wraps others in."""
        return isinstance(thing, torch.nn.Module)

    def wrapped(self, thing: Any) -> Any:
        """PyTorch wraps no containers."""
        return None

    def place(self, thing: Any) -> Any:
        """The address of the first element, or who it is."""
        address = thing.data_ptr() if isinstance(thing, torch.Tensor) and thing.layout == torch.strided else 0
        return ("address", address) if address else id(thing)

    def put(self, thing: Any, array: Array) -> bool:
        """A tensor or a NumPy array gets these values."""
        if isinstance(thing, np.ndarray):
            np.copyto(thing, array)
            return True
        with torch.no_grad(), torch._C.DisableTorchFunction():
            put(thing, array)
        return True

    def made(self, thing: Any, array: Array) -> Any:
        """All of PyTorch's tensors can be set."""
        raise NotImplementedError

    def leaf(self, thing: Any, store: Store) -> Leaf | None:
        """A tensor or a generator of random numbers, saved."""
        if isinstance(thing, torch.Generator):
            return Leaf(None, functools.partial(thing.set_state, thing.get_state()))
        if not isinstance(thing, torch.Tensor):
            return None
        with torch._C.DisableTorchFunction():
            return _leaf(thing, store)


def _leaf(tensor: torch.Tensor, store: Store) -> Leaf:
    if isinstance(tensor, UninitializedTensorMixin) or tensor.device.type == "meta":
        return Leaf(None, lambda: None)
    gradient, wanted, leaf = tensor.grad if tensor.is_leaf else None, tensor.requires_grad, tensor.is_leaf
    dense = tensor.layout == torch.strided
    array = store.keep(_seen(tensor)) if dense else None
    apart = None if dense or tensor.layout != torch.sparse_coo else tensor.detach().clone()

    def back() -> None:
        with torch.no_grad(), torch._C.DisableTorchFunction():
            if leaf and tensor.requires_grad != wanted:
                tensor.requires_grad_(wanted)
            if array is not None:
                put(tensor, array)
            elif apart is not None:
                tensor.copy_(apart)
            if leaf and tensor.grad is not gradient:
                tensor.grad = gradient

    return Leaf(array, back, {**vars(tensor), **({} if gradient is None else {"grad": gradient})})


def put(tensor: torch.Tensor, array: Array) -> None:
    """Give a tensor these values; what has them already is not touched, so that no graph takes it for changed.

    Args:
        tensor: of any float type; one that has changed its shape gets the former one.
        array: its values.
    """
    if tuple(tensor.shape) == array.shape:
        if np.array_equal(_seen(tensor), array, equal_nan=array.dtype.kind in "fc"):
            return
        tensor.copy_(torch.from_numpy(np.array(array)).to(tensor.dtype))
    else:
        tensor.data = torch.from_numpy(np.array(array)).to(tensor.dtype).to(tensor.device)


def _seen(tensor: torch.Tensor) -> Array:
    values = tensor.detach().cpu().resolve_conj().resolve_neg()
    return (values.float() if values.dtype in (torch.bfloat16, torch.float16) else values).numpy()
