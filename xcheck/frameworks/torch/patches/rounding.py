"""PyTorch with every rounded result off by one more rounding error: stochastic arithmetic, operation by operation.

The twins of a step run so; `tolerance.py` says what is made of them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ...tree import replaced, tensors_in
from ..hooks import Hook

_EXACT = """
abs adaptive_max_pool2d adaptive_max_pool3d amp_foreach_non_finite_check_and_unscale amp_update_scale amax amin
bernoulli cat ceil clamp clamp_max clamp_min clone complex conj_physical constant_pad_nd copy copysign cummax cummin
diag_embed embedding exponential fill flip floor fmax fmin fractional_max_pool2d fractional_max_pool3d frac gather
geometric hardshrink hardtanh hardtanh_backward heaviside histc im2col index index_copy index_fill index_select kthvalue
masked_fill masked_scatter masked_select max maximum max_pool2d_with_indices max_pool3d_with_indices median min
minimum mode msort nan_to_num nanmedian neg normal pixel_shuffle pixel_unshuffle put rand rand_like randn_like random
reflection_pad1d reflection_pad2d reflection_pad3d relu repeat repeat_interleave replication_pad1d replication_pad2d
replication_pad3d resize roll round scatter select_backward select_scatter set sgn sign slice_backward slice_scatter
sort stack take threshold threshold_backward topk tril triu trunc uniform upsample_nearest1d upsample_nearest2d
upsample_nearest3d where zero
"""
EXACT = frozenset(_EXACT.split())
"""Operations that choose, move or round to whole numbers: what comes out is exact, whatever computes it."""

_COUNTING = """
add addbmm addmm baddbmm bmm cumprod cumsum div dot floor_divide fmod index_add index_put linear mm mul mv pow prod
remainder rsub scatter_add scatter_reduce square sub sum
"""
COUNTING = frozenset(_COUNTING.split())
"""Operations that are exact where they make whole numbers of whole numbers. Code counts in floating point, and makes
an index or a length of it, which one rounding error would move by one."""

POOL = 1 << 21
"""Random signs that are drawn once per process. Each use takes them from a random place on, which costs less than
drawing them, and two uses that meet at one place are unlikely."""

ADDED = {"gelu": 0, "gelu_backward": 0, "_log_softmax": None, "logsumexp": None}
"""Operations that compute 1 + x inside, for a small x: operation -> the argument that the sum is multiplied by, None
for a factor of one. They are off by a rounding error of that, however small what comes out is."""


@contextmanager
def rounding(model: torch.nn.Module, dtype: torch.dtype, rng: np.random.Generator) -> Generator[None]:
    """As `Runner.rounding`, of numbers of this type.

    The loss sees the outputs off by one more rounding error than the model does on the way back. In the reference the
    two may cancel, as in p (1 - p) / (1 - p); the other side may take each from a rounding of its own.
    """

    def rounded(_module: torch.nn.Module, _args: Any, raw: Any) -> Any:
        with torch._C.DisableTorchFunction():  # no function of the model's own, for those who watch them
            every = tensors_in(raw, torch.is_tensor)
            floats = {n: t for n, t in every.items() if t.dtype == dtype and t.numel()}
            mode.idle = True
            errors = {name: mode.errors(tensor) for name, tensor in floats.items()}
            moved = {name: floats[name] + bounded * (2 * by) for name, (bounded, by) in errors.items()}
            mode.idle = False
            return replaced(raw, moved, torch.is_tensor)

    mode = _Rounding(dtype, int(rng.integers(2**62)))
    handle = torch.nn.Module.register_forward_hook(model, Hook(rounded))
    try:
        with mode:
            yield
    finally:
        handle.remove()


class _Rounding(TorchDispatchMode):
    """Moves what each operation writes, below autograd, so that what is kept for the way back is moved as well."""

    def __init__(self, dtype: torch.dtype, seed: int) -> None:
        super().__init__()
        self.idle = False
        self._dtypes = {dtype, dtype.to_complex()}
        self._eps = torch.finfo(dtype).eps
        self._places = random.Random(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, written, fresh = _writes(func)
        still = self.idle or not (written or fresh) or _exact(name, args, kwargs)
        counts = not still and name in COUNTING and _whole((args, kwargs))  # before the arguments are written to
        made = func(*args, **kwargs)
        if still or (counts and _whole((args, kwargs, made))):
            return made
        given = [kwargs[key] if key in kwargs else args[at] for at, key in written if key in kwargs or at < len(args)]
        added = args[ADDED[name]] if ADDED.get(name) is not None else 1.0
        for tensor in _tensors([given, made if fresh else None]):
            if tensor.dtype in self._dtypes and tensor.layout == torch.strided and tensor.numel():
                self._move(tensor, added if name in ADDED else None)
        return made

    def _move(self, tensor: torch.Tensor, added: Any) -> None:
        tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        # A count is exact. Single numbers in an optimizer are made of its settings, alike on both sides: to round
        # 0.999 anew before it is taken from 1 would cost three digits that neither side loses.
        if not tensor.ndim and (not torch.is_grad_enabled() or float(tensor).is_integer()):
            return
        bounded, by = self.errors(tensor)
        if added is None:
            tensor.addcmul_(bounded, by)  # rounded again: the next number of the type, or the last
        elif isinstance(added, torch.Tensor):
            tensor.addcmul_(by, added, value=2)
        else:
            tensor.add_(by, alpha=2 * added)

    def errors(self, tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the errors are relative to, and half of eps, up or down.

        A mask of infinity, or of the least number of the type, stays as it is. A number of size one goes down alone: a
        loss may hold probabilities to a range.
        """
        pool, pieces, left = _half_eps(tensor.dtype, tensor.device), list[torch.Tensor](), tensor.numel()
        while left:
            count = min(left, POOL // 2)
            start = self._places.randrange(POOL - count)
            pieces.append(pool[start : start + count])
            left -= count
        by = (torch.cat(pieces) if len(pieces) > 1 else pieces[0]).view(tensor.shape)
        least, most = torch.aminmax(tensor.detach())
        size, largest = max(-float(least), float(most)), torch.finfo(tensor.dtype).max / 4
        if not size < 1:  # or NaN, and so below
            by = by.masked_fill(tensor.detach().abs() == 1, -self._eps / 2)
        return tensor if size <= largest else tensor.clamp(-largest, largest), by


@cache
def _half_eps(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Half of eps, up or down at random, as often as `POOL`; read-only."""
    with torch.inference_mode(False):
        generator = torch.Generator(device).manual_seed(POOL)
        signs = torch.randint(2, (POOL,), generator=generator, dtype=dtype, device=device)
        return signs.sub_(0.5).mul_(torch.finfo(dtype).eps)


@cache
def _writes(func: Any) -> tuple[str, tuple[tuple[int, str], ...], bool]:
    """The name of an operation, the places of the arguments that it writes to, and whether it makes tensors anew."""
    schema = func._schema
    written = tuple(
        (at, argument.name)
        for at, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )
    fresh = any(made.alias_info is None for made in schema.returns)
    takes = any("Tensor" in str(argument.type) for argument in schema.arguments)
    name = schema.name.partition("::")[2]
    name = name if name in ADDED else name.strip("_").removeprefix("foreach_").removeprefix("unsafe_")
    return name, written if takes else (), fresh and takes


def _exact(name: str, args: Any, kwargs: Any) -> bool:
    if name == "index_put":
        return not (kwargs.get("accumulate") or (len(args) > 3 and args[3]))
    if name in ("mul", "div") and any(map(_power_of_two, args)):  # a scaled loss is scaled back to the last digit
        return True
    return name in EXACT or name.endswith(("_copy", "_like")) or name.startswith(("empty", "new_", "to_copy", "copy_"))


def _power_of_two(value: Any) -> bool:
    if isinstance(value, torch.Tensor) and not value.ndim:
        value = value.item()
    return isinstance(value, int | float) and value != 0 and math.frexp(value)[0] in (-0.5, 0.5)


def _whole(values: Any) -> bool:
    """All floating-point numbers in it are whole."""
    if isinstance(values, torch.Tensor):
        if not values.dtype.is_floating_point or not values.numel():
            return not values.dtype.is_complex
        if values.layout != torch.strided or not float(values[(0,) * values.ndim]).is_integer():
            return False
        return bool((values == values.round()).all())
    if isinstance(values, float):
        return values.is_integer()
    if isinstance(values, Mapping):
        values = values.values()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return not isinstance(values, complex) and (not isinstance(values, Iterable) or all(map(_whole, values)))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
