"""Optimizers for PyTorch with Keras's formulas."""

from __future__ import annotations

from .optimizers import KerasAdagrad as KerasAdagrad
from .optimizers import KerasAdam as KerasAdam
from .optimizers import KerasAdamax as KerasAdamax
from .optimizers import KerasAdamW as KerasAdamW
from .optimizers import KerasNadam as KerasNadam
from .optimizers import KerasRMSprop as KerasRMSprop
from .optimizers import KerasSGD as KerasSGD
