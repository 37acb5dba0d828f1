"""PyTorch in float64 throughout: casts to a narrower float are kept in float64 and listed."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..islands import Islands

NARROW = (torch.float32, torch.bfloat16, torch.float16)
_GRAD_SCALER = "torch.amp.grad_scaler"
_CASTS = {
    torch.Tensor.float: "Tensor.float()",
    torch.Tensor.half: "Tensor.half()",
    torch.Tensor.bfloat16: "Tensor.bfloat16()",
}


class Float64Throughout(TorchFunctionMode):
    """While active, whatever asks for a narrow float by name gets float64.

    Args:
        islands: told of every such place.
    """

    def __init__(self, islands: Islands) -> None:
        super().__init__()
        self._islands = islands

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`, in float64."""
        kwargs = kwargs or {}
        named = any(a in NARROW for a in args if isinstance(a, torch.dtype)) or kwargs.get("dtype") in NARROW
        if (named or func in _CASTS) and _in_grad_scaler():
            return func(*args, **kwargs)
        if func in _CASTS and args[0].dtype not in NARROW:
            self._islands.add(_CASTS[func])
            return args[0] if args[0].dtype == torch.float64 else args[0].double()
        if named:
            if not (args and isinstance(args[0], torch.Tensor) and args[0].dtype in NARROW):
                self._islands.add(f"{getattr(func, '__name__', func)}(dtype={_asked(args, kwargs)})")
            args = tuple(torch.float64 if isinstance(a, torch.dtype) and a in NARROW else a for a in args)
            if kwargs.get("dtype") in NARROW:
                kwargs = {**kwargs, "dtype": torch.float64}
        exact = _EXACT.get(func)
        if exact is not None and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64:
            self._islands.add(f"constants of {func.__name__}")
            return exact(*args, **kwargs)
        return func(*args, **kwargs)


def _in_grad_scaler() -> bool:
    """Whether `torch.amp.GradScaler` is asking: its kernels take the scale in float32, where its powers of two are
    exact."""
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and frame.f_code.co_name == "__torch_function__":  # of modes that are active besides
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") == _GRAD_SCALER


def _hardsigmoid(input: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    return F.relu6(input + 3.0) / 6.0


def _celu(input: torch.Tensor, alpha: float = 1.0, inplace: bool = False) -> torch.Tensor:
    return torch.where(input > 0, input, alpha * torch.expm1(torch.clamp(input, max=0.0) / alpha))


# PyTorch's kernels on the CPU keep the constants of these in float32, in their backward pass at least.
_EXACT: dict[Any, Any] = {F.hardsigmoid: _hardsigmoid, F.celu: _celu, torch.celu: _celu}


def _asked(args: Any, kwargs: Any) -> str:
    asked = next((a for a in args if isinstance(a, torch.dtype) and a in NARROW), kwargs.get("dtype"))
    return str(asked).removeprefix("torch.")
