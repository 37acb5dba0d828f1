"""Why two sides are not built alike: asked once a phase that looks at them before any step has been judged."""

from __future__ import annotations

from ...phases.checks.initialization import transferred
from ...phases.phase import Live
from ...records.sides import SideName
from ...records.trace import State
from ..setup.frozen import frozen_causes
from ..setup.initializers import copied_alike, same_random_stream
from ..setup.ties import holding_causes, parted_causes, tie_causes
from ..setup.unmatched_sizes import size_causes


def explain_setup(live: Live, phase: str) -> None:
    """Look for causes in how the sides are built, once the phase that asks for it has been judged."""
    findings, plan, reference, follower = live.findings, live.plan, live.reference, live.follower
    built: dict[SideName, State] = {plan.reference: reference.initial, plan.follower: follower.read()}
    if phase == "inventory":
        findings.causes += tie_causes(plan, findings.ties) + frozen_causes(plan)
        findings.causes += holding_causes(findings.inventories, findings.holdings)
        findings.causes += parted_causes(plan, findings.inventories, built)
        findings.causes += size_causes(plan, findings.inventories)
    if phase == "initialization":
        copied = copied_alike(plan, {side: state.parameters for side, state in built.items()})
        for side, state in built.items():
            again = {path for group in state.ties for path in group[1:]}  # of one storage, whatever the objects over it
            drawn = {path: value for path, value in state.parameters.items() if path not in again}
            carried = transferred(plan, reference.initial, follower.read()) | copied
            drawn = {path: value for path, value in drawn.items() if path not in carried}
            promises = reference.promises if side == plan.reference else follower.promises()
            findings.causes += same_random_stream(side, drawn, promises if side == "keras" else None)
