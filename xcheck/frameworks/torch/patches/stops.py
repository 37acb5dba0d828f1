"""The places where a tensor of a PyTorch training step loses its gradient, and the step with it kept there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ....records.calls import LOSS, Open, Stop
from ..hooks import Hook
from ..variables import to_numpy

_DETACH = (torch.Tensor.detach, torch.detach, torch.Tensor.data.__get__)  # pyright: ignore
_SET_GRAD: Any = torch._C._set_grad_enabled


@contextmanager
def stops(model: torch.nn.Module, let_through: Open) -> Generator[list[Stop]]:
    """While the block runs, tensors keep their gradient at the chosen places.

    A parameter that is read without its gradient is no such place: that is told with its uses.

    Args:
        model: whose calls; outside of them, `no_grad` is what an optimizer works in.
        let_through: told of each place.
    """
    mode = _Stops(model, let_through)
    handles: list[Any] = []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(Hook(mode.enter), prepend=True))
        handles.append(module.register_forward_hook(Hook(mode.leave), always_call=True))
    try:
        with mode:
            yield mode.found
    finally:
        for handle in handles:
            handle.remove()


class _Stops(TorchFunctionMode):
    def __init__(self, model: torch.nn.Module, let_through: Open) -> None:
        super().__init__()
        self.found: list[Stop] = []
        self._let_through = let_through
        self._paths = {id(m): path for path, m in model.named_modules()}
        self._stack: list[str] = []
        self._numbers: Counter[tuple[str, str]] = Counter()

    def enter(self, module: torch.nn.Module, _args: Any) -> None:
        self._stack.append(self._paths[id(module)])

    def leave(self, *_: Any) -> None:
        self._stack.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`, or leave the gradient as it is."""
        cut_off = func in _DETACH and torch.is_grad_enabled() and _has_gradient(args[0])
        if cut_off and self._let(func.__name__.replace("__get__", "data"), to_numpy(args[0])):
            return args[0]
        if func is _SET_GRAD and args == (False,) and self._stack and torch.is_grad_enabled():
            return func(self._let("no_grad", None))
        return func(*args, **(kwargs or {}))

    def _let(self, kind: str, value: Any) -> bool:
        path = self._stack[-1] if self._stack else LOSS
        self._numbers[path, kind] += 1
        self.found.append(Stop(path, kind, self._numbers[path, kind], value))
        return self._let_through(self.found[-1])


def _has_gradient(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.requires_grad and not value.is_leaf
