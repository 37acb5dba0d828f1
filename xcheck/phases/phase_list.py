"""The phases of a check, in the order in which data flows through them; `PHASES` is the list."""

from __future__ import annotations

from ..matching import MatchPlan
from ..records.result import Check
from ..stepping.lockstep import StepPair
from .checks import step
from .checks.loss import loss_checks
from .checks.update import update_checks
from .checks.uses import use_checks
from .export import compare_exports
from .findings import Findings
from .initialization import compare_initial_weights
from .inventory import compare_inventories
from .modes import compare_modes
from .persistence import compare_reloaded
from .phase import Compare, Phase
from .sync import compare_synced
from .ties.checks import tie_checks
from .trajectory import free_run


def _each(*comparisons: Compare) -> Compare:
    def compare(plan: MatchPlan, pair: StepPair, precision: str) -> list[Check]:
        return [check for compare_part in comparisons for check in compare_part(plan, pair, precision)]

    return compare


PHASES: tuple[Phase, ...] = (
    Phase(
        "inventory",
        "Do both sides have the same parameters, buffers and ties?",
        "matching: seconds without a weight map, nothing with one",
        start=compare_inventories,
    ),
    Phase(
        "initialization",
        "Do the weights of each side start from the distribution that its initializers promise?",
        "nothing",
        start=compare_initial_weights,
    ),
    Phase("sync", "Does the reference's state arrive in the other side?", "nothing", start=compare_synced),
    Phase(
        "forward",
        "Do both models compute the same outputs, in training and at inference?",
        "the steps",
        needs=("inventory", "sync"),
        compare=step.forward_checks,
    ),
    Phase(
        "loss",
        "Is every loss term and penalty the same?",
        "the steps",
        needs=("inventory", "sync", "forward"),
        compare=loss_checks,
    ),
    Phase(
        "gradient",
        "Is every gradient the same, whole and by use of a shared weight?",
        "the steps",
        needs=("inventory", "sync", "forward", "loss"),
        compare=_each(step.gradient_checks, use_checks),
    ),
    Phase(
        "update",
        "Does the optimizer change every weight and slot in the same way?",
        "the steps",
        needs=("inventory", "sync", "forward", "loss", "gradient"),
        compare=_each(update_checks, tie_checks),
    ),
    Phase(
        "state",
        "Are the buffers the same, such as the running statistics of a batch normalization?",
        "the steps",
        needs=("inventory", "sync", "forward"),
        compare=step.state_checks,
    ),
    Phase(
        "trajectory",
        "Do both sides stay together over many steps that are never re-synced?",
        "20 steps of five sides",
        only_if_equal=True,
        run=free_run,
    ),
    Phase(
        "modes",
        "Does each side compute the same when it is compiled or run as users ship it?",
        "compiling both sides",
        on_request=True,
        only_if_equal=True,
        run=compare_modes,
    ),
    Phase(
        "persistence",
        "Is each side the same after it was saved, loaded and trained on?",
        "several builds of both sides",
        on_request=True,
        run=compare_reloaded,
    ),
    Phase(
        "export",
        "Does every ONNX file compute what its model does, and keep its ties?",
        "several exports of both sides",
        on_request=True,
        run=compare_exports,
    ),
)
"""Every phase, in order. `--phases`, `xcheck list --phases`, the schema of a result and the pages follow this list."""

AVAILABLE = tuple(phase.name for phase in PHASES)
ON_REQUEST = tuple(phase.name for phase in PHASES if phase.on_request)
NEEDS = {phase.name: phase.needs for phase in PHASES}
STEP_PHASES = {phase.name: phase.compare for phase in PHASES if phase.compare is not None}


def chosen(findings: Findings) -> list[Phase]:
    """The requested phases of a run, in order."""
    return [phase for phase in PHASES if phase.name in findings.phases]
