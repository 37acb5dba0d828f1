"""Watching a PyTorch training step through hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..trace import Array
from .torch_variables import to_numpy


class Observer:
    """Copies the outputs of the training forward and each gradient as backpropagation finishes it.

    It adds nothing to the autograd graph, so the order in which gradients accumulate stays the user's.
    """

    def __init__(self, model: torch.nn.Module, named: Callable[[Any], dict[str, torch.Tensor]]) -> None:
        self.gradients: dict[int, Array] = {}
        self.outputs: dict[str, Array] = {}
        self._calls = 0
        self._named = named
        self._handles: list[Any] = [model.register_forward_hook(self._forward)]
        self._handles += [
            p.register_post_accumulate_grad_hook(self._gradient) for p in model.parameters() if p.requires_grad
        ]

    def _forward(self, _module: torch.nn.Module, _args: Any, raw: Any) -> None:
        self._calls += 1
        suffix = "" if self._calls == 1 else f" (call {self._calls})"
        self.outputs |= {f"{name}{suffix}": to_numpy(t) for name, t in self._named(raw).items()}

    def _gradient(self, p: torch.Tensor) -> None:
        if p.grad is not None:
            self.gradients[id(p)] = to_numpy(p.grad.to_dense() if p.grad.is_sparse else p.grad)

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
