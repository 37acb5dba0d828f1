"""PyTorch in float64 throughout: casts to a narrower float are kept in float64 and listed."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ....records.islands import Islands
from ..variables import seen

NARROW = (torch.float32, torch.bfloat16, torch.float16)
_AS_ASKED = ("torch.amp.grad_scaler", "torch._utils")
"""Modules that are given the dtype they ask for: the kernels of `GradScaler` take the scale in float32, where its
powers of two are exact, and what `torch.load` puts together again are the bytes of a file."""
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
        if (named or func in _CASTS) and (_of_bytes(func, args) or _asked_as_is()):
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
        wider = _WITHOUT_FLOAT64.get(func)
        if wider is not None and args[0].dtype == torch.float64:
            return wider(*args, **kwargs)
        if any(map(_is_float32, _flat(args, kwargs))) and _widens(func, args, kwargs):
            args, kwargs = self._entering(func, args, kwargs)
        return func(*args, **kwargs)

    def _entering(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """The arguments, their numbers of float32 noted, and moved while that is asked for."""
        name = getattr(func, "__name__", str(func))
        in_place = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))

        def noted(value: Any) -> Any:
            if isinstance(value, tuple | list):
                items: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType]
                return type(value)(map(noted, items)) if any(map(_is_float32, items)) else value  # pyright: ignore
            if not _is_float32(value):
                return value
            numbers = seen(value) if isinstance(value, torch.Tensor) else np.asarray(value)
            factors = self._islands.enter(name.strip("_"), numbers)
            if factors is None:
                return value
            if isinstance(value, torch.Tensor):
                return value.double() * torch.from_numpy(np.asarray(factors)).to(value.device)
            moved = numbers.astype(np.float64) * factors
            return moved if numbers.ndim else float(moved)

        first = args[:1] if in_place else tuple(map(noted, args[:1]))
        rest = {key: value if key == "out" else noted(value) for key, value in kwargs.items()}
        return (*first, *map(noted, args[1:])), rest


def _flat(args: Any, kwargs: Any) -> list[Any]:
    """The arguments, and what is in lists and tuples among them."""
    found: list[Any] = []
    for value in (*args, *kwargs.values()):
        found += value if isinstance(value, tuple | list) else [value]
    return found


def _is_float32(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.dtype == torch.float32
    return isinstance(value, np.ndarray | np.generic) and value.dtype == np.float32


def _widens(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether float32 among the arguments becomes float64, by its company or because it is asked for."""
    if func is torch.Tensor.double:
        return True
    flat = _flat(args, kwargs)
    return any(v is torch.float64 or (isinstance(v, torch.Tensor) and v.dtype == torch.float64) for v in flat)


def _of_bytes(func: Any, args: Any) -> bool:
    """Whether a dtype says what bytes in memory or in a file are, and not in which precision to compute."""
    if func is torch.asarray:
        return not isinstance(args[0], torch.Tensor | np.ndarray | np.generic | list | tuple | bool | int | float)
    return func in (torch.Tensor.view, torch.from_file)


def _asked_as_is() -> bool:
    """Whether one of the modules is asking that get what they ask for."""
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and frame.f_code.co_name == "__torch_function__":  # of modes that are active besides
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") in _AS_ASKED


def _hardsigmoid(input: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    return F.relu6(input + 3.0) / 6.0


def _celu(input: torch.Tensor, alpha: float = 1.0, inplace: bool = False) -> torch.Tensor:
    return torch.where(input > 0, input, alpha * torch.expm1(torch.clamp(input, max=0.0) / alpha))


# PyTorch's kernels on the CPU keep the constants of these in float32, in their backward pass at least.
_EXACT: dict[Any, Any] = {F.hardsigmoid: _hardsigmoid, F.celu: _celu, torch.celu: _celu}


def _grouped_mm(input: torch.Tensor, weight: torch.Tensor, offs: torch.Tensor, **_: Any) -> torch.Tensor:
    """Rows of the input, group by group, by the weight of each: what mixtures of experts compute."""
    ends: list[int] = offs.tolist()
    rows = zip([0, *ends[:-1]], ends, weight, strict=True)
    made = [input[start:end] @ of for start, end, of in rows]
    return torch.cat([*made, input.new_zeros(len(input) - ends[-1], weight.shape[-1])])


_WITHOUT_FLOAT64: dict[Any, Any] = {
    getattr(place, name): _grouped_mm
    for place, name in ((F, "grouped_mm"), (torch, "_grouped_mm"))
    if hasattr(place, name)
}
"""Functions of which PyTorch has no kernel for float64."""


def _asked(args: Any, kwargs: Any) -> str:
    asked = next((a for a in args if isinstance(a, torch.dtype) and a in NARROW), kwargs.get("dtype"))
    return str(asked).removeprefix("torch.")
