"""The initialization phase: each side's weights as built, against the distributions that its initializers promise."""

from __future__ import annotations

from collections.abc import Mapping

from ..numerics.distributions import Distribution
from ..records.sides import SideName
from ..records.trace import State
from .checks.initialization import initialization_checks, transferred
from .findings import Findings
from .phase import Live


def compare_initial_weights(live: Live) -> None:
    """Each side by itself, apart from weights that were carried over from one to the other."""
    findings, plan, reference, follower = live.findings, live.plan, live.reference, live.follower
    carried = transferred(plan, reference.initial, follower.read())
    same = sum(path in carried for path in reference.initial.parameters)
    if same:
        start = f"{same} parameters start from the same numbers on both sides"
        findings.notes.append(f"{start}: they were carried over, and no initializer was asked of them")
    _promised(findings, plan.reference, reference.initial, reference.promises, carried)
    _promised(findings, plan.follower, follower.read(), follower.promises(), carried)


def _promised(
    findings: Findings, side: SideName, initial: State, promises: Mapping[str, Distribution], carried: frozenset[str]
) -> None:
    drawn = {path: promise for path, promise in promises.items() if path not in carried}
    findings.checks += initialization_checks(side, initial.values(), drawn)
