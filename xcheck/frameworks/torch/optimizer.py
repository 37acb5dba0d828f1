"""What a PyTorch optimizer says of itself, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ...records.inventory import UPDATE_COUNTS
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


def rates(optimizer: torch.optim.Optimizer | None) -> dict[int, float]:
    """The learning rate after each number of updates of `UPDATE_COUNTS`; nothing where other code may set it.

    Args:
        optimizer: of the side, without a scheduler.
    """
    schedule = vars(optimizer).get("_schedule") if optimizer is not None else None
    if schedule is not None:
        return {n: float(schedule(n)) for n in UPDATE_COUNTS}
    known = optimizer is not None and type(optimizer).__module__.startswith(("torch.optim.", "xcheck.optim."))
    if optimizer is None or not known or _hooked(optimizer):
        return {}
    groups = optimizer.param_groups
    found = {float(group["lr"]) for group in groups}
    decays = any(group.get("lr_decay") or "lambd" in group for group in groups)  # Adagrad and ASGD have their own
    return {} if decays or len(found) != 1 else dict.fromkeys(UPDATE_COUNTS, found.pop())


def _hooked(optimizer: torch.optim.Optimizer) -> bool:
    """Whether code of the user runs before or after each step; what watches the step is our own."""
    hooks = (*optimizer._optimizer_step_pre_hooks.values(), *optimizer._optimizer_step_post_hooks.values())
    return any(not hook.__module__.startswith("xcheck.") for hook in hooks)
