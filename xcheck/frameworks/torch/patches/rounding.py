"""What a PyTorch model returns, off by one more rounding error."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ...protocol import rounding_factors
from ...tree import replaced, tensors_in
from ..hooks import Hook


@contextmanager
def rounding(model: torch.nn.Module, rng: np.random.Generator, gradients: float = 0.0) -> Generator[None]:
    """As `Runner.rounding`."""

    def moved(p: torch.Tensor) -> None:
        if p.grad is None or p.grad.is_sparse:
            return
        by = gradients * float(p.grad.square().mean().sqrt())
        signs = torch.from_numpy(rounding_factors(tuple(p.shape), 1.0, rng) - 1.0).to(p.grad)
        p.grad += by * signs * (p.grad != 0)  # what is exactly zero is exact on both sides

    def rounded(_module: torch.nn.Module, _args: Any, raw: Any) -> Any:
        with torch._C.DisableTorchFunction():  # no function of the model's own, for those who watch them
            floats = {n: t for n, t in tensors_in(raw, torch.is_tensor).items() if t.is_floating_point()}
            return replaced(raw, {name: _moved(tensor, rng) for name, tensor in floats.items()}, torch.is_tensor)

    handles: list[Any] = [model.register_forward_hook(Hook(rounded))]
    if gradients:
        trained = [p for p in model.parameters() if p.requires_grad]
        handles += [p.register_post_accumulate_grad_hook(moved) for p in trained]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _moved(tensor: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    by = torch.from_numpy(rounding_factors(tuple(tensor.shape), torch.finfo(tensor.dtype).eps, rng)).to(tensor)
    value = tensor.detach()
    out = (value.abs() <= 1) & ((value * by).abs() > 1)  # of the range that a loss may hold probabilities to
    return tensor * torch.where(out, 2 - by, by)
