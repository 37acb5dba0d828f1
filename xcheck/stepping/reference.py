"""The reference's half of a run: a live side, or a recording of one."""

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
    """The reference's half of a run, live or recorded.

    Attributes:
        inventory: of the side.
        initial: state before the first step.
        steps: what it does, step by step.
        unmapped_slots: optimizer slots without a known role, asked after a step.
        promises: path -> distribution that a parameter is said to start from.
        runner: to look into; None for a recording.
        holdings: what its optimizer was given to train.
    """

    inventory: Inventory
    initial: State
    steps: Iterator[ReferenceStep]
    unmapped_slots: Callable[[], list[str]]
    promises: Mapping[str, Distribution]
    runner: Runner | None = None
    holdings: Holdings | None = None
