"""How PyTorch's tensors are saved and put back in place."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from ...records.store import Store
from ...records.trace import Array
from ..reachable import Leaf, Saved


class TorchTensors:
    """As `reachable.Tensors`."""

    opaque: Sequence[str] = ("torch._", "torch.fx.", "torch.jit.")
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
            state = thing.get_state()
            return Leaf(None, lambda: _set_state(thing, state))
        if not isinstance(thing, torch.Tensor):
            return None
        with torch._C.DisableTorchFunction():
            return _leaf(thing, store)


def held_by(model: torch.nn.Module, store: Store) -> Saved:
    """What the modules hold in attributes, such as a recurrent state; parameters and buffers are left to others.

    Args:
        model: whose modules.
        store: keeps what lies there.
    """
    known = [id(tensor) for tensor in (*model.parameters(), *model.buffers())]
    return Saved({"model": model}, TorchTensors(), store, known)


@contextmanager
def looked_at(model: torch.nn.Module, store: Store) -> Generator[None]:
    """What a call keeps in attributes of the modules is as before when the block ends; arguments as of `held_by`."""
    kept = held_by(model, store)
    try:
        yield
    finally:
        kept.restore()


def _set_state(generator: torch.Generator, state: torch.Tensor) -> None:
    generator.set_state(state)


def _leaf(tensor: torch.Tensor, store: Store) -> Leaf:
    if is_lazy(tensor) or tensor.device.type == "meta":
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
