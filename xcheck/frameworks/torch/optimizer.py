"""What a PyTorch optimizer says of itself, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..protocol import SCHEDULED, known_kind


def facts(optimizer: torch.optim.Optimizer | None) -> Mapping[str, Any]:
    """Its class, the nearest class of PyTorch's own or of `xcheck.optim`, its numbers and its learning rates to come.

    Args:
        optimizer: of the side; None where nothing trains.
    """
    return {
        "optimizer": type(optimizer).__name__,
        "optimizer_kind": known_kind(optimizer, ("torch.optim.", "xcheck.optim.")),
        "optimizer_settings": _settings(optimizer),
        "schedule": _schedule(optimizer),
    }


def _settings(optimizer: torch.optim.Optimizer | None) -> dict[str, Any]:
    """The numbers of the first parameter group, PyTorch's pair of betas as two; and the clipping of our followers."""
    if optimizer is None:
        return {}
    group = {**optimizer.defaults, **optimizer.param_groups[0], **vars(optimizer).get("_clipping", {})}
    if isinstance(group.get("betas"), tuple | list):
        group |= dict(zip(("beta_1", "beta_2"), group["betas"], strict=True))
    return {name: value for name, value in group.items() if isinstance(value, int | float)}


def _schedule(optimizer: torch.optim.Optimizer | None) -> list[float]:
    """Learning rates of the first steps, where it has a function for them."""
    schedule = vars(optimizer).get("_schedule") if optimizer is not None else None
    return [float(schedule(taken)) for taken in range(SCHEDULED)] if schedule is not None else []
