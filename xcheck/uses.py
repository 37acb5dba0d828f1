"""What each use of a parameter contributes to its gradient, under names that both frameworks can be asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from .trace import Array

PENALTY, LOSS = "penalty", "loss"
"""Names of the uses outside of every layer."""


@dataclass(frozen=True, slots=True)
class Touch:
    """One place where a parameter's value enters the computation.

    Attributes:
        parameter: its canonical path.
        owner: path of the innermost layer that is being called, or `PENALTY` or `LOSS`.
        call: number of that call of the layer, from 1; 0 outside of every layer.
        gradient: of the total loss through this place alone; None where nothing comes back.
        shape: of the parameter.
    """

    parameter: str
    owner: str
    call: int
    gradient: Array | None
    shape: tuple[int, ...]


def uses_of(touches: Iterable[Touch], tied: Collection[str]) -> dict[str, dict[str, Array]]:
    """Parameter -> name of the use -> gradient through that use, in the order of the forward pass.

    A call of a layer is one use, or as many as it has places where a gradient comes back. A call that reads the
    parameter though no gradient comes back is a use of gradient zero; outside of every layer it is none, since there
    is more than the loss that reads a parameter.

    Args:
        touches: in the order of the forward pass.
        tied: parameters that are reported though they have a single use.

    Returns:
        The parameters that are tied or have several uses.
    """
    calls: dict[str, dict[tuple[str, int], list[Touch]]] = {}
    for touch in touches:
        if touch.call or touch.gradient is not None:
            calls.setdefault(touch.parameter, {}).setdefault((touch.owner, touch.call), []).append(touch)
    found = {parameter: _named(by_call) for parameter, by_call in calls.items()}
    return {parameter: uses for parameter, uses in found.items() if len(uses) > 1 or parameter in tied}


def _named(calls: Mapping[tuple[str, int], list[Touch]]) -> dict[str, Array]:
    uses: dict[str, Array] = {}
    for (owner, call), touches in calls.items():
        gradients = [t.gradient for t in touches if t.gradient is not None and t.gradient.any()]
        gradients = gradients or [np.zeros(touches[0].shape)]
        for number, gradient in enumerate(gradients, 1):
            words = [f"call {call}"] if call else []
            words += [f"use {number}"] if len(gradients) > 1 else []
            uses[f"{owner} ({', '.join(words)})" if words else owner] = gradient
    return uses
