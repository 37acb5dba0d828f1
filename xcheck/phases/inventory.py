"""The inventory phase: what exists on both sides, which parameter is which, and what is tied."""

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

NO_STEP = "no step was run: with parameters unmatched the sides cannot start from one state"


def match_sides(findings: Findings, reference: Reference, follower: Runner) -> MatchPlan:
    """Match the parameters of two open sides and compare their ties, whatever phases were asked for."""
    pair = findings.pair
    with findings.timed("match"):
        plan = plan_of(pair, findings.seed, reference.inventory, follower, reference.runner)
    findings.inventories = {pair.reference: reference.inventory, follower.side: probed(follower)}
    findings.holdings = {pair.reference: reference.holdings, follower.side: follower.holdings()}
    findings.matched(plan)
    findings.ties = ties(plan, findings.inventories["torch"], findings.inventories["keras"], follower.read())
    return plan


def compare_inventories(live: Live) -> None:
    """What one side has and the other lacks, and whether the ties are those that the pair promises."""
    findings, plan = live.findings, live.plan
    inventories: Mapping[SideName, Inventory] = findings.inventories
    holdings: Mapping[SideName, Holdings | None] = findings.holdings
    torch, keras = inventories["torch"], inventories["keras"]
    findings.checks += inventory_checks(plan, torch, keras, findings.ties, findings.pair.ties)
    findings.checks += holding_checks(plan, torch, keras, holdings)


def unmatched(findings: Findings, plan: MatchPlan) -> list[Check]:
    """What keeps a run without the inventory phase from being judged: open or doubtful matches."""
    lacking = plan.unmatched_torch or plan.unmatched_keras
    if not (lacking or plan.doubts) or "inventory" in findings.phases:
        return []
    why = NO_STEP if plan.needed else ""
    detail = why or ("a parameter has no counterpart" if lacking else plan.doubts[0].detail)
    name = "unmatched parameters" if lacking else "matches"
    return [Check("inventory", None, None, name, None, None, Verdict.INCONCLUSIVE, detail=detail)]
