"""The initialization phase: each side's initial weights against the distributions that its initializers promise."""

from __future__ import annotations

from collections.abc import Mapping

from ..numerics.distributions import Distribution
from ..records.sides import SideName
from ..records.trace import State
from .checks.initialization import initialization_checks, transferred
from .findings import Findings
from .phase import Live


def compare_initial_weights(live: Live) -> None:
    """Each side by itself, except for weights that were copied from one side to the other."""
    findings, plan, reference, follower = live.findings, live.plan, live.reference, live.follower
    copied = transferred(plan, reference.initial, follower.read())
    count = sum(path in copied for path in reference.initial.parameters)
    if count:
        start = f"{count} parameters start from the same numbers on both sides"
        findings.notes.append(f"{start}: the weights were copied, so initializers are not compared")
    _add_checks(findings, plan.reference, reference.initial, reference.promises, copied)
    _add_checks(findings, plan.follower, follower.read(), follower.promises(), copied)


def _add_checks(
    findings: Findings, side: SideName, initial: State, promises: Mapping[str, Distribution], copied: frozenset[str]
) -> None:
    drawn = {path: promise for path, promise in promises.items() if path not in copied}
    findings.checks += initialization_checks(side, initial.values(), drawn)
