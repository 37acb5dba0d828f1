"""Questions about optimizers, common to both frameworks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def is_known(optimizer: Any, framework: str) -> bool:
    """Whether an optimizer is of a class of the framework's own or of `xcheck.optim`, so that its slots are known.

    Args:
        optimizer: of a side.
        framework: prefix of the framework's module names.
    """
    return type(optimizer).__module__.startswith((framework, "xcheck.optim."))


def facts_of_all(optimizers: Sequence[Any], facts: Callable[[Any], Mapping[str, Any]]) -> Mapping[str, Any]:
    """The facts about the optimizers of a side: once if all are equal; else only their names.

    Args:
        optimizers: of the side.
        facts: of one of them, or of None.
    """
    all_facts = [facts(optimizer) for optimizer in optimizers] or [facts(None)]
    if all(each == all_facts[0] for each in all_facts):
        return all_facts[0]
    names = ", ".join(each["optimizer"] for each in all_facts)
    return {"optimizer": names, "optimizer_kind": names, "optimizer_settings": {}, "schedule": []}
