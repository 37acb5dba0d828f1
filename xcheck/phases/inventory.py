"""The inventory phase: the parameters and buffers of both sides, their matches and their ties."""

from __future__ import annotations

from collections.abc import Mapping

from ..frameworks.protocol import Runner
from ..matching import MatchPlan
from ..records.inventory import Holdings, Inventory
from ..records.result import Check, Verdict
from ..records.sides import SideName
from ..stepping.reference import Reference
from .checks.setup import inventory_checks
from .findings import Findings
from .match import plan_of
from .phase import Live
from .ties.checks import holding_checks
from .ties.groups import ties
from .ties.storage import probed

NO_STEP = "no step was run: with unmatched parameters the sides cannot start from the same state"


def match_sides(findings: Findings, reference: Reference, follower: Runner) -> MatchPlan:
    """Match the parameters of two open sides and compare their ties, whichever phases were requested."""
    pair = findings.pair
    with findings.timed("match"):
        plan = plan_of(pair, findings.seed, reference.inventory, follower, reference.runner)
    findings.inventories = {pair.reference: reference.inventory, follower.side: probed(follower)}
    findings.holdings = {pair.reference: reference.holdings, follower.side: follower.holdings()}
    findings.matched(plan)
    findings.ties = ties(plan, findings.inventories["torch"], findings.inventories["keras"], follower.read())
    return plan


def compare_inventories(live: Live) -> None:
    """Check for parameters that one side lacks, and for ties that differ from those that the pair promises."""
    findings, plan = live.findings, live.plan
    inventories: Mapping[SideName, Inventory] = findings.inventories
    holdings: Mapping[SideName, Holdings | None] = findings.holdings
    torch, keras = inventories["torch"], inventories["keras"]
    findings.checks += inventory_checks(plan, torch, keras, findings.ties, findings.pair.ties)
    findings.checks += holding_checks(plan, torch, keras, holdings)


def unmatched(findings: Findings, plan: MatchPlan) -> list[Check]:
    """Checks of open or doubtful matches, which keep a run without the inventory phase from being judged."""
    missing = plan.unmatched_torch or plan.unmatched_keras
    if not (missing or plan.doubts) or "inventory" in findings.phases:
        return []
    reason = NO_STEP if plan.needed else ""
    detail = reason or ("a parameter has no counterpart" if missing else plan.doubts[0].detail)
    name = "unmatched parameters" if missing else "matches"
    return [Check("inventory", None, None, name, None, None, Verdict.INCONCLUSIVE, detail=detail)]
