"""Records of both sides -> checks, one function per phase. NumPy alone; no framework is asked anything."""

from __future__ import annotations

from collections.abc import Callable

from ...matching import MatchPlan
from ...records.result import Check
from ...stepping.lockstep import StepPair
from ..averages import average_notes as average_notes
from ..averages import overwriting as overwriting
from ..repeats import repeat_checks as repeat_checks
from ..repeats import trusted as trusted
from ..ties.checks import holding_checks as holding_checks
from ..ties.checks import synced_ties as synced_ties
from ..ties.checks import tie_checks
from . import loss, step
from .export import export_checks as export_checks
from .initialization import initialization_checks as initialization_checks
from .initialization import transferred as transferred
from .modes import mode_checks as mode_checks
from .persistence import persistence_checks as persistence_checks
from .persistence import persistence_notes as persistence_notes
from .persistence import stopped as stopped
from .setup import inventory_checks as inventory_checks
from .setup import sync_checks as sync_checks
from .step import silent_gradients as silent_gradients
from .step import trajectory_checks as trajectory_checks
from .step import zero_gradients as zero_gradients
from .uses import unsplit as unsplit
from .uses import use_checks

Compare = Callable[[MatchPlan, StepPair, str], list[Check]]


def _each(*parts: Compare) -> Compare:
    return lambda plan, step, precision: [check for part in parts for check in part(plan, step, precision)]


STEP_PHASES: dict[str, Compare] = {
    "forward": step.forward_checks,
    "loss": loss.loss_checks,
    "gradient": _each(step.gradient_checks, use_checks),
    "update": _each(step.update_checks, tie_checks),
    "state": step.state_checks,
}
"""The phases of a step, in the order of its dataflow."""
