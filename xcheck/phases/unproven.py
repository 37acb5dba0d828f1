"""Verdicts under a match that is not proven: a wrong guess of the matching is not a difference of the port."""

from __future__ import annotations

from dataclasses import replace

from ..matching import MatchPlan
from ..records.result import Cause, Check, Verdict
from .findings import Findings

COMPUTED = ("forward", "loss", "gradient", "update", "state")
"""Phases in which a wrong match looks like a difference."""

MOST_NAMED = 3
"""Largest number of map lines that a message suggests."""


def judge_by_match(findings: Findings, plan: MatchPlan) -> None:
    """Judge the checks and causes of a run by the evidence for its match plan.

    Args:
        findings: of all steps in float64.
        plan: of the run.
    """
    findings.causes = _of_what_is_matched(findings, plan)
    if plan.mapped or plan.proven:
        return
    if plan.open:
        findings.causes = [
            replace(c, confirmed=False) if c.phase in ("forward", "gradient") and _is_open(plan, c.torch) else c
            for c in findings.causes
        ]
    different = [c for c in findings.checks if c.phase in COMPUTED and c.verdict is Verdict.DIFFERENT]
    if different and blamed(plan):
        detail = (
            f"this may be caused by a wrong match: only {plan.tried} of the other possible matches were tried; "
            f"{_suggested_map(plan)}"
        )
        findings.checks = [
            replace(c, verdict=Verdict.INCONCLUSIVE, detail=detail) if any(c is d for d in different) else c
            for c in findings.checks
        ]
    elif different and plan.tried:
        findings.notes.append(f"no other possible match makes the sides agree: {plan.tried} tried")
    elif plan.proven is False and findings.passes():
        detail = (
            f"not proven: with other weights and on other inputs {plan.unproven}; either a match is wrong, or the "
            "models differ for other weights or inputs"
        )
        findings.checks.append(Check("inventory", None, None, "match", None, None, Verdict.INCONCLUSIVE, detail=detail))


def blamed(plan: MatchPlan) -> bool:
    """Whether a difference may be the matching's: something is open, and not all that it could be was tried."""
    return bool(plan.open) and not plan.exhausted


def settling(plan: MatchPlan) -> list[str]:
    """Names on the PyTorch side of what a map should say, the most telling first."""
    guessed = [m for m in plan.parameters if m.evidence]
    doubted = [m.name("torch") for m in guessed if any(doubt.about(m.torch) for doubt in plan.doubts)]
    return list(dict.fromkeys([*doubted, *(m.name("torch") for m in guessed if m.name("torch") in plan.open)]))


def _of_what_is_matched(findings: Findings, plan: MatchPlan) -> list[Cause]:
    """The causes; none is confirmed where a parameter without a counterpart has been trained, and then made one up.

    Before it is trained it may have just the value that the other side has in its place.
    """
    first = min(
        (c.step for c in findings.checks if c.phase in COMPUTED and c.verdict is Verdict.DIFFERENT and c.step),
        default=1,
    )
    if first == 1:
        return findings.causes
    found: list[Cause] = []
    for cause in findings.causes:
        places = (cause.torch, plan.unmatched_torch, "."), (cause.keras, plan.unmatched_keras, "/")
        alone = [
            p
            for place, paths, joint in places
            for p in paths
            if place and p.startswith(f"{place.partition(':')[0]}{joint}")
        ]
        if cause.phase == "forward" and alone:
            told = f"{cause.summary}; {', '.join(alone)} has no counterpart, and step {first - 1} has changed it"
            cause = replace(cause, summary=told, confirmed=False, fix=f"add {', '.join(alone)} to the other side")
        found.append(cause)
    return found


def _is_open(plan: MatchPlan, place: str | None) -> bool:
    """Whether a place of the PyTorch side has, or may have, parameters whose match is open.

    What has none rests on its inputs, which agree where a cause is confirmed: it is not open once all that these could
    rest on was tried.
    """
    module, function, _ = (place or "").partition(":")
    names = [m.name("torch") for m in plan.parameters if m.name("torch").startswith(f"{module}.")]
    if function or not names:
        return not plan.exhausted
    return any(name in plan.open for name in names)


def _suggested_map(plan: MatchPlan) -> str:
    wanted = settling(plan)[:MOST_NAMED]
    open_matches = [m for name in wanted for m in plan.parameters if m.name("torch") == name]
    entries = ", ".join(f'"{m.name("torch")}": ("{m.name("keras")}", "{m.layout.name}")' for m in open_matches)
    return f"weight_map={{{entries}}}, corrected where wrong, decides it"
