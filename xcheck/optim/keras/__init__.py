"""Optimizers for Keras with PyTorch's formulas."""

from __future__ import annotations

from .optimizers import TorchAdagrad as TorchAdagrad
from .optimizers import TorchAdam as TorchAdam
from .optimizers import TorchAdamax as TorchAdamax
from .optimizers import TorchAdamW as TorchAdamW
from .optimizers import TorchNadam as TorchNadam
from .optimizers import TorchRMSprop as TorchRMSprop
from .optimizers import TorchSGD as TorchSGD
