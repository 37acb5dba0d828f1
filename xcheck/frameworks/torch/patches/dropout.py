"""PyTorch without dropout: no two frameworks draw alike, so it is switched off, and its rates are what is compared."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_DROPOUTS = {
    F.dropout,
    F.alpha_dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.feature_alpha_dropout,
    torch.dropout,
    torch.alpha_dropout,
    torch.feature_dropout,
    torch.feature_alpha_dropout,
}


class DropoutOff(TorchFunctionMode):
    """While active, dropout hands its input on and its rate is kept.

    Attributes:
        rates: of the calls so far that would have dropped something, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`, without dropout."""
        kwargs = kwargs or {}
        if func in _DROPOUTS:
            self._keep(*args, **kwargs)
            return args[0] if args else kwargs["input"]
        if kwargs.get("dropout_p"):
            self.rates.append(float(kwargs["dropout_p"]))
            kwargs = {**kwargs, "dropout_p": 0.0}
        return func(*args, **kwargs)

    def _keep(self, input: Any, p: float = 0.5, training: bool = True, *_: Any, **__: Any) -> None:
        if training and p > 0:
            self.rates.append(float(p))
