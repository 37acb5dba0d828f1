"""The reference of a run: a live side, or a recording of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ..frameworks.protocol import Runner
from ..numerics.distributions import Distribution
from ..records.inventory import Holdings, Inventory
from ..records.trace import State
from .lockstep import ReferenceStep


@dataclass(frozen=True)
class Reference:
    """The reference of a run, live or recorded.

    Attributes:
        inventory: of the side.
        initial: state before the first step.
        steps: its steps.
        unmapped_slots: returns the optimizer slots without a known role, after a step.
        promises: path -> promised initial distribution of a parameter.
        runner: the live side; None for a recording.
        holdings: parameters of its optimizer.
    """

    inventory: Inventory
    initial: State
    steps: Iterator[ReferenceStep]
    unmapped_slots: Callable[[], list[str]]
    promises: Mapping[str, Distribution]
    runner: Runner | None = None
    holdings: Holdings | None = None
