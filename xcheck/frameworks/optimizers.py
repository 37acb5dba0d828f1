"""What the sides ask of the optimizers of either framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def is_known(optimizer: Any, framework: str) -> bool:
    """Whether an optimizer is of a class of the framework's own or of `xcheck.optim`, so that its slots are known.

    Args:
        optimizer: of a side.
        framework: how the names of the framework's own modules start.
    """
    return type(optimizer).__module__.startswith((framework, "xcheck.optim."))


def facts_of_all(optimizers: Sequence[Any], facts: Callable[[Any], Mapping[str, Any]]) -> Mapping[str, Any]:
    """What the optimizers of a side say of themselves: of those that say the same, once; else the names of all.

    Args:
        optimizers: of the side.
        facts: of one of them, or of None.
    """
    every = [facts(optimizer) for optimizer in optimizers] or [facts(None)]
    if all(one == every[0] for one in every):
        return every[0]
    names = ", ".join(one["optimizer"] for one in every)
    return {"optimizer": names, "optimizer_kind": names, "optimizer_settings": {}, "schedule": []}
