"""Every call of a PyTorch module in one forward pass."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ..calls import Call, Swap
from .torch_variables import kind_of, to_numpy
from .tree import replaced, tensors_in


class Watch:
    """Records the calls of a model's modules while `recording`.

    Args:
        model: whose modules.
        swap: may replace what a module returns.

    Attributes:
        made: the calls that have ended.
        tensors: index of a call -> its outputs as tensors of the graph, for the gradients.
    """

    def __init__(self, model: torch.nn.Module, swap: Swap | None = None) -> None:
        self.model = model
        self.made: list[Call] = []
        self.tensors: dict[int, dict[str, torch.Tensor]] = {}
        self._swap = swap
        self._open: list[tuple[int, dict[str, Any]]] = []
        self._entered = 0
        self._numbers: dict[str, int] = {}
        canonical = {id(t): path for path, t in (*model.named_parameters(), *model.named_buffers())}
        self._paths = {id(m): path for path, m in model.named_modules()}
        self._held = {
            id(m): tuple(
                canonical[id(t)] for t in (*m._parameters.values(), *m._buffers.values()) if id(t) in canonical
            )
            for m in model.modules()
        }

    @contextmanager
    def recording(self) -> Generator[None]:
        """Watch the modules until the block ends."""
        handles: list[Any] = []
        for module in self.model.modules():
            handles.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
            handles.append(module.register_forward_hook(self._leave, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        given = {str(i): a for i, a in enumerate(args)} | kwargs
        inputs = {name: to_numpy(t) for name, t in tensors_in(given, torch.is_tensor).items()}
        self._open.append((self._entered, inputs))
        self._entered += 1

    def _leave(self, module: torch.nn.Module, args: Any, kwargs: Any, raw: Any) -> Any:
        index, inputs = self._open.pop()
        path = self._paths[id(module)]
        self._numbers[path] = self._numbers.get(path, 0) + 1
        tensors = tensors_in(raw, torch.is_tensor)
        call = Call(
            index=index,
            parent=self._open[-1][0] if self._open else None,
            path=path,
            kind=kind_of(module),
            number=self._numbers[path],
            inputs=inputs,
            outputs={name: to_numpy(t) for name, t in tensors.items()},
            parameters=self._held[id(module)],
        )
        self.made.append(call)
        others = self._swap(call) if self._swap else None
        if others is None:
            self.tensors[index] = tensors
            return None
        made = {name: torch.from_numpy(np.array(array)).to(tensors[name]) for name, array in others.items()}
        return replaced(raw, made, torch.is_tensor)

    def gradients(self, total: torch.Tensor) -> dict[int, Mapping[str, Any]]:
        """Index of a call -> gradient of `total` with respect to each of its outputs, where there is one."""
        wanted = [(i, name, t) for i, named in self.tensors.items() for name, t in named.items() if t.requires_grad]
        if not wanted:
            return {}
        found = torch.autograd.grad(total, [t for _, _, t in wanted], allow_unused=True)
        by_call: dict[int, dict[str, Any]] = {}
        for (index, name, _), gradient in zip(wanted, found, strict=True):
            if gradient is not None:
                by_call.setdefault(index, {})[name] = to_numpy(gradient)
        return dict(by_call)
