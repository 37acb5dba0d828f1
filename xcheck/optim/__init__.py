"""Optimizers of one framework that follow the other framework's formulas.

```
xcheck.optim.torch   torch.optim.Optimizer subclasses with Keras's formulas: KerasSGD, KerasAdam, ...
xcheck.optim.keras   keras.optimizers.Optimizer subclasses with PyTorch's formulas: TorchSGD, TorchAdam, ...
```

So a port can keep the optimizer of the original setup: train in PyTorch with Keras's Adam, or in Keras with
PyTorch's. Every class is also available here by name. The first use of a name imports only the framework that it
needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import keras, torch
    from .keras import TorchAdagrad, TorchAdam, TorchAdamax, TorchAdamW, TorchNadam, TorchRMSprop, TorchSGD
    from .torch import KerasAdagrad, KerasAdam, KerasAdamax, KerasAdamW, KerasNadam, KerasRMSprop, KerasSGD

__all__ = [
    "KerasAdagrad",
    "KerasAdam",
    "KerasAdamW",
    "KerasAdamax",
    "KerasNadam",
    "KerasRMSprop",
    "KerasSGD",
    "TorchAdagrad",
    "TorchAdam",
    "TorchAdamW",
    "TorchAdamax",
    "TorchNadam",
    "TorchRMSprop",
    "TorchSGD",
    "keras",
    "torch",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("keras", "torch"):
        return importlib.import_module(f".{name}", __name__)
    module = ".torch" if name.startswith("Keras") else ".keras"
    return getattr(importlib.import_module(module, __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
