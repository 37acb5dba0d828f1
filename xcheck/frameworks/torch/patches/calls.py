"""Every call of a PyTorch module in one forward pass, and of the functions inside of them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from ....records.calls import LOSS, Call, Inside, Swap, nowhere, plain
from ....records.trace import Array
from ...tree import replaced, tensors_in
from ..hooks import Hook
from ..variables import kind_of, to_numpy

_SILENT = ("detach_", "requires_grad_", "register_hook", "backward", "to_numpy", "numpy", "__set__", "data", "grad")
"""Functions that compute nothing."""


class Watch:
    """Records the calls of a model's modules while `recording`.

    Args:
        model: whose modules.
        swap: may replace what a call returns.
        inside: in which modules the functions are recorded too.

    Attributes:
        made: the calls that have ended.
        tensors: index of a call -> its outputs as tensors of the graph, for the gradients.
    """

    def __init__(self, model: torch.nn.Module, swap: Swap | None = None, inside: Inside = nowhere) -> None:
        self.model = model
        self.made: list[Call] = []
        self.tensors: dict[int, dict[str, torch.Tensor]] = {}
        self._swap, self._inside = swap, inside
        self._open: list[tuple[int, str, dict[str, Any]]] = []
        self._entered = 0
        self._numbers: dict[tuple[str, str], int] = {}
        self._arrays: dict[tuple[int, int], tuple[torch.Tensor, Array]] = {}
        self._canonical = {id(t): path for path, t in (*model.named_parameters(), *model.named_buffers())}
        self._paths = {id(m): path for path, m in model.named_modules()}
        self._held = {
            id(m): tuple(
                self._canonical[id(t)]
                for t in (*m._parameters.values(), *m._buffers.values())
                if id(t) in self._canonical
            )
            for m in model.modules()
        }

    @contextmanager
    def recording(self) -> Generator[None]:
        """Watch the modules until the block ends."""
        with ExitStack() as stack:
            for module in self.model.modules():
                enter = module.register_forward_pre_hook(Hook(self._enter), with_kwargs=True)
                leave = module.register_forward_hook(Hook(self._leave), with_kwargs=True)
                stack.callback(enter.remove)
                stack.callback(leave.remove)
            if self._inside is not nowhere:
                stack.enter_context(_Functions(self))
            yield

    @contextmanager
    def recording_loss(self, given: Any) -> Generator[dict[str, torch.Tensor]]:
        """Watch what is computed until the block ends as one call; the block fills in what comes out."""
        outputs: dict[str, torch.Tensor] = {}
        self._open.append((self._next(), LOSS, self._taken(tensors_in(given, torch.is_tensor))))
        with _Functions(self) if self._inside is not nowhere else ExitStack():
            yield outputs
        self._ended(LOSS, "loss", outputs, outputs, ())

    def _next(self) -> int:
        self._entered += 1
        return self._entered - 1

    def _taken(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, Array]:
        return {name: self._array(t) for name, t in tensors.items()}

    def _array(self, tensor: torch.Tensor) -> Array:
        """A copy; one for all calls that see the tensor unchanged."""
        key = id(tensor), 0 if tensor.is_inference() else tensor._version
        if key not in self._arrays:
            self._arrays[key] = tensor, to_numpy(tensor)
        return self._arrays[key][1]

    def _enter(self, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        given = {str(i): a for i, a in enumerate(args)} | kwargs
        with torch._C.DisableTorchFunction():
            self._open.append((self._next(), self._paths[id(module)], self._taken(tensors_in(given, torch.is_tensor))))

    def _leave(self, module: torch.nn.Module, args: Any, kwargs: Any, raw: Any) -> Any:
        with torch._C.DisableTorchFunction():
            tensors = tensors_in(raw, torch.is_tensor)
            return self._ended(
                self._paths[id(module)], kind_of(module), raw, tensors, self._held[id(module)], vars(module)
            )

    def wants_functions(self) -> bool:
        """Whether the functions of the module that runs now are recorded."""
        return bool(self._open) and (self._open[-1][1] == LOSS or self._inside(self._open[-1][1]))

    def function(self, name: str, given: Mapping[str, Any]) -> None:
        """A function is entered."""
        tensors = {n: t for n, t in tensors_in(given, torch.is_tensor).items() if id(t) not in self._canonical}
        self._open.append((self._next(), self._open[-1][1], self._taken(tensors)))

    def function_ended(self, name: str, given: Mapping[str, Any], raw: Any) -> Any:
        """The function that was entered last has returned; gives what the caller shall see."""
        tensors = tensors_in(raw, torch.is_tensor)
        if not tensors:
            self._open.pop()
            return raw
        used = [self._canonical.get(id(t)) for t in tensors_in(given, torch.is_tensor).values()]
        held = tuple(path for path in used if path)
        return self._ended(self._open[-1][1], name, raw, tensors, held, given, function=True)

    def function_failed(self) -> None:
        """The function that was entered last has raised."""
        self._open.pop()

    def _ended(
        self,
        path: str,
        kind: str,
        raw: Any,
        tensors: Mapping[str, torch.Tensor],
        held: tuple[str, ...],
        settings: Mapping[str, Any] | None = None,
        function: bool = False,
    ) -> Any:
        index, _, inputs = self._open.pop()
        key = (path, kind if function else "")
        self._numbers[key] = self._numbers.get(key, 0) + 1
        call = Call(
            index=index,
            parent=self._open[-1][0] if self._open else None,
            path=path,
            kind=kind,
            number=self._numbers[key],
            inputs=inputs,
            outputs=self._taken(tensors),
            parameters=held,
            settings=plain(settings or {}),
            function=function,
        )
        self.made.append(call)
        others = self._swap(call) if self._swap else None
        if others is None:
            self.tensors[index] = dict(tensors)
            return raw if function else None
        made = {name: torch.from_numpy(np.array(array)).to(tensors[name]) for name, array in others.items()}
        return replaced(raw, made, torch.is_tensor)

    def gradients(self, total: torch.Tensor) -> dict[int, Mapping[str, Any]]:
        """Index of a call -> gradient of `total` with respect to each of its outputs, where there is one."""
        wanted = [(i, name, t) for i, named in self.tensors.items() for name, t in named.items() if t.requires_grad]
        if not wanted or not total.requires_grad:
            return {}
        found = torch.autograd.grad(total, [t for _, _, t in wanted], allow_unused=True)
        by_call: dict[int, dict[str, Any]] = {}
        for (index, name, _), gradient in zip(wanted, found, strict=True):
            if gradient is not None:
                by_call.setdefault(index, {})[name] = to_numpy(gradient)
        return dict(by_call)


class _Functions(TorchFunctionMode):
    """Shows a `Watch` every function that is called on tensors."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func` and record it."""
        kwargs = kwargs or {}
        name = _name(func)
        if name in _SILENT or not self._watch.wants_functions():
            return func(*args, **kwargs)
        given = {str(i): a for i, a in enumerate(args)} | kwargs
        self._watch.function(name, given)
        try:
            raw = func(*args, **kwargs)
        except BaseException:
            self._watch.function_failed()
            raise
        return self._watch.function_ended(name, given, raw)


def _name(func: Any) -> str:
    """ "softmax"; of a property such as Tensor.T the property's name; of an operator the function behind it."""
    name = getattr(func, "__name__", type(func).__name__)
    if name in ("__get__", "__set__"):
        return getattr(func.__self__, "__name__", name) if name == "__get__" else name
    return name.strip("_") if name.startswith("__") else name
