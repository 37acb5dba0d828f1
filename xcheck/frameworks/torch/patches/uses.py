"""The gradient of a PyTorch parameter, one part per use.

Wherever a parameter enters a function of PyTorch, an alias of it goes in instead: the same values in the same
memory, and a node of its own in the graph. What flows back through that node is the gradient of this use alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from ....pairs.pair import Batch
from ....pairs.user_code import calling
from ....records.store import Store
from ....records.trace import Array, Arrays
from ....records.uses import LOSS, PENALTY, Touch, uses_of
from ...protocol import step_seed
from ..hooks import Hook
from ..variables import inventory
from .dropout import DropoutOff
from .training_step import Observer, dense

if TYPE_CHECKING:
    from ..runner import TorchRunner

_VIEWS = {getattr(torch.Tensor, name).__get__ for name in ("T", "H", "mT", "mH", "real", "imag")}
_OF_THE_PARAMETER_ITSELF = {
    "__get__",
    "__set__",
    "__delete__",
    "__deepcopy__",
    "__reduce_ex__",
    "backward",
    "grad",
    "register_hook",
    "register_post_accumulate_grad_hook",
    "requires_grad_",
    "retain_grad",
    "set_",
}
"""Functions that ask for, or change, the object and not its value: they get the parameter, not an alias."""

_DETACHED = torch.Tensor.data.__get__  # pyright: ignore[reportAttributeAccessIssue]


def uses(runner: TorchRunner, number: int, batch: Batch) -> Mapping[str, Arrays]:
    """Make a training step again, with every use of a parameter told apart, and undo it.

    Args:
        runner: stands where the step began, and is left there.
        number: of the step.
        batch: of the step.

    Returns:
        Path of a parameter -> name of the use -> gradient; parameters that are tied or used several times.
    """
    ready, start, declared = runner._ready(batch), runner.snapshot(), runner.declared
    told = _ToldApart(runner.model, runner.store)
    observer = Observer(runner.model, runner.optimizer, runner._named_outputs, runner.store)
    if declared.penalty is not None:
        runner.declared = replace(declared, penalty=told.penalty(declared.penalty))
    torch.manual_seed(step_seed(runner.seed, number))
    try:
        with calling("torch training step, with its uses told apart,"), runner._scope(), DropoutOff(), told:
            if declared.step:
                runner._custom_step(ready)
            else:
                runner._standard_step(ready)
    finally:
        runner.declared = declared
        observer.remove()
        told.remove()
        runner.restore(start)
    return told.uses(observer.scale())


class _ToldApart(TorchFunctionMode):
    """While active, every use of a trained parameter goes through an alias of its own.

    Args:
        model: whose parameters and calls.
        store: keeps the gradients.
    """

    def __init__(self, model: torch.nn.Module, store: Store) -> None:
        super().__init__()
        self._store = store
        self._paths = {id(p): path for path, p in model.named_parameters() if p.requires_grad}
        self._tied = _tied(model)
        self._names = {id(m): name or "(the model)" for name, m in model.named_modules()}
        self._calls: Counter[int] = Counter()
        self._stack: list[tuple[str, int]] = []
        self._outside = LOSS
        self._touches: list[tuple[torch.Tensor, tuple[str, int], list[Array]]] = []
        self._handles: list[Any] = []
        for module in model.modules():
            self._handles.append(module.register_forward_pre_hook(Hook(self._enter), prepend=True))
            self._handles.append(module.register_forward_hook(Hook(self._leave), always_call=True))

    def _enter(self, module: torch.nn.Module, _args: Any) -> None:
        self._calls[id(module)] += 1
        self._stack.append((self._names[id(module)], self._calls[id(module)]))

    def _leave(self, *_: Any) -> None:
        self._stack.pop()

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()

    def penalty(self, declared: Callable[..., Any]) -> Callable[..., Any]:
        """The pair's penalty; the uses in it go by that name."""

        def followed(*args: Any, **kwargs: Any) -> Any:
            self._outside = PENALTY
            try:
                return declared(*args, **kwargs)
            finally:
                self._outside = LOSS

        return followed

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func` with aliases of the parameters among its arguments."""
        kwargs = kwargs or {}
        if func == _DETACHED:
            self._alias(args[0], connected=False)
        elif func in _VIEWS or getattr(func, "__name__", "") not in _OF_THE_PARAMETER_ITSELF:
            args, kwargs = tree_map(self._alias, (args, kwargs))
        return func(*args, **kwargs)

    def _alias(self, value: Any, *, connected: bool = True) -> Any:
        if id(value) not in self._paths or not isinstance(value, torch.nn.Parameter):
            return value
        place = self._stack[-1] if self._stack else (self._outside, 0)
        gradients: list[Array] = []
        self._touches.append((value, place, gradients))
        if not (connected and torch.is_grad_enabled()):
            return value
        alias: torch.Tensor = torch.ops.aten.alias(value)
        alias.register_hook(lambda gradient: gradients.append(dense(gradient, self._store)))
        return alias

    def uses(self, scale: float) -> Mapping[str, Arrays]:
        """As the function of that name.

        Args:
            scale: that the loss was multiplied by before it was differentiated.
        """
        touches = (
            Touch(self._paths[id(p)], *place, _summed(gradients, scale), tuple(p.shape))
            for p, place, gradients in self._touches
        )
        return uses_of(touches, self._tied)


def _summed(gradients: list[Array], scale: float) -> Array | None:
    if not gradients:
        return None
    total = sum(gradients[1:], gradients[0])
    return total if scale == 1 else total / scale


def _tied(model: torch.nn.Module) -> set[str]:
    held = inventory(model)
    return {held.canonical_path(path) for group in held.tie_groups() if len(group) > 1 for path in group}
