"""PyTorch without dropout: no two frameworks draw alike, so it is switched off, and its rates are what is compared."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ...drawing import STAND_IN, Noise, drawn_by, noise_of
from ...passes import Drops

_DROPOUTS = {
    F.dropout,
    F.alpha_dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.feature_alpha_dropout,
    torch.dropout,
    torch.dropout_,
    torch.alpha_dropout,
    torch.alpha_dropout_,
    torch.feature_dropout,
    torch.feature_dropout_,
    torch.feature_alpha_dropout,
    torch.feature_alpha_dropout_,
}
_WHOLE_CHANNELS = {
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.feature_alpha_dropout,
    torch.feature_dropout,
    torch.feature_dropout_,
    torch.feature_alpha_dropout,
    torch.feature_alpha_dropout_,
}
_UNBATCHED = {F.dropout1d: 2, F.dropout3d: 4}
"""Functions that take an input of so many axes as one example."""

_ATTENTION = F.scaled_dot_product_attention
_RECURRENT = {torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu}
_ASK_FOR_MODES = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


class DropoutOff(TorchFunctionMode):
    """While active, `STAND_IN` takes the place of dropout and its rate is kept; all else that draws is noted.

    Attributes:
        drops: the calls so far that would have dropped something; one for each tensor that is dropped.
        draws: what drew all the same, in order: "layer: function".

    Args:
        name_of: path of a module.
    """

    def __init__(self, name_of: Callable[[Any], str | None] = lambda _: None) -> None:
        super().__init__()
        self.name_of = name_of
        self.drops = Drops()
        self.draws: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`, without dropout."""
        kwargs = kwargs or {}
        if func in _DROPOUTS:
            return self._dropped(func, *args, **kwargs)
        if func is _ATTENTION:
            return self._attention(*args, **kwargs)
        if func in _RECURRENT:
            args = self._recurrent(args)
        elif torch.compiler.is_compiling():
            pass  # torch.compile cannot trace what follows; what draws behind it is missing among the rates
        elif isinstance(func, FunctionType) and _calls_what_draws(func):
            # PyTorch calls a function of its own with this mode taken off, so what that calls in turn is not seen.
            with self:
                return _body(func)(*args, **kwargs)
        elif _draws(name := getattr(func, "__name__", "")):
            self.draws.append(drawn_by(torch.nn.Module, name.strip("_"), self.name_of))
        return func(*args, **kwargs)

    def _keep(self, rate: float, training: bool, noise: Noise | None) -> bool:
        if not training or rate <= 0:
            return False
        self.drops.add(rate, noise, torch.is_grad_enabled())
        return True

    def _dropped(
        self,
        func: Any,
        input: Any,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
        *,
        train: bool = True,  # as the functions of `torch` itself call it
    ) -> Any:
        name, shape = func.__name__, tuple(input.shape)
        channels = 1 if len(shape) == _UNBATCHED.get(func) else 2
        mask = (*shape[:channels], *(1 for _ in shape[channels:])) if func in _WHOLE_CHANNELS else shape
        if not self._keep(p, training and train, noise_of(shape, mask)) or not STAND_IN.scales:
            return input
        made = STAND_IN.of(input, p, "alpha" in name)
        return input.copy_(made) if inplace or name.endswith("_") else made

    def _attention(
        self, query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, *rest: Any, **more: Any
    ) -> Any:
        drops = self._keep(dropout_p, True, noise_of((*query.shape[:-1], key.shape[-2])))
        made = _ATTENTION(query, key, value, attn_mask, 0.0, *rest, **more)
        return STAND_IN.of(made, dropout_p) if drops else made

    def _recurrent(self, args: Any) -> Any:
        """(..., has biases, layers, rate, training, bidirectional[, batch first]): the rate holds between layers."""
        at = next((i for i in range(len(args) - 1, 0, -1) if type(args[i]) is float), None)
        if at is None:
            return args
        layers, rate, training = args[at - 1 : at + 2]
        for _ in range(layers - 1):
            self._keep(rate, training, None)
        return (*args[:at], 0.0, *args[at + 1 :])


@cache
def _draws(name: str) -> bool:
    """Whether PyTorch marks an operation of this name as one that draws random numbers."""
    packet = getattr(torch.ops.aten, name, None) if name.isidentifier() and not name.startswith("__") else None
    overloads = packet.overloads() if packet is not None and hasattr(packet, "overloads") else ()
    return any(torch.Tag.nondeterministic_seeded in getattr(packet, overload).tags for overload in overloads)


@cache
def _calls_what_draws(function: FunctionType) -> bool:
    """Whether a function of PyTorch draws by what it calls, and asks for modes by names that `_body` can replace.

    The initializers of `torch.nn.init` ask by `torch.overrides.has_torch_function`; none of them belongs to a pass.
    """
    asks = any(name in function.__globals__ for name in _ASK_FOR_MODES)
    return asks and any(map(_draws, function.__code__.co_names))


@cache
def _body(function: FunctionType) -> Any:
    """A function of PyTorch that asks no mode for itself; what it calls does."""
    around = dict(function.__globals__)
    around |= {name: lambda *_: False for name in _ASK_FOR_MODES if name in around}
    made = FunctionType(function.__code__, around, function.__name__, function.__defaults__, function.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    return made
