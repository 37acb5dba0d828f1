"""What a PyTorch model returns, off by one more rounding error."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from .base import rounding_factors
from .tree import replaced, tensors_in


@contextmanager
def rounding(model: torch.nn.Module, rng: np.random.Generator) -> Generator[None]:
    """As `Runner.rounding`."""

    def rounded(_module: torch.nn.Module, _args: Any, raw: Any) -> Any:
        with torch._C.DisableTorchFunction():  # no function of the model's own, for those who watch them
            floats = {n: t for n, t in tensors_in(raw, torch.is_tensor).items() if t.is_floating_point()}
            return replaced(raw, {name: _moved(tensor, rng) for name, tensor in floats.items()}, torch.is_tensor)

    handle = model.register_forward_hook(rounded)
    try:
        yield
    finally:
        handle.remove()


def _moved(tensor: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    moved = rounding_factors(tuple(tensor.shape), torch.finfo(tensor.dtype).eps, rng)
    return tensor * torch.from_numpy(moved).to(tensor)
