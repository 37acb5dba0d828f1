"""Functions of a pair take the arguments that they are called with: checked before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import PairError

ASKED = ("model", "named_parameters")
"""Names of parameters for which an optimizer or a step gets the model, or its named parameters."""

TORCH_CALLS = {
    "loss": "outputs, targets",
    "optimizer": "parameters",
    "penalty": "model",
    "prepare": "batch",
    "step": "model, optimizer, batch",
    "after_step": "model",
    "outputs": "raw",
}
"""Functions of a side, and the arguments that they are called with."""


def check_callables(kind: str, side: Any, calls: Mapping[str, str]) -> None:
    """Raises PairError if a function of a side is none, or does not take its arguments."""
    for name, arguments in calls.items():
        value = getattr(side, name)
        if value is not None and not callable(value):
            raise PairError(
                f"{kind}.{name} is not callable.",
                numbers=f"got {type(value).__name__}: {value!r:.80}",
                todo=f"pass a function: def {name}({arguments})",
            )
        if value is not None:
            check_arguments(f"{kind}.{name}", value, arguments)


def check_arguments(name: str, function: Callable[..., Any], arguments: str) -> None:
    """Raises PairError if a function takes fewer arguments than it is given, or needs more."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a function of C has no signature
        return
    usual = arguments.split(", ") if arguments else []
    own = [p for i, p in enumerate(parameters) if (i < len(usual) and p.name in usual) or p.name not in ASKED]
    taken = [p for p in own if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in taken if p.default is p.empty]
    few = len(taken) < len(usual) and len(own) == len(parameters) and all(p.kind != p.VAR_POSITIONAL for p in own)
    if few or len(needed) > len(usual):
        raise PairError(
            f"{name} takes the wrong number of arguments.",
            numbers=f"xcheck calls it with ({arguments}); it is defined with {inspect.signature(function)}",
            todo=f"define it as: def {name.rpartition('.')[2]}({arguments})",
        )
