"""Parameters of which no gradient was compared: is there a step that reaches them, and have they an effect?"""

from __future__ import annotations

from collections.abc import Iterator

from ..frameworks.protocol import Runner
from ..matching import MatchPlan
from ..pairs.batches import batches_of
from ..pairs.pair import Batch
from ..records.result import Verdict
from ..records.sides import SideName
from ..stepping.effect import effects, idle
from ..stepping.lockstep import StepPair, reference_steps, resynced
from .checks.unused import excused, idle_excused, unproven, unreached, without_gradient
from .findings import Findings


def further_step(
    findings: Findings, plan: MatchPlan, reference: Runner | None, follower: Runner, untouched: set[str]
) -> Iterator[StepPair]:
    """A second step after a run of one, if gradients were zero in it: behind a layer that starts at zero they are.

    Args:
        findings: of the run so far, read when the first step has been compared.
        plan: of the run.
        reference: as the first step left it; None for a recording, which has no further step.
        follower: the other side.
        untouched: names of what had a zero gradient in every step so far.
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
    """Judge by effect what no gradient was compared of; a recording cannot be asked, and leaves it open.

    Args:
        findings: whose checks are judged anew.
        plan: of the run.
        untouched: names of what had a zero gradient in every step.
        number, batch: of the last step.
        reference, follower: the sides.
    """
    open_ = unproven(plan, findings.checks, untouched)
    found: dict[str, str] = {}
    if reference is not None:
        runners: dict[SideName, Runner] = {plan.reference: reference, plan.follower: follower}
        found = effects(runners, plan, number, batch, list(open_.values())) if open_ else {}
        spare = {path for runner in runners.values() for path in idle(runner, plan, number, batch)}
        findings.checks = idle_excused(findings.checks, spare)
        findings.count_unused("unused", len(spare))
        findings.coverage["parameters"]["unmatched"] -= len(spare)
    findings.unused = without_gradient(plan, findings.checks, found)
    for word in findings.unused.values():
        findings.count_unused(word, 1)
    findings.checks = unreached(plan, excused(findings.checks, findings.unused), open_, found)
