"""Parameters without a compared gradient: does a further step reach them, and do they have an effect?"""

from __future__ import annotations

from collections.abc import Iterator

from ..frameworks.protocol import Runner
from ..matching import MatchPlan
from ..pairs.batches import batches_of
from ..pairs.pair import Batch
from ..records.result import Verdict
from ..records.sides import SideName
from ..stepping.dependence import effects, idle
from ..stepping.lockstep import StepPair, reference_steps, resynced
from .checks.unused import excused, idle_excused, unproven, unreached, without_gradient
from .findings import Findings


def further_step(
    findings: Findings, plan: MatchPlan, reference: Runner | None, follower: Runner, untouched: set[str]
) -> Iterator[StepPair]:
    """A second step after a run of one step with zero gradients, such as those behind a layer that starts at zero.

    Args:
        findings: of the run so far, read after the comparison of the first step.
        plan: of the run.
        reference: in the state after the first step; None for a recording, which has no further step.
        follower: the other side.
        untouched: names of parameters with a zero gradient in every step so far.
    """
    differs = any(c.verdict is Verdict.DIFFERENT for c in findings.checks)
    if reference is None or findings.steps != 1 or not untouched or differs or "gradient" not in findings.phases:
        return
    batches = list(batches_of(findings.pair, findings.seed, 2, fewer=True))[1:]
    if batches:
        findings.notes.append("a second step was made for parameters whose gradient is zero in the first")
    steps = reference_steps(reference, batches, precision="float64", seed=findings.seed, first=2)
    yield from resynced(steps, follower, plan, seed=findings.seed, by_effect=findings.by_effect)


def judge_unused(
    findings: Findings,
    plan: MatchPlan,
    untouched: set[str],
    number: int,
    batch: Batch,
    reference: Runner | None,
    follower: Runner,
) -> None:
    """Judge parameters without a compared gradient by effect; with a recording they stay undecided.

    Args:
        findings: of the run; its checks are judged again.
        plan: of the run.
        untouched: names of parameters with a zero gradient in every step.
        number, batch: of the last step.
        reference, follower: the sides.
    """
    candidates = unproven(plan, findings.checks, untouched)
    shown_effects: dict[str, str] = {}
    if reference is not None:
        runners: dict[SideName, Runner] = {plan.reference: reference, plan.follower: follower}
        shown_effects = effects(runners, plan, number, batch, list(candidates.values())) if candidates else {}
        idle_paths = {path for runner in runners.values() for path in idle(runner, plan, number, batch)}
        findings.checks = idle_excused(findings.checks, idle_paths)
        findings.count_unused("unused", len(idle_paths))
        findings.coverage["parameters"]["unmatched"] -= len(idle_paths)
    findings.unused = without_gradient(plan, findings.checks, shown_effects)
    for status in findings.unused.values():
        findings.count_unused(status, 1)
    findings.checks = unreached(plan, excused(findings.checks, findings.unused), candidates, shown_effects)
