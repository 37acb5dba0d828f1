"""Watching a PyTorch training step through hooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ....records.store import Store
from ....records.trace import Array
from ..hooks import Hook
from ..variables import to_numpy


class Observer:
    """Copies the outputs of each training forward and each gradient as backpropagation finishes it.

    It adds nothing to the autograd graph, so the order in which gradients accumulate stays the user's.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        named: Callable[[Any], dict[str, torch.Tensor]],
        store: Store,
    ) -> None:
        self._store = store
        self.gradients: dict[int, Array] = {}
        self.calls: list[dict[str, Array]] = []
        self.differentiated: list[bool] = []
        self._applied: dict[int, Array] = {}
        self._updated: dict[int, Array] = {}
        self._given: dict[int, Array] = {}
        self._named = named
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._left = {id(p): p.grad for p in self._trained}
        self._handles: list[Any] = [torch.nn.Module.register_forward_hook(model, Hook(self._forward))]
        self._handles += [p.register_post_accumulate_grad_hook(self._gradient) for p in self._trained]
        self._handles += [optimizer.register_step_pre_hook(self._before_update) for optimizer in optimizers]

    def _forward(self, _module: torch.nn.Module, _args: Any, raw: Any) -> None:
        self.calls.append({name: to_numpy(t) for name, t in self._named(raw).items()})
        self.differentiated.append(torch.is_grad_enabled())

    def _gradient(self, p: torch.Tensor) -> None:
        if p.grad is not None:
            self.gradients[id(p)] = dense(p.grad, self._store)

    def _before_update(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        applied = {id(p): dense(p.grad, self._store) for p in self._trained if id(p) in own and p.grad is not None}
        self._applied |= applied
        # What is differentiated after its last update, for the sake of other parameters, is no gradient of an update.
        self._updated |= {key: self.gradients[key] for key in applied if key in self.gradients}
        # A step may take its gradients with `torch.autograd.grad` and hand them over itself.
        given = (p for p in self._trained if id(p) not in self.gradients and p.grad is not self._left[id(p)])
        self._given |= {id(p): applied[id(p)] for p in given if id(p) in applied}

    def unscaled(self) -> dict[int, Array]:
        """id of a parameter -> its gradient as backpropagation left it, but for the scale of a scaled loss.

        A step that scales its loss divides the gradients again before it updates. That is told from clipping by its
        factor: one power of two for every element.
        """
        scale = self.scale()
        found = self._final()
        found = found if scale == 1 else {key: g / scale for key, g in found.items()}
        return {**self._given, **found}

    def scale(self) -> float:
        """What the loss was multiplied by before it was differentiated; 1 for nothing."""
        return self._power_of_two() or 1.0

    def _final(self) -> dict[int, Array]:
        """id of a parameter -> its gradient at its last update; of one that was not updated, the last."""
        return {**self.gradients, **self._updated}

    def _power_of_two(self) -> float | None:
        found: float | None = None
        for key, gradient in self._final().items():
            applied = self._applied.get(key)
            if applied is None or applied.shape != gradient.shape:
                return None
            if not applied.any():
                continue
            if found is None:
                at = int(np.abs(applied).argmax())
                if not np.isfinite(applied.reshape(-1)[at]):
                    return None
                found = float(gradient.reshape(-1)[at] / applied.reshape(-1)[at])
                if found <= 1 or math.frexp(found)[0] != 0.5:
                    return None
            if not np.array_equal(gradient, applied * found):
                return None
        return found

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def dense(gradient: torch.Tensor, store: Store) -> Array:
    """What the store keeps of a gradient, its rows that are left out zero."""
    return to_numpy(gradient.to_dense() if gradient.is_sparse else gradient, store)
